"""Two replicas on one PostgreSQL: any of them streams, answers and cancels, and what one leaves the other takes up."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from elf_sdk.errors import Conflict, Retryable
from elf_sdk.runs import job as job_module
from elf_sdk.runs import lease as lease_module
from elf_sdk.runs.adapter import RunContext
from elf_sdk.runs.durable import DurableLog
from elf_sdk.runs.engine import Engine
from elf_sdk.runs.events import (
    Answered,
    Cancelled,
    Event,
    Failed,
    Finished,
    InputRequired,
    Rewound,
    Started,
    Step,
    TextDelta,
    answer_text,
)
from elf_sdk.runs.log import RunState
from elf_sdk.store.postgres import PostgresStore
from tests.postgres import Server
from tests.runs.support import ADA, ENDPOINT, Script, Scripted, ask, ended, follow, running, team

pytestmark = pytest.mark.timeout(60)
TTL = 2.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the real times, so that the tests need half as long."""
    monkeypatch.setattr(lease_module, "TTL", TTL)
    monkeypatch.setattr(lease_module, "_RENEW", TTL / 4)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(url)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def stores(database: str) -> AsyncIterator[tuple[PostgresStore, PostgresStore]]:
    async with connected(database) as first, connected(database) as second:
        yield first, second


class Doomed:
    """A replica that dies as a killed process does: it lets nothing go and says nothing more."""

    def __init__(self, store: PostgresStore, script: Script, *, recover: bool = False) -> None:
        self.log = DurableLog(store)
        self.engine = Engine(team(), Scripted(script, recover=recover), self.log, ENDPOINT)
        self._store = store

    async def open(self) -> Engine:
        await self.log.open()
        await self.engine.open()
        return self.engine

    async def die(self) -> None:
        self.log.lease._closing.set()
        for task in (self.log.lease._task, self.engine._attending):
            if task is not None:
                task.cancel()
        # Stops what works without another word.
        self.engine._forsake()
        await self._store.close()


async def echo(ctx: RunContext) -> AsyncGenerator[Event, None]:
    yield TextDelta(f"you said {ctx.text}")


async def forever(_: RunContext) -> AsyncGenerator[Event, None]:
    yield TextDelta("working")
    await asyncio.Event().wait()


async def working(engine: Engine, run_id: str) -> None:
    async with asyncio.timeout(10):
        async for logged in engine.subscribe(run_id, ADA):
            if isinstance(logged.event, TextDelta):
                return


async def test_a_stream_is_followed_and_a_run_settled_from_the_other_replica(
    stores: tuple[PostgresStore, PostgresStore],
) -> None:
    async def count(_: RunContext) -> AsyncGenerator[Event, None]:
        for number in range(20):
            yield TextDelta(f"{number} ")
            yield Step("count")
            await asyncio.sleep(0.01)

    async with running(stores[0], count) as here, running(stores[1], count) as there:
        run = await here.start(ask())
        events = await follow(there, run.id)
        assert answer_text(events) == "".join(f"{number} " for number in range(20))
        assert [logged.seq for logged in events] == list(range(1, len(events) + 1))
        assert (await there.settled(run.id, ADA)).state is RunState.FINISHED
        for after in (0, 5, len(events)):
            assert await follow(there, run.id, after) == events[after:]
        assert await follow(here, run.id) == events


async def test_a_cancel_from_the_other_replica_stops_the_work(stores: tuple[PostgresStore, PostgresStore]) -> None:
    closed = asyncio.Event()

    async def closes(_: RunContext) -> AsyncGenerator[Event, None]:
        try:
            yield TextDelta("working")
            await asyncio.Event().wait()
        finally:
            closed.set()

    async with running(stores[0], closes) as here, running(stores[1], closes) as there:
        run = await here.start(ask())
        await working(there, run.id)
        began = time.monotonic()
        assert (await there.cancel(run.id, ADA, "enough")).state is RunState.CANCELLED
        assert closed.is_set()
        # By a notification, and not by the next look.
        assert time.monotonic() - began < 0.9
        assert await ended(here, run.id) == Cancelled("enough")
        # One that waits behind it, here and there.
        first, second = await here.start(ask(context="c2")), await here.start(ask(context="c2"))
        assert (await there.cancel(second.id, ADA)).state is RunState.CANCELLED
        assert (await there.cancel(first.id, ADA)).state is RunState.CANCELLED


