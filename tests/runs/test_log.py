"""One suite for every run log."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from elf_sdk.errors import Conflict, NotFound, Retryable
from elf_sdk.runs.events import (
    MAX_EVENT_BYTES,
    Answered,
    Artifact,
    AuthRequired,
    Cancelled,
    DelegationProposed,
    Event,
    Failed,
    Finished,
    InputRequired,
    Started,
    Step,
    TextDelta,
    ToolCall,
    ToolResult,
    UnknownEvent,
    as_stored,
    decode,
    encode,
    stored_kind,
)
from elf_sdk.runs.log import IdempotencyKey, Run, RunFilter, RunLog, RunState, Stale
from tests.runs.support import ADA, BOB, ask

KEY = IdempotencyKey("a2a", "message/send", "m1")


async def test_a_new_run_is_queued_and_empty(run_log: RunLog) -> None:
    run, created = await run_log.create("r1", ask("what?", colour="blue"), None)
    assert created
    assert (run.id, run.state, run.head) == ("r1", RunState.QUEUED, 0)
    assert abs(datetime.now(UTC) - run.created_at) < timedelta(seconds=5)
    assert await run_log.get("r1") == run
    assert (await run_log.read("r1")) == ()
    assert run.request.metadata == {"colour": "blue"}


async def test_what_is_appended_is_read_back_in_order_and_without_gaps(run_log: RunLog) -> None:
    await run_log.create("r1", ask(), None)
    first = await run_log.append("r1", [Started(), TextDelta("a")])
    second = await run_log.append("r1", [ToolCall("1", "look", {"b": 1, "a": [None, 1.5]}), TextDelta("ü✓")])
    assert [logged.seq for logged in (*first, *second)] == [1, 2, 3, 4]
    assert await run_log.read("r1") == (*first, *second)
    assert await run_log.read("r1", after=1, limit=2) == (first[1], second[0])
    assert await run_log.read("r1", after=4) == ()
    run = await run_log.get("r1")
    assert run is not None
    assert (run.head, run.state, run.updated_at) == (4, RunState.WORKING, second[-1].at)


async def test_many_writers_of_one_run_leave_no_gap(run_log: RunLog) -> None:
    await run_log.create("r1", ask(), None)
    await asyncio.gather(*(run_log.append("r1", [TextDelta(str(i)), TextDelta("x")]) for i in range(100)))
    events = await run_log.read("r1")
    assert [logged.seq for logged in events] == list(range(1, 201))
    for even in range(0, 200, 2):
        assert events[even + 1].event == TextDelta("x")


async def test_states_follow_the_events(run_log: RunLog) -> None:
    await run_log.create("r1", ask(), None)
    for event, state in (
        (Started(), RunState.WORKING),
        (TextDelta("x"), RunState.WORKING),
        (InputRequired("q", "?"), RunState.INPUT_REQUIRED),
        (Answered("q", "!"), RunState.QUEUED),
        (Failed("team", "no"), RunState.FAILED),
    ):
        await run_log.append("r1", [event])
        run = await run_log.get("r1")
        assert run is not None
        assert run.state is state


@pytest.mark.parametrize("end", [Finished(), Failed("internal", "x"), Cancelled()])
async def test_nothing_follows_the_end(run_log: RunLog, end: Finished | Failed | Cancelled) -> None:
    await run_log.create("r1", ask(), None)
    with pytest.raises(Conflict):
        await run_log.append("r1", [end, TextDelta("late")])
    await run_log.append("r1", [TextDelta("x"), end])
    for late in (TextDelta("late"), Finished()):
        with pytest.raises(Conflict, match="ended"):
            await run_log.append("r1", [late])
    assert len(await run_log.read("r1")) == 2


async def got(run_log: RunLog, run_id: str) -> Run:
    run = await run_log.get(run_id)
    assert run is not None
    return run


async def test_only_who_holds_a_run_in_its_epoch_appends(run_log: RunLog) -> None:
    run, _ = await run_log.create("r1", ask(), None)
    assert (run.held, run.epoch) == (True, 1)
    await run_log.append("r1", [Started()], epoch=1)
    with pytest.raises(Stale):
        await run_log.append("r1", [TextDelta("x")], epoch=2)
    await run_log.release(run)
    for epoch in (None, 1, 2):
        with pytest.raises(Stale):
            await run_log.append("r1", [TextDelta("x")], epoch=epoch)
    (again,) = await run_log.claim("test-team", 10)
    assert (again.id, again.state, again.head, again.held) == ("r1", RunState.WORKING, 1, True)
    assert again.epoch > run.epoch
    with pytest.raises(Stale):
        await run_log.append("r1", [TextDelta("x")], epoch=run.epoch)
    with pytest.raises(Stale):
        await run_log.release(run)
    await run_log.append("r1", [Finished()], epoch=again.epoch)
    assert await run_log.claim("test-team", 10) == ()


async def test_a_parked_run_is_taken_once(run_log: RunLog) -> None:
    run, _ = await run_log.create("r1", ask(), None)
    with pytest.raises(Conflict, match="held by a process"):
        await run_log.take(run, Cancelled())
    await run_log.append("r1", [Started(), InputRequired("q", "?")], park=True)
    parked = await got(run_log, "r1")
    assert (parked.state, parked.held) == (RunState.INPUT_REQUIRED, False)
    assert await run_log.claim("test-team", 10) == ()
    outcomes = await asyncio.gather(
        *(run_log.take(parked, Answered("q", str(number))) for number in range(10)), return_exceptions=True
    )
    taken = [outcome for outcome in outcomes if isinstance(outcome, Run)]
    assert len(taken) == 1
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 9
    assert (taken[0].state, taken[0].head, taken[0].held) == (RunState.QUEUED, 3, True)
    await run_log.append("r1", [Finished()], epoch=taken[0].epoch)


async def test_one_run_of_a_conversation_has_the_turn_and_the_next_gets_it(run_log: RunLog) -> None:
    runs = [(await run_log.create(f"r{number}", ask(), None))[0] for number in range(4)]
    other, _ = await run_log.create("other", ask(context="c2"), None)
    assert [run.held for run in (*runs, other)] == [True, False, False, False, True]
    assert await run_log.claim("test-team", 10) == ()
    # One that waits goes; the one that works asks; then the next is the next.
    assert (await run_log.take(runs[1], Cancelled())).state is RunState.CANCELLED
    await run_log.append("r0", [Started(), InputRequired("q", "?")], park=True)
    (second,) = await run_log.claim("test-team", 10)
    assert second.id == "r2"
    # The answer comes while another works: it waits behind who waited before.
    answered = await run_log.take(await got(run_log, "r0"), Answered("q", "!"))
    assert (answered.state, answered.held) == (RunState.QUEUED, False)
    await run_log.append("r2", [Finished()])
    order = []
    while claimed := await run_log.claim("test-team", 10):
        order += [run.id for run in claimed]
        await run_log.append(claimed[0].id, [Finished()])
    assert sorted(order) == ["r0", "r3"]
    # The conversation is free again.
    last, _ = await run_log.create("last", ask(), None)
    assert last.held


async def test_few_may_wait_in_a_conversation(run_log: RunLog) -> None:
    outcomes = await asyncio.gather(
        *(
            run_log.create(f"r{number}", ask(str(number)), IdempotencyKey("a2a", "send", str(number)), waiting=3)
            for number in range(10)
        ),
        return_exceptions=True,
    )
    made = [outcome[0] for outcome in outcomes if isinstance(outcome, tuple)]
    assert len(made) == 4
    assert all("3 messages wait" in str(outcome) for outcome in outcomes if isinstance(outcome, Retryable))
    assert sum(isinstance(outcome, Retryable) for outcome in outcomes) == 6
    assert len(await run_log.list(RunFilter("test-team"))) == 4
    # Another conversation is none of it, and there is room again when one has ended.
    assert (await run_log.create("other", ask(context="c2"), None, waiting=0))[1]
    with pytest.raises(Retryable):
        await run_log.create("late", ask("late"), None, waiting=3)
    (first,) = [run for run in made if run.held]
    await run_log.append(first.id, [Finished()])
    assert (await run_log.create("late", ask("late"), None, waiting=3))[1]


async def test_a_run_may_be_left_for_others_from_the_beginning(run_log: RunLog) -> None:
    run, created = await run_log.create("r1", ask(), None, hold=False)
    assert (created, run.held) == (True, False)
    with pytest.raises(Stale):
        await run_log.append("r1", [Started()])
    assert [claimed.id for claimed in await run_log.claim("test-team", 10)] == ["r1"]


async def test_that_a_run_has_begun_is_stored_with_it(run_log: RunLog) -> None:
    runs = [(await run_log.create(f"r{number}", ask(), None, begin=True))[0] for number in range(2)]
    left, _ = await run_log.create("left", ask(context="c2"), None, hold=False, begin=True)
    assert [(run.state, run.head) for run in runs] == [(RunState.WORKING, 1), (RunState.QUEUED, 0)]
    assert (left.state, left.head) == (RunState.QUEUED, 0)
    (first,) = await run_log.read("r0")
    assert (first.seq, first.event, first.at) == (1, Started(), runs[0].created_at)
    await run_log.append("r0", [Finished()])
    assert [logged.seq for logged in await run_log.read("r0")] == [1, 2]


async def test_a_deadline_is_kept_and_makes_no_other_request(run_log: RunLog) -> None:
    await run_log.create("r1", replace(ask(), deadline=2.5), KEY)
    assert (await got(run_log, "r1")).request.deadline == 2.5
    again, created = await run_log.create("r2", replace(ask(), deadline=1.0), KEY)
    assert (again.id, created) == ("r1", False)


async def test_an_absent_run_is_not_found(run_log: RunLog) -> None:
    assert await run_log.get("none") is None
    assert await run_log.read("none") == ()
    with pytest.raises(NotFound, match="none"):
        await run_log.append("none", [Started()])


async def test_an_event_that_cannot_be_stored_leaves_nothing(run_log: RunLog) -> None:
    await run_log.create("r1", ask(), None)
    for bad in (TextDelta("x" * MAX_EVENT_BYTES), Artifact("a", "a", data=object())):
        with pytest.raises(ValueError, match="event"):
            await run_log.append("r1", [TextDelta("good"), bad])
    run = await run_log.get("r1")
    assert run is not None
    assert run.head == 0
    assert await run_log.read("r1") == ()


async def test_text_that_no_store_takes_is_cleaned(run_log: RunLog) -> None:
    request = ask("a\x00b\ud800", context="c\x00", key={"x\ud800": ["\x00"]})
    run, _ = await run_log.create("r1", request, IdempotencyKey("chat", "message", "k\ud800"))
    assert run.request.text == "a\ufffdb\ufffd"
    await run_log.append("r1", [TextDelta("x\x00y\udfff"), ToolCall("1", "t", {"k\x00": "v\ud800"})])
    stored = await run_log.get("r1")
    assert stored is not None
    assert stored.request == request
    assert stored.request.metadata == {"key": {"x\ufffd": ["\ufffd"]}}
    events = [logged.event for logged in await run_log.read("r1")]
    assert events == [TextDelta("x\ufffdy\ufffd"), ToolCall("1", "t", {"k\ufffd": "v\ufffd"})]


async def test_an_event_of_a_newer_release_is_kept(run_log: RunLog) -> None:
    await run_log.create("r1", ask(), None)
    event = UnknownEvent("hologram", {"depth": 3})
    await run_log.append("r1", [event])
    assert [logged.event for logged in await run_log.read("r1")] == [event]
    with pytest.raises(ValueError, match="finished"):
        await run_log.append("r1", [UnknownEvent("finished", {})])


async def test_the_same_key_gives_the_same_run(run_log: RunLog) -> None:
    outcomes = await asyncio.gather(*(run_log.create(f"r{i}", ask(), KEY) for i in range(50)))
    assert len({run.id for run, _ in outcomes}) == 1
    assert sum(created for _, created in outcomes) == 1
    assert len(await run_log.list(RunFilter("test-team"))) == 1
    found = await run_log.find(ask(), KEY)
    assert found is not None
    assert found.id == outcomes[0][0].id


async def test_the_same_key_for_another_request_is_a_conflict(run_log: RunLog) -> None:
    await run_log.create("r1", ask("one"), KEY)
    with pytest.raises(Conflict, match="different request"):
        await run_log.create("r2", ask("two"), KEY)
    with pytest.raises(Conflict, match="different request"):
        await run_log.find(ask("two"), KEY)
    assert await run_log.get("r2") is None


async def test_keys_are_scoped_by_owner_protocol_and_operation(run_log: RunLog) -> None:
    starts = [
        (ask(), KEY),
        (ask(owner=BOB), KEY),
        (ask(), IdempotencyKey("chat", KEY.operation, KEY.key)),
        (ask(), IdempotencyKey(KEY.protocol, "other", KEY.key)),
    ]
    for number, (request, key) in enumerate(starts):
        _, created = await run_log.create(f"r{number}", request, key)
        assert created


async def test_list_narrows_and_shows_the_latest_first(run_log: RunLog) -> None:
    for number in range(6):
        await run_log.create(f"r{number}", ask(context=f"c{number % 2}", owner=ADA if number < 4 else BOB), None)
    await run_log.append("r1", [Finished()])

    async def ids(which: RunFilter, limit: int = 100) -> list[str]:
        return [run.id for run in await run_log.list(which, limit)]

    assert await ids(RunFilter("test-team")) == ["r5", "r4", "r3", "r2", "r1", "r0"]
    assert await ids(RunFilter("test-team"), 2) == ["r5", "r4"]
    assert await ids(RunFilter("test-team", ADA)) == ["r3", "r2", "r1", "r0"]
    assert await ids(RunFilter("test-team", ADA, "c1")) == ["r3", "r1"]
    assert await ids(RunFilter("test-team", states=frozenset({RunState.FINISHED}))) == ["r1"]
    assert await ids(RunFilter("test-team", states=frozenset())) == []
    assert await ids(RunFilter("other-team")) == []
    assert await run_log.count("test-team") == {RunState.QUEUED: 5, RunState.FINISHED: 1}
    assert await run_log.count("other-team") == {}


async def test_pages_are_by_the_last_change_and_stay_while_runs_change(run_log: RunLog) -> None:
    which = RunFilter("test-team", ADA)
    for number in range(12):
        await run_log.create(f"r{number:02d}", ask(context=f"c{number}", owner=BOB if number == 5 else ADA), None)
    await asyncio.sleep(0.005)
    await run_log.append("r03", [Started()])
    await asyncio.sleep(0.005)
    await run_log.append("r01", [Started(), Finished()])
    await run_log.append("r03", [TextDelta("text is no change of state")])

    first = await run_log.page(which, 4)
    assert [run.id for run in first.runs] == ["r01", "r03", "r11", "r10"]
    assert (first.total, first.last is None) == (11, False)
    # One that was shown, one that was not, and a new one: they move to the front, and the rest stays in its place.
    for changed in ("r11", "r08"):
        await asyncio.sleep(0.005)
        await run_log.append(changed, [Started()])
    await run_log.create("r12", ask(context="c12"), None)
    second = await run_log.page(which, 4, first.last)
    third = await run_log.page(which, 4, second.last)
    assert [run.id for run in (*second.runs, *third.runs)] == ["r09", "r07", "r06", "r04", "r02", "r00"]
    assert (third.last, third.total) == (None, 12)
    assert [run.id for run in (await run_log.page(which, 3)).runs] == ["r12", "r08", "r11"]
    assert (await run_log.page(which, 12)).last is None


async def test_pages_are_narrowed_by_state_conversation_and_time(run_log: RunLog) -> None:
    for number in range(4):
        await run_log.create(f"r{number}", ask(context=f"c{number % 2}"), None)
    await asyncio.sleep(0.005)
    await run_log.append("r0", [Started(), AuthRequired("q1", "May I?")], park=True)
    await run_log.append("r1", [Started(), Failed("rejected", "no")])
    which = RunFilter("test-team", ADA)

    async def ids(**more: Any) -> list[str]:
        page = await run_log.page(replace(which, **more), 10)
        assert page.total == len(page.runs)
        return [run.id for run in page.runs]

    assert await ids(states=frozenset({RunState.AUTH_REQUIRED})) == ["r0"]
    assert await ids(states=frozenset({RunState.REJECTED})) == ["r1"]
    assert await ids(states=frozenset({RunState.FAILED, RunState.INPUT_REQUIRED})) == []
    assert await ids(states=frozenset()) == []
    assert await ids(context_id="c0") == ["r0", "r2"]
    run = await run_log.get("r0")
    assert run is not None
    assert "r0" in await ids(changed_since=run.changed_at)
    assert "r0" not in await ids(changed_since=run.changed_at + timedelta(microseconds=1))
    assert "r2" not in await ids(changed_since=run.changed_at)


async def test_waiters_hear_of_every_append_even_when_its_caller_has_gone(run_log: RunLog) -> None:
    await run_log.create("r1", ask(), None)
    with run_log.waiters.register("r1") as news:
        task = asyncio.create_task(run_log.append("r1", [Started()]))
        await asyncio.sleep(0)
        task.cancel()
        async with asyncio.timeout(5):
            while not await run_log.read("r1"):
                await news.wait()
                news.clear()
                # A notification may come before what it is of can be read here.
                await asyncio.sleep(0)
    assert len(await run_log.read("r1")) == 1


@pytest.mark.parametrize(
    "event",
    [
        Started(),
        Started(2**53 + 1),
        TextDelta("ü✓\n"),
        TextDelta("a\x00b\ud800"),
        TextDelta("x" * 100_000),
        Step("draft", agent="\x00"),
        ToolCall("1", "look", {"b": (1, 2), "a": Started()}),
        ToolResult("1", "out", is_error=True),
        DelegationProposed("p", "brand", "A logo", requirements=("blue", "\x00")),
        Artifact("a", "n", data={"x": [1.5, None]}),
        Failed("team", "no", retryable=True),
        Finished(),
        UnknownEvent("later", {"b": 1}),
    ],
    ids=lambda event: type(event).__name__,
)
def test_an_event_as_stored_is_what_decoding_gives(event: Event) -> None:
    assert as_stored(event) == decode(stored_kind(event), encode(event))


def test_what_cannot_be_stored_is_refused_with_and_without_the_detour() -> None:
    for event in (TextDelta("x" * MAX_EVENT_BYTES), Started(2**70), ToolCall("1", "look", {"a": object()})):
        for store in (as_stored, encode):
            with pytest.raises(ValueError, match=event.kind):
                store(event)
