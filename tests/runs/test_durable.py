"""What only a log on a disk can promise."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from elf_sdk.errors import Conflict
from elf_sdk.runs.adapter import RunContext
from elf_sdk.runs.durable import DurableLog
from elf_sdk.runs.engine import Engine
from elf_sdk.runs.events import Event, Failed, TextDelta
from elf_sdk.runs.log import RunFilter
from elf_sdk.store import store_at
from tests.runs.support import ENDPOINT, Scripted, ask, ended, team

WRITER = """
import asyncio, sys
from pathlib import Path
from elf_sdk.runs.durable import DurableLog
from elf_sdk.runs.events import Started, TextDelta
from elf_sdk.store import store_at
from tests.runs.support import ask

async def main():
    store = store_at(Path(sys.argv[1]), sys.argv[3])
    await store.open()
    log = DurableLog(store)
    await log.open()

    async def write(run_id):
        await log.create(run_id, ask(context=run_id), None)
        await log.append(run_id, [Started()])
        number = 0
        while True:
            number += 1
            (logged,) = await log.append(run_id, [TextDelta(f"{run_id} {number}")])
            print(run_id, logged.seq, number, flush=True)

    await asyncio.gather(*(write(f"{sys.argv[2]}-{number}") for number in range(8)))

asyncio.run(main())
"""


async def nothing(_: RunContext) -> AsyncGenerator[Event, None]:
    yield TextDelta("nothing")


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_a_killed_process_loses_nothing_that_it_acknowledged(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / "elf.db"
    url = request.getfixturevalue("database") if kind == "postgres" else ""
    dice = random.Random(11)  # noqa: S311 - a repeatable choice
    acknowledged: dict[str, dict[int, str]] = {}
    for turn in range(4):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITER, str(path), str(turn), url, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        for _ in range(dice.randrange(50, 400)):
            line = await process.stdout.readline()
            run_id, seq, number = line.decode().split()
            acknowledged.setdefault(run_id, {})[int(seq)] = f"{run_id} {number}"
        process.send_signal(signal.SIGKILL)
        for whole in (await process.stdout.read()).decode().splitlines(keepends=True):
            if whole.endswith("\n"):
                run_id, seq, number = whole.split()
                acknowledged.setdefault(run_id, {})[int(seq)] = f"{run_id} {number}"
        await process.wait()

    store = store_at(path, url)
    await store.open()
    run_log = DurableLog(store)
    await run_log.open()
    assert len(acknowledged) == 32
    for run_id, seen in acknowledged.items():
        events = [logged for start in (0, 1000, 2000) for logged in await run_log.read(run_id, start)]
        assert [logged.seq for logged in events] == list(range(1, len(events) + 1))
        for place, text in seen.items():
            assert events[place - 1].event == TextDelta(text)
    engine = Engine(team(), Scripted(nothing), run_log, ENDPOINT)
    await engine.open()
    for run in await run_log.list(RunFilter("test-team")):
        end = await ended(engine, run.id)
        assert isinstance(end, Failed)
        assert end.code == "interrupted"
    await engine.close()
    await run_log.close()
    await store.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_what_waits_shares_a_commit_and_who_fails_fails_alone(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    store = store_at(tmp_path / "elf.db", request.getfixturevalue("database") if kind == "postgres" else "")
    await store.open()
    run_log = DurableLog(store)
    await asyncio.gather(*(run_log.create(f"r{number}", ask(context=f"c{number}"), None) for number in range(50)))
    statements: list[str] = []

    def trace(connection: Any) -> None:
        connection._raw.set_trace_callback(statements.append)

    if kind == "sqlite":
        await store.write(trace)
        statements.clear()
    outcomes = await asyncio.gather(
        *(run_log.append(f"r{number}", [TextDelta("x")], epoch=5 if number == 7 else 1) for number in range(50)),
        return_exceptions=True,
    )
    assert isinstance(outcomes.pop(7), Conflict)
    assert not any(isinstance(outcome, BaseException) for outcome in outcomes)
    commits = statements.count("COMMIT")
    if kind == "postgres":
        count = "SELECT COUNT(DISTINCT xmin::text) FROM events"
        (commits,) = await store.read(lambda connection: connection.execute(count).fetchone())
    assert 1 <= commits <= 10
    events = await store.read(lambda connection: connection.execute("SELECT COUNT(*) FROM events").fetchone())
    assert events == (49,)
    await store.close()


FULL = """
import asyncio, resource, sys
from pathlib import Path
from elf_sdk.errors import Retryable
from elf_sdk.runs.durable import DurableLog
from elf_sdk.runs.events import TextDelta
from elf_sdk.store.sqlite import SQLiteStore
from tests.runs.support import ask

async def main():
    store = SQLiteStore(Path(sys.argv[1]))
    await store.open()
    log = DurableLog(store)
    await log.create("r1", ask(), None)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, hard))
    stored, refused = 0, 0
    while refused < 3:
        outcomes = await asyncio.gather(
            *(log.append("r1", [TextDelta("x" * 10_000)]) for _ in range(5)), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, Retryable):
                refused += 1
                print(outcome)
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                stored += 1
    assert len(await log.read("r1")) == stored
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    (logged,) = await log.append("r1", [TextDelta("again")])
    assert logged.seq == stored + 1, (logged.seq, stored)
    await store.close()
    await store.open()
    assert len(await log.read("r1")) == stored + 1
    await store.close()
    print("recovered")

asyncio.run(main())
"""


async def test_a_full_disk_is_said_and_survived(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-c",
        FULL,
        str(tmp_path / "elf.db"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ},
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    first, *_, last = out.decode().splitlines()
    assert "elf.db could not be" in first
    assert "disk is full" in first
    assert last == "recovered"