async def test_an_answer_at_the_other_replica_goes_on_there(stores: tuple[PostgresStore, PostgresStore]) -> None:
    async def asks(ctx: RunContext) -> AsyncGenerator[Event, None]:
        if ctx.answers:
            yield TextDelta(ctx.answers["q"])
        else:
            yield InputRequired("q", "?")

    async with running(stores[0], asks) as here, running(stores[1], asks) as there:
        run = await here.start(ask())
        await here.settled(run.id, ADA)
        for engine in (here, there):
            assert not engine._jobs
        await asyncio.gather(*(engine.answer(run.id, ADA, "q", "yes") for engine in (here, there) * 5))
        assert await ended(there, run.id) == Finished()
        events = await here.events(run.id, ADA)
        assert [logged.event for logged in events if isinstance(logged.event, Answered)] == [Answered("q", "yes")]
        assert answer_text(events) == "yes"


async def test_one_run_of_a_conversation_works_at_a_time_whatever_replica_has_it(
    stores: tuple[PostgresStore, PostgresStore],
) -> None:
    at_work, most = 0, 0

    async def counts(ctx: RunContext) -> AsyncGenerator[Event, None]:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        yield TextDelta(f"{len(await ctx.history())} before")
        await asyncio.sleep(0.01)
        at_work -= 1

    async with running(stores[0], counts) as here, running(stores[1], counts) as there:
        runs = await asyncio.gather(*(engine.start(ask(str(n))) for n, engine in enumerate((here, there) * 4)))
        texts = [answer_text(await follow(here, run.id)) for run in runs]
        assert most == 1
        assert sorted(texts) == sorted(f"{2 * number} before" for number in range(8))


async def test_a_conversation_is_free_again_whatever_two_replicas_did_in_it_at_once(
    stores: tuple[PostgresStore, PostgresStore],
) -> None:
    dice = random.Random(4)  # noqa: S311 - a repeatable choice

    async def quick(ctx: RunContext) -> AsyncGenerator[Event, None]:
        if ctx.text == "ask" and not ctx.answers:
            yield InputRequired("q", "?")
        else:
            yield TextDelta("x")

    async def once(engine: Engine, other: Engine) -> None:
        try:
            run = await engine.start(ask(dice.choice(["ask", "do", "do"])))
        except Retryable:
            return
        await asyncio.sleep(dice.random() / 50)
        with suppress(Conflict):
            if dice.random() < 0.5:
                await other.cancel(run.id, ADA)
        if (await other.settled(run.id, ADA)).state is RunState.INPUT_REQUIRED:
            with suppress(Conflict):
                await other.answer(run.id, ADA, "q", "yes")

    async with running(stores[0], quick) as here, running(stores[1], quick) as there:
        for _ in range(15):
            await asyncio.gather(*(once(*pair) for pair in ((here, there), (there, here)) * 4))
        async with asyncio.timeout(10):
            last = await here.start(ask("do"))
            assert (await there.settled(last.id, ADA)).state is RunState.FINISHED
        turns = "SELECT COUNT(*) FROM turns"
        assert await stores[0].read(lambda connection: connection.execute(turns).fetchone()) == (0,)


async def test_what_a_dead_replica_held_ends_as_interrupted_within_seconds(
    stores: tuple[PostgresStore, PostgresStore],
) -> None:
    doomed = Doomed(stores[0], forever)
    dying = await doomed.open()
    async with running(stores[1], echo) as alive:
        run = await dying.start(ask())
        waits = await dying.start(ask("next"))
        await working(dying, run.id)
        await asyncio.sleep(TTL)
        await doomed.die()
        began = time.monotonic()
        end = await ended(alive, run.id)
        assert isinstance(end, Failed)
        assert (end.code, end.retryable) == ("interrupted", True)
        assert await ended(alive, waits.id) == Finished()
        assert time.monotonic() - began < 10


