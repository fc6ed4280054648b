"""What becomes of runs that have ended: their text is joined, later they are forgotten."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest

from elf_sdk.runs import upkeep as upkeep_module
from elf_sdk.runs.compaction import decode_rest, join
from elf_sdk.runs.durable import DurableLog
from elf_sdk.runs.engine import Engine
from elf_sdk.runs.events import (
    Answered,
    Artifact,
    Cancelled,
    Event,
    Failed,
    Finished,
    InputRequired,
    LoggedEvent,
    Rewound,
    Started,
    Step,
    TextDelta,
    ToolCall,
    Usage,
    answer_text,
    decode,
    encode,
)
from elf_sdk.runs.history import all_events, earlier_messages
from elf_sdk.runs.log import IdempotencyKey, Run, RunFilter, RunState
from elf_sdk.runs.upkeep import Upkeep
from elf_sdk.server.a2a.codec import TaskView
from elf_sdk.store import Store
from elf_sdk.store.delegations import Delegation, Delegations, DelegationState
from elf_sdk.store.sqlite import SQLiteStore
from tests.runs.support import ADA, ENDPOINT, Scripted, ask, follow, team

HOUR = 3_600_000
DAY = 24 * HOUR
KEY = IdempotencyKey("a2a", "send", "m1")


@pytest.fixture
async def log(store: Store) -> AsyncGenerator[DurableLog, None]:
    log = DurableLog(store)
    await log.open()
    yield log
    await log.close()


async def nothing() -> AsyncGenerator[Event, None]:
    return
    yield


async def age(store: Store, by: int, run_id: str = "%") -> None:
    """Make it so many milliseconds later than the runs believe."""
    await store.write(
        lambda connection: connection.execute(
            "UPDATE runs SET changed_at = changed_at - ?, updated_at = updated_at - ?, created_at = created_at - ? "
            "WHERE id LIKE ?",
            (by, by, by, run_id),
        )
    )


async def tend(store: Store, log: DurableLog, **runs: str) -> None:
    await Upkeep(team(**runs), log, store).tend()


async def rows(store: Store, table: str) -> int:
    query = f"SELECT COUNT(*) FROM {table}"  # noqa: S608 - constants only
    found: tuple[int] = await store.read(lambda connection: connection.execute(query).fetchone())
    return found[0]


async def seen(store: Store, run_id: str, after: int = 0) -> tuple[LoggedEvent, ...]:
    """What another replica reads, which remembers nothing."""
    return await all_events(DurableLog(store), run_id, after)


async def there(log: DurableLog, run_id: str) -> Run:
    run = await log.get(run_id)
    assert run is not None
    return run


async def play(log: DurableLog, run_id: str, chance: random.Random) -> None:
    """A run with a log as it may come."""
    await log.create(run_id, ask(run_id, context=run_id), None)
    head = len(await log.append(run_id, [Started()]))
    for _ in range(chance.randrange(30)):
        batch: list[Event] = []
        for _ in range(chance.randrange(1, 4)):
            text = "".join(chance.choices("ab ü✓😀\n\x01", k=chance.choice([0, 1, 5, 7000])))
            batch.append(
                chance.choices(
                    [
                        TextDelta(text),
                        Step("think"),
                        ToolCall("1", "look", {"at": 1}),
                        Usage("m", 1, 2),
                        Artifact("a", "a", text="whole"),
                        Rewound(chance.randrange(head + 1)),
                    ],
                    weights=[20, 1, 1, 1, 1, 1],
                )[0]
            )
        head += len(await log.append(run_id, batch))
    await log.append(run_id, [chance.choice([Finished(), Failed("team", "no"), Cancelled("enough")])])


def texts(events: Sequence[LoggedEvent]) -> str:
    return "".join(logged.event.text for logged in events if isinstance(logged.event, TextDelta))


def others(events: Sequence[LoggedEvent]) -> list[LoggedEvent]:
    return [logged for logged in events if not isinstance(logged.event, TextDelta)]


@pytest.mark.parametrize("seed", range(3))
async def test_from_each_cursor_the_rest_is_the_same_after_text_was_joined(
    store: Store, log: DurableLog, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - the same each time
    names = [f"r{number}" for number in range(12)]
    for name in names:
        await play(log, name, chance)
    before = {name: await seen(store, name) for name in names}
    count = await rows(store, "events")
    await age(store, HOUR - 60_000)
    await tend(store, log)
    assert await rows(store, "events") == count, "nothing is touched within the hour"
    await age(store, 120_000)
    await asyncio.gather(tend(store, log), tend(store, log))
    assert await rows(store, "events") < count
    for name, events in before.items():
        run = await there(DurableLog(store), name)
        for cursor in range(len(events) + 1):
            rest = await seen(store, name, cursor)
            assert texts(rest) == texts(events[cursor:])
            assert others(rest) == others(events[cursor:])
            assert [logged.seq for logged in rest] == sorted({logged.seq for logged in rest})
            assert all(logged.seq > cursor for logged in rest)
            assert answer_text([*events[:cursor], *rest]) == answer_text(events)
            assert TaskView(run, [*events[:cursor], *rest]).task() == TaskView(run, events).task()
        small: list[LoggedEvent] = []
        while page := await DurableLog(store).read(name, small[-1].seq if small else 0, 3):
            small += page
        assert tuple(small) == await seen(store, name)
        assert all(len(encode(logged.event)) < 200_000 for logged in small)
    count = await rows(store, "events")
    await tend(store, log)
    assert await rows(store, "events") == count


async def test_two_replicas_that_join_the_same_run_lose_nothing(
    store: Store, log: DurableLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.create("r1", ask(), None)
    await log.append("r1", [TextDelta(f"{number} ") for number in range(500)])
    await log.append("r1", [Finished()])
    before = await seen(store, "r1")
    await age(store, 2 * HOUR)
    # What one has planned before the other was done, in parts that do not fit each other.
    monkeypatch.setattr(upkeep_module, "_EVENTS", 70)
    deltas, ends = await store.read(lambda connection: upkeep_module._deltas(connection, "r1", 35))
    late = [upkeep_module._Plan("r1", join(deltas, ends), False)]
    first, ends = await store.read(lambda connection: upkeep_module._deltas(connection, "r1", 0))
    early = [upkeep_module._Plan("r1", join(first, ends), False)]
    await store.write(lambda connection: upkeep_module._store_joined(connection, early))
    await store.write(lambda connection: upkeep_module._store_joined(connection, late))
    await asyncio.gather(*(tend(store, log) for _ in range(3)))
    assert await rows(store, "events") < 20
    for cursor in range(0, 501, 7):
        assert texts(await seen(store, "r1", cursor)) == texts(before[cursor:])


async def test_a_subscriber_goes_on_from_within_what_was_joined(store: Store, log: DurableLog) -> None:
    engine = Engine(team(), Scripted(lambda _: nothing()), DurableLog(store), ENDPOINT)
    await log.create("r1", ask(), None)
    await log.append("r1", [TextDelta("one "), TextDelta("two "), TextDelta("three"), Finished()])
    await age(store, 2 * HOUR)
    await tend(store, log)
    assert [logged.seq for logged in await follow(engine, "r1")] == [3, 4]
    assert [(logged.seq, logged.event) for logged in await follow(engine, "r1", 1)] == [
        (3, TextDelta("two three")),
        (4, Finished()),
    ]
    assert await follow(engine, "r1", 4) == []


def test_what_a_newer_release_wrote_is_not_joined() -> None:
    plain = [(1, '{"text":"a"}'), (2, '{"text":"b"}'), (3, '{"text":"c","voice":"alto"}'), (4, '{"text":"d"}')]
    [one] = join(plain, ())
    assert (one.first, one.last) == (1, 2)
    assert decode("text_delta", one.data) == TextDelta("ab")
    assert decode_rest("text_delta", one.data, 2, 1) == TextDelta("b")
    assert join(plain[:2], {1}) == []


async def test_runs_are_forgotten_when_they_were_kept_long_enough(store: Store, log: DurableLog) -> None:
    for name, key in (("old", None), ("keyed", KEY), ("young", None), ("working", None)):
        await log.create(name, ask(name, context=name), key)
        await log.append(name, [Started(), TextDelta("x")])
    for name in ("old", "keyed", "young"):
        await log.append(name, [Finished()])
    await store.write(
        lambda connection: connection.execute(
            "INSERT INTO push_configs (run_id, config_id, team, url, host, token, scheme, credentials, sent_seq, "
            "next_attempt_at, created_at) VALUES ('old', 'c', 'test-team', 'https://x', 'x', '', '', '', 0, 0, 0)"
        )
    )
    for name in ("old", "keyed", "working"):
        await age(store, 30 * DAY + 60_000, name)
    await age(store, 30 * DAY - 60_000, "young")
    await tend(store, log)
    reader = DurableLog(store)
    assert await reader.get("old") is None
    assert await reader.get("keyed") is None
    assert texts(await seen(store, "young")) == "x"
    assert texts(await seen(store, "working")) == "x"
    assert await rows(store, "push_configs") == 0
    assert await rows(store, "idempotency_keys") == 0
    # Its message is a new one again.
    assert (await log.create("again", ask("keyed", context="keyed"), KEY))[1]


async def test_a_key_outlives_the_text_of_its_run(store: Store, log: DurableLog) -> None:
    request = ask("a secret", context="c1", note="another")
    ends = {"k1": Finished(), "k2": Failed("team", "a secret was wrong", True), "k3": Cancelled("a secret")}
    keys = {name: IdempotencyKey("a2a", "send", name) for name in ends}
    for name, end in ends.items():
        await log.create(name, request, keys[name])
        if not (await there(log, name)).held:
            await log.claim("test-team", 10)
        await log.append(name, [Started(), TextDelta("the secret is out"), end])
    await age(store, 2 * DAY)
    await tend(store, log, retention="1d")
    dump = await store.read(
        lambda connection: (
            str(connection.execute("SELECT data FROM events").fetchall())
            + str(connection.execute("SELECT text, metadata FROM runs").fetchall())
        )
    )
    assert "secret" not in dump
    assert "another" not in dump
    reader = DurableLog(store)
    for name in ends:
        run, created = await reader.create(f"{name} again", request, keys[name])
        assert (run.id, created, run.request.text) == (name, False, "")
        assert run.state.terminal
    engine = Engine(team(), Scripted(lambda _: nothing()), reader, ENDPOINT)
    assert [logged.event for logged in await follow(engine, "k1")] == [Finished()]
    [failed] = await follow(engine, "k2")
    assert isinstance(failed.event, Failed)
    assert "deleted" in failed.event.message
    # They are in no list and no conversation.
    assert await reader.list(RunFilter("test-team")) == ()
    assert await reader.count("test-team") == {}
    assert await earlier_messages(reader, ask(context="c1"), "", 10) == ()
    # The longest deadline is half an hour.
    await age(store, 5 * DAY + HOUR // 4)
    await tend(store, log, retention="1d")
    assert await rows(store, "runs") == 3
    await age(store, HOUR)
    await tend(store, log, retention="1d")
    assert await rows(store, "runs") == 0
    assert await rows(store, "events") == 0


async def test_a_run_that_nobody_answers_is_cancelled_and_then_forgotten(store: Store, log: DurableLog) -> None:
    for name in ("r1", "r2"):
        await log.create(name, ask(context=name), None)
        await log.append(name, [Started(), InputRequired("q", "?")], park=True)
    await age(store, 3 * DAY)
    await log.take(await there(log, "r2"), Answered("q", "!"))
    await log.append("r2", [InputRequired("q2", "?")], park=True)
    await tend(store, log, retention="2d")
    run = await there(log, "r1")
    assert run.state is RunState.CANCELLED
    assert (await seen(store, "r1"))[-1].event == Cancelled("nobody answered within 2d")
    assert (await there(log, "r2")).state is RunState.INPUT_REQUIRED
    await age(store, 2 * DAY + 60_000, "r1")
    await tend(store, log, retention="2d")
    assert await DurableLog(store).get("r1") is None


async def test_much_is_forgotten_bit_by_bit(store: Store, log: DurableLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep_module, "_EVENTS", 40)
    monkeypatch.setattr(upkeep_module, "_BATCH", 3)
    for number in range(20):
        await log.create(f"r{number}", ask(context=f"c{number}"), None)
        await log.append(f"r{number}", [TextDelta("x"), Step("s")] * (number * 5) + [Finished()])
    await age(store, 31 * DAY)
    due = await store.read(Upkeep(team(), log, store)._look)
    assert len(due.old) == 3
    before = await rows(store, "events")
    await store.write(lambda connection: upkeep_module._forget(connection, ["r19", "r18"], 0))
    assert before - await rows(store, "events") == 40
    await asyncio.gather(tend(store, log), tend(store, log))
    assert await rows(store, "runs") == 0
    assert await rows(store, "events") == 0


async def test_other_teams_runs_are_their_own_business(store: Store, log: DurableLog) -> None:
    await log.create("r1", ask(), None)
    await log.append("r1", [Finished()])
    await age(store, 31 * DAY)
    await Upkeep(team().model_copy(update={"name": "other-team"}), log, store).tend()
    assert await rows(store, "runs") == 1


def test_no_state_is_left_out() -> None:
    for state in RunState:
        named = [f"'{state}'" in statement for statement in (upkeep_module._ENDED, upkeep_module._PARKED)]
        assert named == [state.terminal, not state.terminal and state not in upkeep_module._WORKING]


async def test_what_is_to_be_compacted_is_found_by_its_index(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "elf.db")
    await store.open()
    plan = await store.read(
        lambda connection: connection.execute(f"EXPLAIN QUERY PLAN {upkeep_module._TO_COMPACT}", (1, 1)).fetchall()
    )
    assert "runs_to_compact" in str(plan)
    await store.close()


async def test_delegations_are_forgotten_once_they_have_ended(store: Store, log: DurableLog) -> None:
    delegations = Delegations(store)
    for name, state in (("d1", DelegationState.FINISHED), ("d2", DelegationState.FINISHED), ("d3", None)):
        confirmed = Delegation(name, "test-team", ADA.issuer, ADA.subject, "s1", "r1", "p1", "worker", {}, "hash")
        await delegations.confirm(confirmed, log.holder)
        if state is not None:
            await delegations.update(name, state, log.holder, result="done")
    await store.write(
        lambda connection: connection.execute(
            "UPDATE delegations SET updated_at = updated_at - ? WHERE id <> 'd2'", (31 * DAY,)
        )
    )
    await tend(store, log)
    assert [row.id for row in await delegations.of_session("s1")] == ["d2", "d3"]
    assert await rows(store, "outbox") == 1
