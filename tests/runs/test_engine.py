"""One suite for the engine on every run log."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

import pytest

from elf_sdk.errors import BadInput, Conflict, NotFound, Retryable
from elf_sdk.runs import job as job_module
from elf_sdk.runs.adapter import RunContext, TurnMessage
from elf_sdk.runs.durable import DurableLog
from elf_sdk.runs.engine import Engine
from elf_sdk.runs.events import (
    MAX_EVENT_BYTES,
    Answered,
    Cancelled,
    Event,
    Failed,
    Finished,
    InputRequired,
    LoggedEvent,
    Started,
    TextDelta,
    ToolResult,
    answer_text,
)
from elf_sdk.runs.history import earlier_messages
from elf_sdk.runs.log import IdempotencyKey, RunLog, RunRequest, RunState
from elf_sdk.runs.memory import MemoryLog
from elf_sdk.store import Store
from tests.runs.conftest import MakeEngine
from tests.runs.support import ADA, BOB, ENDPOINT, Scripted, ask, ended, follow, running, team

pytestmark = pytest.mark.timeout(30)
KEY = IdempotencyKey("a2a", "message/send", "m1")


async def echo(ctx: RunContext) -> AsyncGenerator[Event, None]:
    yield TextDelta("you said ")
    await asyncio.sleep(0)
    yield TextDelta(ctx.text)


async def forever(_: RunContext) -> AsyncGenerator[Event, None]:
    yield TextDelta("working")
    await asyncio.Event().wait()


async def working(engine: Engine, run_id: str) -> None:
    async for logged in engine.subscribe(run_id, ADA):
        if isinstance(logged.event, TextDelta):
            return


async def said_before(engine: Engine, request: RunRequest, run_id: str = "") -> tuple[TurnMessage, ...]:
    return await earlier_messages(engine.log, request, run_id, engine.spec.chat.context_window_messages)


async def test_a_run_starts_works_and_finishes(make_engine: MakeEngine) -> None:
    engine = await make_engine(echo)
    run = await engine.start(ask("hi"))
    events = await follow(engine, run.id)
    assert isinstance(events[0].event, Started)
    assert answer_text(events) == "you said hi"
    assert await ended(engine, run.id) == Finished()
    assert await follow(engine, run.id) == events


async def test_fifty_identical_starts_are_one_run(make_engine: MakeEngine) -> None:
    calls = 0

    async def once(_: RunContext) -> AsyncGenerator[Event, None]:
        nonlocal calls
        calls += 1
        yield TextDelta("x")

    engine = await make_engine(once)
    runs = await asyncio.gather(*(engine.start(ask(), KEY) for _ in range(50)))
    assert len({run.id for run in runs}) == 1
    await ended(engine, runs[0].id)
    assert calls == 1
    with pytest.raises(Conflict):
        await engine.start(ask("something else"), KEY)


async def test_a_run_that_is_done_at_once_is_one_commit_after_its_creation(make_engine: MakeEngine) -> None:
    async def swift(ctx: RunContext) -> AsyncGenerator[Event, None]:
        yield TextDelta(ctx.text)

    engine = await make_engine(swift)
    run = await engine.settled((await engine.start(ask())).id, ADA)
    events = await engine.events(run.id, ADA)
    assert [logged.event.kind for logged in events] == ["started", "text_delta", "finished"]
    assert events[0].at == run.created_at, "that it has begun is stored with it"
    assert events[1].at == events[2].at, "what is stored together has one time"


async def test_subscribers_at_any_offset_see_everything_once(make_engine: MakeEngine) -> None:
    async def long(_: RunContext) -> AsyncGenerator[Event, None]:
        for number in range(300):
            yield ToolResult(str(number), "x")
            if number % 10 == 0:
                await asyncio.sleep(0.001)

    engine = await make_engine(long)
    run = await engine.start(ask())
    dice = random.Random(7)  # noqa: S311 - a repeatable choice

    async def late(after: int, delay: float) -> tuple[int, list[LoggedEvent]]:
        await asyncio.sleep(delay)
        after = min(after, (await engine.get(run.id, ADA)).head)
        return after, await follow(engine, run.id, after)

    seen = await asyncio.gather(*(late(dice.randrange(-1, 320), dice.random() * 0.1) for _ in range(60)))
    whole = list(await engine.events(run.id, ADA))
    assert len(whole) == 302
    for _, events in seen:
        assert events == whole[len(whole) - len(events) :]
    for after, events in seen:
        # One who asks for what is not there yet begins where the run is.
        assert len(events) >= min(len(whole) - after, len(whole))


async def test_a_number_never_given_out_does_not_wait_for_ever(make_engine: MakeEngine) -> None:
    engine = await make_engine(echo)
    run = await engine.start(ask())
    events = await follow(engine, run.id, after=10_000)
    assert events[-1].event == Finished()
    assert await follow(engine, run.id, after=10_000) == []


async def test_another_owner_finds_nothing(make_engine: MakeEngine) -> None:
    engine = await make_engine(echo)
    run = await engine.start(ask())
    for attempt in (
        engine.get(run.id, BOB),
        engine.events(run.id, BOB),
        engine.cancel(run.id, BOB),
        engine.answer(run.id, BOB, "q", "a"),
        engine.settled(run.id, BOB),
        follow(engine, run.id, owner=BOB),
    ):
        with pytest.raises(NotFound):
            await attempt


class Odd(BaseException):
    """What a careless library raises."""


class Mute(Exception):
    """Cannot even say what is wrong."""

    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "error",
    [ValueError("bad"), Odd("odd"), SystemExit(3), asyncio.CancelledError(), Mute(), ValueError("x" * MAX_EVENT_BYTES)],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_the_adapter_raises_is_the_runs_failure(make_engine: MakeEngine, error: BaseException) -> None:
    async def broken(_: RunContext) -> AsyncGenerator[Event, None]:
        yield TextDelta("first")
        raise error

    engine = await make_engine(broken)
    run = await engine.start(ask())
    end = await ended(engine, run.id)
    assert isinstance(end, Failed)
    assert end.code == "team"
    assert answer_text(await engine.events(run.id, ADA)) == "first"
    again = await engine.start(ask())
    assert isinstance(await ended(engine, again.id), Failed)


@pytest.mark.parametrize("event", [Finished(), Cancelled(), Failed("x", "y")])
async def test_an_adapter_that_yields_an_end_fails(make_engine: MakeEngine, event: Event) -> None:
    async def presumptuous(_: RunContext) -> AsyncGenerator[Event, None]:
        yield event

    engine = await make_engine(presumptuous)
    run = await engine.start(ask())
    end = await ended(engine, run.id)
    assert isinstance(end, Failed)
    assert "only the engine ends a run" in end.message


async def test_an_event_that_is_too_large_fails_its_run_and_keeps_what_came_before(make_engine: MakeEngine) -> None:
    async def large(ctx: RunContext) -> AsyncGenerator[Event, None]:
        yield TextDelta("before")
        if ctx.text == "large":
            yield ToolResult("1", "x" * MAX_EVENT_BYTES)

    engine = await make_engine(large)
    run = await engine.start(ask("large"))
    other = await engine.start(ask("small", context="c2"))
    end = await ended(engine, run.id)
    assert isinstance(end, Failed)
    assert "tool_result" in end.message
    assert answer_text(await engine.events(run.id, ADA)) == "before"
    assert await ended(engine, other.id) == Finished()


async def test_long_text_is_split_and_comes_out_whole(make_engine: MakeEngine) -> None:
    text = "ü\x01" * MAX_EVENT_BYTES

    async def long(_: RunContext) -> AsyncGenerator[Event, None]:
        yield TextDelta(text)

    engine = await make_engine(long)
    run = await engine.start(ask())
    assert await ended(engine, run.id) == Finished()
    assert answer_text(await engine.events(run.id, ADA)) == text


async def test_the_deadline_ends_a_run(make_engine: MakeEngine) -> None:
    engine = await make_engine(forever, deadline="100ms")
    run = await engine.start(ask())
    assert await ended(engine, run.id) == Failed("deadline", "it took longer than 100ms", retryable=True)


async def test_an_adapter_is_told_when_the_run_ends(make_engine: MakeEngine) -> None:
    told: list[float] = []

    async def work(ctx: RunContext) -> AsyncGenerator[Event, None]:
        assert ctx.deadline is not None
        told.append(ctx.deadline - time.monotonic())
        yield TextDelta("done")

    engine = await make_engine(work, deadline="10m")
    run = await engine.start(ask())
    assert await ended(engine, run.id) == Finished()
    run = await engine.start(replace(ask(context="other"), deadline=60.0))
    assert await ended(engine, run.id) == Finished()
    assert 590 < told[0] <= 600
    assert 50 < told[1] <= 60


async def test_an_answer_without_end_ends_its_run(make_engine: MakeEngine) -> None:
    async def work(_: RunContext) -> AsyncGenerator[Event, None]:
        while True:
            yield TextDelta("on and on " * 100_000)

    engine = await make_engine(work)
    run = await engine.start(ask())
    end = await ended(engine, run.id)
    assert end == Failed("team", "the answer has more than 8000000 characters, and does not end")


async def test_a_run_can_be_cancelled_at_any_moment(make_engine: MakeEngine) -> None:
    closed = 0

    async def careful(_: RunContext) -> AsyncGenerator[Event, None]:
        nonlocal closed
        try:
            for number in range(20):
                yield TextDelta(str(number))
                await asyncio.sleep(0.001)
        finally:
            closed += 1

    engine = await make_engine(careful)
    ends: list[Event] = []
    for number in range(25):
        run = await engine.start(ask(context=f"c{number}"))
        await asyncio.sleep(number * 0.001)
        outcomes = await asyncio.gather(
            *(engine.cancel(run.id, ADA, "enough") for _ in range(3)), return_exceptions=True
        )
        end = await ended(engine, run.id)
        for outcome in outcomes:
            assert isinstance(outcome, Conflict) if end == Finished() else not isinstance(outcome, BaseException)
        with pytest.raises(Conflict, match="ended"):
            await engine.cancel(run.id, ADA)
        ends.append(end)
    assert ends[0] == Cancelled("enough")
    status = await engine.status()
    assert (status.running, status.queued) == (0, 0)


async def test_cancel_closes_the_adapter_before_it_returns(make_engine: MakeEngine) -> None:
    closed: list[str] = []

    async def slow(_: RunContext) -> AsyncGenerator[Event, None]:
        try:
            yield TextDelta("working")
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            closed.append("yes")

    engine = await make_engine(slow)
    run = await engine.start(ask())
    await working(engine, run.id)
    first, second = await asyncio.gather(engine.cancel(run.id, ADA), engine.cancel(run.id, ADA))
    assert closed == ["yes"]
    assert first == second
    assert first.state is RunState.CANCELLED


@pytest.mark.parametrize("manner", ["swallows", "hangs", "yields"])
@pytest.mark.parametrize("by", ["cancel", "deadline", "close"])
async def test_an_adapter_that_refuses_to_close_is_ended_over_its_head(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, manner: str, by: str
) -> None:
    monkeypatch.setattr(job_module, "_CLOSE_TIMEOUT", 0.1)
    release = asyncio.Event()

    async def stubborn(_: RunContext) -> AsyncGenerator[Event, None]:
        yield TextDelta("working")
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                if manner == "hangs":
                    await release.wait()
                if manner == "yields":
                    yield TextDelta("I go on")

    engine = await make_engine(stubborn, deadline="200ms" if by == "deadline" else "1h", concurrency=1)
    run = await engine.start(ask())
    await working(engine, run.id)
    async with asyncio.timeout(2):
        if by == "cancel":
            await engine.cancel(run.id, ADA, "enough")
        elif by == "close":
            await engine.close()
        end = await ended(engine, run.id)
    assert type(end) is (Cancelled if by == "cancel" else Failed)
    assert answer_text(await engine.events(run.id, ADA)) == "working"
    release.set()
    await asyncio.sleep(0.02)
    await ended(engine, run.id)


async def test_close_leaves_no_run_at_work_and_takes_no_more(make_engine: MakeEngine, run_log: RunLog) -> None:
    engine = await make_engine(forever, concurrency=2)
    runs = [await engine.start(ask(context=f"c{number}")) for number in range(5)]
    late = asyncio.create_task(engine.start(ask(context="late")))
    await asyncio.sleep(0)
    for run in runs[:2]:
        await working(engine, run.id)
    await engine.close()
    if not run_log.shared:
        with pytest.raises(Retryable, match="stopping"):
            await engine.start(ask())
    # What had a place had begun; what waited is done by the next process, where there can be one.
    after = await make_engine(echo)
    for number, run in enumerate([*runs, await late]):
        end = await ended(after, run.id)
        if number < 2 or run_log.volatile:
            assert isinstance(end, Failed)
            assert (end.code, end.retryable) == ("interrupted", True)
        else:
            assert end == Finished()


async def test_a_start_whose_caller_goes_is_whole_or_not_at_all(make_engine: MakeEngine) -> None:
    engine = await make_engine(echo)
    start = asyncio.create_task(engine.start(ask(), KEY))
    await asyncio.sleep(0)
    start.cancel()
    run = await engine.start(ask(), KEY)
    assert await ended(engine, run.id) == Finished()


async def test_one_run_at_a_time_in_a_conversation_and_it_knows_those_before(make_engine: MakeEngine) -> None:
    at_work: set[str] = set()
    most: dict[str, int] = {}

    async def chat(ctx: RunContext) -> AsyncGenerator[Event, None]:
        at_work.add(ctx.run_id)
        most[ctx.conversation] = max(most.get(ctx.conversation, 0), len(at_work))
        yield TextDelta(f"{len(await ctx.history())} before {ctx.text}")
        await asyncio.sleep(0.005)
        at_work.discard(ctx.run_id)

    engine = await make_engine(chat)
    runs = [await engine.start(ask(f"m{number}")) for number in range(8)]
    for number, run in enumerate(runs):
        assert await ended(engine, run.id) == Finished()
        assert answer_text(await engine.events(run.id, ADA)) == f"{2 * number} before m{number}"
    assert list(most.values()) == [1]
    history = await said_before(engine, ask())
    assert history[-2:] == (TurnMessage("user", "m7"), TurnMessage("team", "14 before m7"))


async def test_what_two_teams_returned_stays_in_its_order(make_engine: MakeEngine) -> None:
    engine = await make_engine(echo)
    results = [{"team": name, "title": "work", "text": f"from {name}"} for name in ("one", "two")]
    run = await engine.start(replace(ask("thanks"), metadata={"results": results}))
    assert await ended(engine, run.id) == Finished()
    now = await said_before(engine, run.request, run.id)
    assert [turn.text.splitlines()[-1] for turn in now] == ["from one", "from two"]
    later = await said_before(engine, ask())
    assert [turn.text.splitlines()[-1] for turn in later] == ["from one", "from two", "thanks", "you said thanks"]


async def test_the_same_context_of_two_owners_is_two_conversations(make_engine: MakeEngine) -> None:
    both = asyncio.Barrier(2)

    async def meet(ctx: RunContext) -> AsyncGenerator[Event, None]:
        await both.wait()
        yield TextDelta(str(len(await ctx.history())))

    engine = await make_engine(meet)
    ada = await engine.start(ask(owner=ADA))
    bob = await engine.start(ask(owner=BOB))
    assert await ended(engine, ada.id) == Finished()
    assert await ended(engine, bob.id, BOB) == Finished()
    assert await said_before(engine, ask(owner=BOB), bob.id) == ()


async def test_the_queue_is_bounded_but_a_repeated_start_gets_its_run(make_engine: MakeEngine) -> None:
    engine = await make_engine(forever, concurrency=1, queue=2)
    first = await engine.start(ask(context="c0"), KEY)
    outcomes = await asyncio.gather(
        *(engine.start(ask(context=f"c{number}")) for number in range(1, 20)), return_exceptions=True
    )
    assert sum(isinstance(outcome, Retryable) for outcome in outcomes) == 17
    assert (await engine.start(ask(context="c0"), KEY)).id == first.id
    await working(engine, first.id)
    status = await engine.status()
    assert (status.running, status.queued) == (1, 2)
    await engine.cancel(first.id, ADA)
    assert (await engine.start(ask(context="c20"))).state is RunState.QUEUED


async def test_a_question_parks_the_run_and_an_answer_lets_it_go_on(make_engine: MakeEngine) -> None:
    async def asks(ctx: RunContext) -> AsyncGenerator[Event, None]:
        for question in ("name", "colour"):
            if question not in ctx.answers:
                yield InputRequired(question, f"Which {question}?")
                return
        yield TextDelta(" ".join(ctx.answers.values()))

    engine = await make_engine(asks)
    run = await engine.start(ask())
    assert (await engine.settled(run.id, ADA)).state is RunState.INPUT_REQUIRED
    with pytest.raises(Conflict, match="colour"):
        await engine.answer(run.id, ADA, "colour", "red")
    # Nothing of it is left in the process, and another run of the conversation may pass.
    for _ in range(1000):
        status = await engine.status()
        if not status.running:
            break
        await asyncio.sleep(0.005)
    assert (status.running, status.queued) == (0, 0)
    await asyncio.gather(*(engine.answer(run.id, ADA, "name", "Ada") for _ in range(10)))
    async for logged in engine.subscribe(run.id, ADA):
        if isinstance(logged.event, InputRequired) and logged.event.question_id == "colour":
            break
    await engine.answer(run.id, ADA, "name", "Ada")
    with pytest.raises(Conflict, match="another answer"):
        await engine.answer(run.id, ADA, "name", "Bob")
    await engine.answer(run.id, ADA, "colour", "blue")
    events = await follow(engine, run.id)
    assert answer_text(events) == "Ada blue"
    assert [logged.event for logged in events if isinstance(logged.event, Answered)] == [
        Answered("name", "Ada"),
        Answered("colour", "blue"),
    ]
    assert await ended(engine, run.id) == Finished()


async def test_an_answer_that_no_event_holds_is_refused(make_engine: MakeEngine) -> None:
    async def asks(ctx: RunContext) -> AsyncGenerator[Event, None]:
        yield InputRequired("q1", "Really?")

    engine = await make_engine(asks)
    run = await engine.start(ask())
    await engine.settled(run.id, ADA)
    with pytest.raises(BadInput, match=r"the answer has 300000 characters, .* write a shorter one"):
        await engine.answer(run.id, ADA, "q1", "y" * 300_000)
    assert (await engine.get(run.id, ADA)).state is RunState.INPUT_REQUIRED


async def test_different_answers_at_once_leave_one(make_engine: MakeEngine) -> None:
    async def asks(ctx: RunContext) -> AsyncGenerator[Event, None]:
        if ctx.answers:
            yield TextDelta(ctx.answers["q"])
        else:
            yield InputRequired("q", "?")

    engine = await make_engine(asks)
    for number in range(5):
        run = await engine.start(ask(context=f"c{number}"))
        await engine.settled(run.id, ADA)
        outcomes = await asyncio.gather(
            *(engine.answer(run.id, ADA, "q", str(answer)) for answer in range(5)),
            engine.cancel(run.id, ADA),
            return_exceptions=True,
        )
        assert all(isinstance(outcome, Conflict) for outcome in outcomes if isinstance(outcome, BaseException))
        end = await ended(engine, run.id)
        events = await engine.events(run.id, ADA)
        assert sum(isinstance(logged.event, Answered) for logged in events) <= 1
        assert isinstance(end, Finished | Cancelled)


async def test_a_parked_run_can_be_cancelled(make_engine: MakeEngine) -> None:
    async def asks(_: RunContext) -> AsyncGenerator[Event, None]:
        yield InputRequired("q", "?")

    engine = await make_engine(asks)
    run = await engine.start(ask())
    await engine.settled(run.id, ADA)
    assert (await engine.cancel(run.id, ADA, "never mind")).state is RunState.CANCELLED
    assert await ended(engine, run.id) == Cancelled("never mind")
    with pytest.raises(Conflict):
        await engine.answer(run.id, ADA, "q", "too late")


async def test_what_a_process_left_is_done_or_ended_and_the_parked_stays(store: Store) -> None:
    gone = DurableLog(store)
    await gone.open()
    for number in range(120):
        await gone.create(f"r{number}", ask(context=f"c{number}"), None)
    await gone.append("r1", [Started(), TextDelta("half")])
    await gone.append("r2", [Started(), InputRequired("q", "?")], park=True)
    await gone.close()
    async with running(store, echo) as engine:
        for number in range(120):
            match number:
                case 1:
                    end = await ended(engine, f"r{number}")
                    assert isinstance(end, Failed)
                    assert (end.code, end.retryable) == ("interrupted", True)
                case 2:
                    assert (await engine.get("r2", ADA)).state is RunState.INPUT_REQUIRED
                case _:
                    assert await ended(engine, f"r{number}") == Finished()
        run = await engine.answer("r2", ADA, "q", "yes")
        assert await ended(engine, run.id) == Finished()


class Sulking(MemoryLog):
    """Refuses for a while, as a full disk does."""

    refusals = 0
    error: Exception = Retryable("the disk is full")

    async def append(
        self, run_id: str, events: Sequence[Event], *, epoch: int | None = None, park: bool = False
    ) -> tuple[LoggedEvent, ...]:
        if self.refusals and not isinstance(events[0], Started):
            self.refusals -= 1
            raise self.error
        return await super().append(run_id, events, epoch=epoch, park=park)


@pytest.mark.parametrize("error", [Retryable("the disk at /secret/place is full"), RuntimeError("refused")])
async def test_a_log_that_refuses_fails_the_run_and_not_the_server(error: Exception) -> None:
    async def slow(_: RunContext) -> AsyncGenerator[Event, None]:
        await asyncio.sleep(0.05)
        yield ToolResult("1", "x")
        await asyncio.sleep(0.05)
        yield ToolResult("2", "x")

    run_log = Sulking()
    run_log.error = error
    engine = Engine(team(), Scripted(slow), run_log, ENDPOINT)
    run_log.refusals = 3 if isinstance(error, Retryable) else 1
    run = await engine.start(ask())
    end = await ended(engine, run.id)
    assert isinstance(end, Failed)
    assert (end.code, end.retryable) == ("internal", True)
    assert "secret" not in end.message
    again = await engine.start(ask())
    assert await ended(engine, again.id) == Finished()
    await engine.close()