async def test_a_run_that_can_recover_goes_on_at_the_other_replica(stores: tuple[PostgresStore, PostgresStore]) -> None:
    async def steps(ctx: RunContext) -> AsyncGenerator[Event, None]:
        done = [logged for logged in ctx.before if isinstance(logged.event, Step)]
        if ctx.attempt == 1:
            yield TextDelta("one ")
            yield Step("one", "end")
            yield TextDelta("lost")
            await asyncio.Event().wait()
        yield Rewound(done[-1].seq)
        yield TextDelta("two")

    doomed = Doomed(stores[0], steps, recover=True)
    dying = await doomed.open()
    async with running(stores[1], steps, recover=True) as alive:
        run = await dying.start(ask())
        async for logged in dying.subscribe(run.id, ADA):
            if logged.event == TextDelta("lost"):
                break
        await asyncio.sleep(TTL)
        await doomed.die()
        assert await ended(alive, run.id) == Finished()
        events = await alive.events(run.id, ADA)
        assert answer_text(events) == "one two"
        assert [logged.event.attempt for logged in events if isinstance(logged.event, Started)] == [1, 2]


async def test_a_replica_that_stood_still_writes_nothing_more(
    stores: tuple[PostgresStore, PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = asyncio.Event()

    async def stubborn(ctx: RunContext) -> AsyncGenerator[Event, None]:
        try:
            yield TextDelta("before")
            await asyncio.sleep(20)
        finally:
            stopped.set()

    async with running(stores[0], stubborn) as paused, running(stores[1], echo) as alive:
        run = await paused.start(ask())
        await working(paused, run.id)
        await asyncio.sleep(TTL)
        # What a pause does: no renewal comes through, while everybody else goes on.
        log = paused.log
        assert isinstance(log, DurableLog)
        with monkeypatch.context() as patch:
            patch.setattr(log.lease, "_renew", lambda: asyncio.sleep(0))
            assert isinstance(await ended(alive, run.id), Failed)
        with pytest.raises(Conflict):
            await log.append(run.id, [TextDelta("late")], epoch=run.epoch)
        # It wakes up, finds that its lease is gone, stops the work, and begins another life.
        async with asyncio.timeout(5):
            await stopped.wait()
        again = await paused.start(ask("again"))
        async with asyncio.timeout(10):
            await working(paused, again.id)
        events = await alive.events(run.id, ADA)
        assert answer_text(events) == "before"


async def test_a_database_that_is_away_for_long_is_no_reason_to_take_over(own_postgres: Server) -> None:
    url = own_postgres.url(own_postgres.database())

    async def patient(ctx: RunContext) -> AsyncGenerator[Event, None]:
        yield TextDelta("before ")
        await asyncio.sleep(TTL * 3)
        yield TextDelta("after")

    async with connected(url) as first, connected(url) as second:
        async with running(first, patient) as here, running(second, patient) as there:
            runs = [await engine.start(ask(context=f"c{n}")) for n, engine in enumerate((here, there) * 5)]
            for run in runs:
                await working(here, run.id)
            await asyncio.to_thread(own_postgres.stop)
            await asyncio.sleep(TTL * 2)
            await asyncio.to_thread(own_postgres.start)
            for run in runs:
                assert await ended(here, run.id) == Finished()
                events = await there.events(run.id, ADA)
                assert answer_text(events) == "before after"
                assert [type(logged.event) for logged in events].count(Started) == 1


async def test_an_outage_longer_than_anybody_waits_stops_the_work_and_then_says_so(
    own_postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "_LAST", 3.0)
    url = own_postgres.url(own_postgres.database())
    stopped = asyncio.Event()

    async def works(ctx: RunContext) -> AsyncGenerator[Event, None]:
        try:
            yield TextDelta("working")
            await asyncio.sleep(30)
        finally:
            stopped.set()

    async with connected(url) as store, running(store, works) as engine:
        run = await engine.start(ask())
        await working(engine, run.id)
        await asyncio.to_thread(own_postgres.stop)
        async with asyncio.timeout(6):
            await stopped.wait()
        await asyncio.to_thread(own_postgres.start)
        async with asyncio.timeout(20):
            end = await ended(engine, run.id)
        assert isinstance(end, Failed)
        assert (end.code, end.retryable) == ("interrupted", True)


async def test_a_replica_that_stops_hands_over_and_loses_nothing(stores: tuple[PostgresStore, PostgresStore]) -> None:
    async def steps(ctx: RunContext) -> AsyncGenerator[Event, None]:
        if ctx.attempt == 1 and ctx.text == "hold":
            yield TextDelta("first")
            await asyncio.Event().wait()
        yield Rewound(0)
        yield TextDelta("done")

    async with running(stores[1], steps, recover=True) as stays:
        async with running(stores[0], steps, recover=True, concurrency=2) as leaves:
            runs = [await leaves.start(ask("hold", context=f"c{number}")) for number in range(2)]
            for run in runs:
                await working(leaves, run.id)
            # These wait for a place, and have not begun.
            runs += [await leaves.start(ask("go", context=f"c{number}")) for number in range(2, 6)]
            await leaves.drain(5)
            # It takes what still comes for the other, and shows what happens there.
            runs.append(await leaves.start(ask("late", context="late")))
            for run in runs:
                assert await ended(leaves, run.id) == Finished()
        for run in runs:
            assert answer_text(await stays.events(run.id, ADA)) == "done"


async def test_work_that_cannot_be_handed_over_is_waited_for(stores: tuple[PostgresStore, PostgresStore]) -> None:
    async def slow(ctx: RunContext) -> AsyncGenerator[Event, None]:
        yield TextDelta("slowly")
        await asyncio.sleep(float(ctx.text))

    async with running(stores[1], echo) as stays, running(stores[0], slow) as leaves:
        short = await leaves.start(ask("0.5", context="c1"))
        long = await leaves.start(ask("60", context="c2"))
        for run in (short, long):
            await working(leaves, run.id)
        await leaves.drain(1.5)
        await leaves.close()
        assert await ended(stays, short.id) == Finished()
        end = await ended(stays, long.id)
        assert isinstance(end, Failed)
        assert (end.code, end.retryable) == ("interrupted", True)


async def test_a_run_that_kills_each_of_its_servers_is_given_up(
    stores: tuple[PostgresStore, PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_module, "_ATTEMPTS", 3)

    async def dies(ctx: RunContext) -> AsyncGenerator[Event, None]:
        yield TextDelta("x")
        await asyncio.Event().wait()

    async with running(stores[0], dies, recover=True) as engine:
        run = await engine.start(ask())
        log = engine.log
        for attempt in range(1, 4):
            async with asyncio.timeout(10):
                while True:
                    events = await engine.events(run.id, ADA)
                    if sum(isinstance(logged.event, Started) for logged in events) == attempt:
                        break
                    await asyncio.sleep(0.02)
            job = engine._jobs[run.id]
            job.stop(job_module.Leave.HAND_OVER)
            await asyncio.wait({job.done})
        end = await ended(engine, run.id)
        assert isinstance(end, Failed)
        assert (end.code, end.retryable) == ("interrupted", False)
        assert log.shared


async def test_the_deadline_goes_on_where_a_run_is_taken_up(stores: tuple[PostgresStore, PostgresStore]) -> None:
    async with running(stores[0], forever, recover=True, deadline="2s") as engine:
        run = await engine.start(ask())
        await working(engine, run.id)
        await asyncio.sleep(1)
        job = engine._jobs[run.id]
        job.stop(job_module.Leave.HAND_OVER)
        began = time.monotonic()
        end = await ended(engine, run.id)
        assert isinstance(end, Failed)
        assert end.code == "deadline"
        assert time.monotonic() - began < 1.9


async def test_a_run_that_was_taken_up_is_never_shown_further_than_its_head_says(
    stores: tuple[PostgresStore, PostgresStore],
) -> None:
    log = DurableLog(stores[0])
    await log.open()
    await log.create("r1", ask(), None)
    await log.append("r1", [Started()])
    held = await log.get("r1")
    assert held is not None
    await log.release(held)
    (claimed,) = await log.claim("test-team", 1)
    assert claimed.head == 1

    async def write() -> None:
        for number in range(400):
            await log.append("r1", [TextDelta(str(number))])

    writing = asyncio.create_task(write())
    while not writing.done():
        events = await log.read("r1")
        run = await log.get("r1")
        assert run is not None
        if events:
            assert events[-1].seq <= run.head
    await writing
    await log.close()
