"""What a process does whose lease is no good any more: in its watchdog's thread, and once the loop goes on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import psycopg
import pytest

from elf_sdk.runs import lease as lease_module
from elf_sdk.runs.adapter import RunContext
from elf_sdk.runs.durable import DurableLog
from elf_sdk.runs.engine import Engine
from elf_sdk.runs.events import Event, Failed, Finished, TextDelta
from elf_sdk.runs.worker import Isolated, Origin
from elf_sdk.store import store_at
from tests.runs.blocking_team import BLOCKING
from tests.runs.processes import alive, asked, began, said
from tests.runs.support import ENDPOINT, Scripted, ask, ended, team


@pytest.fixture
async def log(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[DurableLog, None]:
    """A log whose process gives its work up soon."""
    monkeypatch.setattr(lease_module, "_RENEW", 0.2)
    monkeypatch.setattr(lease_module, "_LAST", 1.0)
    monkeypatch.setattr(lease_module, "_LOOK", 0.05)
    store = store_at(tmp_path / "elf.db", database)
    await store.open()
    log = DurableLog(store)
    await log.open()
    yield log
    await log.close()
    await store.close()


async def test_the_watchdog_ends_the_workers_though_the_loop_stands_still(log: DurableLog, tmp_path: Path) -> None:
    adapter = Isolated("function", BLOCKING, Origin.at("tests.runs.blocking_team", "SLEEPS"))
    stop = log.guard(adapter.end_all)
    run = asyncio.create_task(said(adapter, asked(str(tmp_path / "pids"))))
    pids = await began(tmp_path / "pids")
    holder = log.holder
    until = time.monotonic() + 10
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < until
        time.sleep(0.05)  # noqa: ASYNC251 - this is the loop that stands still
    await asyncio.wait({run})
    async with asyncio.timeout(10):
        while log.holder == holder:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
    stop()
    await adapter.close()


async def test_nothing_is_let_go_of_while_a_guard_works(log: DurableLog, database: str) -> None:
    working, done = threading.Event(), threading.Event()

    def guard() -> None:
        working.set()
        done.wait(10)

    log.guard(guard)
    with psycopg.connect(database, autocommit=True) as other:
        holder = log.holder
        other.execute("DELETE FROM leases")  # as another process does that takes it for dead
        assert await asyncio.to_thread(working.wait, 10)
        await asyncio.sleep(0.3)
        assert log.holder == holder
        assert other.execute("SELECT count(*) FROM leases").fetchone() == (0,)
        done.set()
        async with asyncio.timeout(10):
            while log.holder == holder:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)


async def test_a_lease_that_was_renewed_too_late_is_given_back_at_once(
    log: DurableLog, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = asyncio.Event()
    log.watch(lost.set)
    holder = log.holder
    with psycopg.connect(database) as other:
        other.execute("SELECT * FROM leases FOR UPDATE")
        async with asyncio.timeout(10):
            await lost.wait()
        # The renewal that is under way is the last for long.
        monkeypatch.setattr(lease_module, "_RENEW", 60.0)
        other.rollback()
        async with asyncio.timeout(10):
            while log.holder == holder:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)


async def test_a_run_whose_worker_the_watchdog_ends_is_left_to_others_and_not_failed(
    log: DurableLog, database: str, tmp_path: Path
) -> None:
    adapter = Isolated("function", BLOCKING, Origin.at("tests.runs.blocking_team", "SLEEPS"))
    stop = log.guard(adapter.end_all)
    # Another team's workers take longer.
    log.guard(lambda: time.sleep(0.5))
    engine = Engine(team(), adapter, log, ENDPOINT)
    await engine.open()
    lost = asyncio.Event()
    log.watch(lost.set)
    run = await engine.start(ask(str(tmp_path / "pids")))
    pids = await began(tmp_path / "pids")
    with psycopg.connect(database) as other:
        # The lease cannot be renewed, and all else goes on.
        other.execute("SELECT * FROM leases FOR UPDATE")
        async with asyncio.timeout(10):
            await lost.wait()
            while any(alive(pid) for pid in pids):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        other.rollback()
    end = await ended(engine, run.id)
    assert isinstance(end, Failed)
    assert end.message == "the server stopped while this ran; send it again"
    await engine.close()
    stop()
    await adapter.close()


async def test_a_run_begun_while_its_lease_is_given_back_goes_on_at_once(
    log: DurableLog, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    working, done = threading.Event(), threading.Event()

    def guard() -> None:
        working.set()
        done.wait(10)

    log.guard(guard)

    async def second(ctx: RunContext) -> AsyncGenerator[Event, None]:
        if ctx.attempt == 1:
            await asyncio.Event().wait()
        yield TextDelta("at the second attempt")

    engine = Engine(team(), Scripted(second, recover=True), log, ENDPOINT)
    await engine.open()
    holder = log.holder
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'leases'::regclass"
    with psycopg.connect(database) as other, psycopg.connect(database, autocommit=True) as looks:
        looks.execute("DELETE FROM leases")  # as another process does that takes it for dead
        assert await asyncio.to_thread(working.wait, 10)
        # Nothing but a lock keeps the order: the lease is given back, the run begins, and then the next life.
        other.execute("LOCK TABLE leases IN SHARE MODE")
        done.set()
        async with asyncio.timeout(10):
            while looks.execute(waiting).fetchone() == (0,):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        starting = asyncio.create_task(engine.start(ask()))
        await asyncio.sleep(0.1)
        assert log.holder == holder
        other.rollback()
    run = await starting
    async with asyncio.timeout(3):
        assert isinstance(await ended(engine, run.id), Finished)
    # Nobody had to find out that its holder is gone.
    assert "is gone" not in caplog.text
    await engine.close()
