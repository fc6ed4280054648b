"""What an adapter keeps of a run: one suite for every log, and what only a store can promise."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from elf_sdk.errors import Conflict
from elf_sdk.runs.adapter import RunContext
from elf_sdk.runs.durable import DurableLog
from elf_sdk.runs.engine import Engine
from elf_sdk.runs.events import Cancelled, Event, Finished, InputRequired, TextDelta
from elf_sdk.runs.log import RunLog
from elf_sdk.runs.upkeep import Upkeep
from elf_sdk.store import Store, store_at
from tests.runs.conftest import MakeEngine
from tests.runs.support import ADA, ask, ended, follow, running, team


async def rows(store: Store) -> int:
    """How many entries there are, of whatever run."""
    found = await store.read(lambda connection: connection.execute("SELECT COUNT(*) FROM checkpoints").fetchone())
    return int(found[0])


@pytest.fixture
async def log(store: Store) -> AsyncGenerator[DurableLog, None]:
    log = DurableLog(store)
    await log.open()
    yield log
    await log.close()


async def test_what_was_saved_is_loaded_by_prefix_in_the_keys_order(run_log: RunLog) -> None:
    run, _ = await run_log.create("r1", ask(), None)
    other, _ = await run_log.create("r2", ask(context="c2"), None)
    checkpoints = run_log.checkpoints(run)
    assert await checkpoints.load() == {}
    await checkpoints.save({"b/1": b"\x00\xff", "a_": b"", "a%": b"x", "Ü": "ü".encode()})
    await checkpoints.save({"b/2": b"2", "a%": b"y"})
    await checkpoints.save({})
    await run_log.checkpoints(other).save({"b/1": b"another's"})
    assert list((await checkpoints.load()).items()) == [
        ("a%", b"y"),
        ("a_", b""),
        ("b/1", b"\x00\xff"),
        ("b/2", b"2"),
        ("Ü", "ü".encode()),
    ]
    assert await checkpoints.load("b/") == {"b/1": b"\x00\xff", "b/2": b"2"}
    assert await checkpoints.load("a_") == {"a_": b""}
    assert await checkpoints.load("c") == {}
    await checkpoints.save({"a%": None, "b/1": None, "none": None, "b/2": b"3"})
    assert await checkpoints.load() == {"a_": b"", "b/2": b"3", "Ü": "ü".encode()}
    assert await run_log.checkpoints(other).load() == {"b/1": b"another's"}
    # The log gives the same again, not a new beginning.
    assert await run_log.checkpoints(run).load("b/2") == {"b/2": b"3"}


async def test_many_and_large_entries_at_once(run_log: RunLog) -> None:
    run, _ = await run_log.create("r1", ask(), None)
    checkpoints = run_log.checkpoints(run)
    dice = random.Random(5)  # noqa: S311 - a repeatable choice
    entries = {f"{number:03}": dice.randbytes(1000) for number in range(250)} | {"large": dice.randbytes(3_000_000)}
    await checkpoints.save(entries)
    assert await checkpoints.load() == entries


async def test_a_run_finds_after_an_answer_what_it_kept_before(make_engine: MakeEngine) -> None:
    async def script(ctx: RunContext) -> AsyncGenerator[Event, None]:
        if "q" not in ctx.answers:
            await ctx.checkpoints.save({"state": b"kept"})
            yield InputRequired("q", "Which?")
            return
        yield TextDelta((await ctx.checkpoints.load())["state"].decode())

    engine: Engine = await make_engine(script)
    run = await engine.start(ask())
    await engine.settled(run.id, ADA)
    await engine.answer(run.id, ADA, "q", "this")
    assert TextDelta("kept") in [logged.event for logged in await follow(engine, run.id)]
    # Of no use any more, and gone.
    assert await engine.log.checkpoints(run).load() == {}


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_another_process_finds_them(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("database") if kind == "postgres" else ""
    for attempt in (1, 2):
        store = store_at(tmp_path / "elf.db", url)
        await store.open()
        log = DurableLog(store)
        await log.open()
        if attempt == 1:
            run, _ = await log.create("r1", ask(), None, begin=True)
            await log.checkpoints(run).save({"state": b"kept"})
        else:
            (run,) = await log.claim("test-team", 1)
            assert await log.checkpoints(run).load() == {"state": b"kept"}
            await log.append("r1", [Finished()])
            assert await rows(store) == 0
        await log.close()
        await store.close()


async def test_only_the_holder_saves(store: Store, log: DurableLog) -> None:
    run, _ = await log.create("r1", ask(), None, begin=True)
    early = log.checkpoints(run)
    await early.save({"state": b"first"})
    await log.release(run)
    with pytest.raises(Conflict, match="not held by this process any more"):
        await early.save({"state": b"nobody's", "more": b""})
    other = DurableLog(store)
    await other.open()
    (again,) = await other.claim("test-team", 1)
    late = other.checkpoints(again)
    await late.save({"state": b"second"})
    # Held again, but not in that epoch; and saved together with one that is good.
    fenced, kept = await asyncio.gather(
        early.save({"state": b"stale"}), late.save({"other": b"good"}), return_exceptions=True
    )
    assert isinstance(fenced, Conflict)
    assert kept is None
    assert await late.load() == {"other": b"good", "state": b"second"}
    await other.append("r1", [Finished()])
    with pytest.raises(Conflict):
        await late.save({"state": b"after the end"})
    assert await rows(store) == 0
    await other.close()


async def test_they_go_with_every_end(store: Store, log: DurableLog) -> None:
    for end in ("finished", "cancelled while it waits", "taken over"):
        run, _ = await log.create(end, ask(context=end), None, begin=True)
        await log.checkpoints(run).save({"state": b"kept"})
    bystander, _ = await log.create("other", ask(context="other"), None, begin=True)
    await log.checkpoints(bystander).save({"state": b"kept"})
    await log.append("finished", [TextDelta("done"), Finished()])
    await log.append("cancelled while it waits", [InputRequired("q", "Which?")], park=True)
    parked = await log.get("cancelled while it waits")
    assert parked is not None
    await log.take(parked, Cancelled())
    await log.release(run)
    other = DurableLog(store)
    await other.open()
    (again,) = await other.claim("test-team", 1)
    # It has saved nothing itself.
    await other.append(again.id, [Cancelled()])
    await other.close()
    assert await rows(store) == 1
    assert await log.checkpoints(bystander).load() == {"state": b"kept"}


async def test_retention_takes_those_of_a_run_that_nobody_answered(store: Store, log: DurableLog) -> None:
    run, _ = await log.create("r1", ask(), None, begin=True)
    await log.checkpoints(run).save({"state": b"kept"})
    await log.append("r1", [InputRequired("q", "Which?")], park=True)
    await store.write(lambda connection: connection.execute("UPDATE runs SET changed_at = 0"))
    upkeep = Upkeep(team(retention="1h"), log, store)
    await upkeep.tend()
    assert await rows(store) == 0
    found = await log.get("r1")
    assert found is not None
    assert found.state == "cancelled"


async def test_a_deleted_run_takes_them_with_it(store: Store, log: DurableLog) -> None:
    run, _ = await log.create("r1", ask(), None, begin=True)
    await log.checkpoints(run).save({"state": b"kept"})
    await store.write(lambda connection: connection.execute("DELETE FROM runs WHERE id = 'r1'"))
    assert await rows(store) == 0


async def test_saves_of_many_runs_at_once(store: Store) -> None:
    async def script(ctx: RunContext) -> AsyncGenerator[Event, None]:
        for number in range(20):
            await ctx.checkpoints.save({f"{number:02}": ctx.run_id.encode(), "last": b"%d" % number})
        found = await ctx.checkpoints.load()
        mine = all(value == ctx.run_id.encode() for key, value in found.items() if key != "last")
        yield TextDelta(f"{len(found)} {mine} {found['last'].decode()}")

    async with running(store, script, concurrency=50) as engine:
        runs = await asyncio.gather(*(engine.start(ask(context=f"c{number}")) for number in range(50)))
        for run in runs:
            assert await ended(engine, run.id) == Finished()
            assert TextDelta("21 True 19") in [logged.event for logged in await engine.events(run.id, ADA)]
    assert await rows(store) == 0
