"""How runs are made and appended to on the store: many in one transaction, in its thread.

An item is tried again when the answer to a commit got lost, and when a set with another one in it could not be stored;
so it knows by itself what an earlier try of it has done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson

from elf_sdk.errors import Conflict, ElfError, Retryable
from elf_sdk.runs.durable_checkpoints import drop_checkpoints
from elf_sdk.runs.durable_rows import find_known, find_run
from elf_sdk.runs.events import Event, LoggedEvent, Started, Usage, encode
from elf_sdk.runs.log import (
    WORK,
    IdempotencyKey,
    Run,
    RunRequest,
    RunState,
    crowded,
    moved_on,
    next_state,
    refusal,
    stale,
)
from elf_sdk.runs.usage import usage_rows
from elf_sdk.store.database import Connection, EventRow, Group, HeadRow, MovedRow, RunRow, moment
from elf_sdk.store.usage import UsageRow, add_usage

__all__ = ["APPEND", "CREATE", "Appended", "New", "Outcome"]

_STORED: Final = (
    "SELECT run_id, seq, epoch, kind, data, at FROM events WHERE run_id = ? AND seq BETWEEN ? AND ? ORDER BY seq"
)
_LOCK_TURN: Final = (
    "UPDATE turns SET waiting = waiting WHERE conversation = (SELECT conversation FROM runs WHERE id = ?) "
    "RETURNING conversation, run_id"
)
_NEXT: Final = (
    "SELECT id FROM runs WHERE conversation = ? AND holder IS NULL AND state = 'queued' AND id <> ? "
    "ORDER BY number LIMIT 1"
)
_TURN: Final = (
    "INSERT INTO turns (conversation, run_id) VALUES (?, ?) "
    "ON CONFLICT (conversation) DO UPDATE SET waiting = turns.waiting + 1 RETURNING run_id"
)
_WAIT_NO_MORE: Final = "UPDATE turns SET waiting = waiting - 1 WHERE conversation = ?"
_BEGUN: Final = encode(Started()).decode()


@dataclass(frozen=True, slots=True)
class New:
    """A run to be made.

    Attributes:
        run_id: that it gets.
        request: what is asked.
        key: makes a repeat the same run; None where there is none.
        holder: who is to hold it; None for others to claim.
        begin: whether the log is to say at once that it has started, if it is its turn.
        waiting: how many runs may wait in its conversation.
    """

    run_id: str
    request: RunRequest
    key: IdempotencyKey | None
    holder: str | None
    begin: bool
    waiting: int

    @property
    def row(self) -> RunRow:
        """As the store takes it, with the key where there is one."""
        request, key = self.request, self.key
        return RunRow(
            self.run_id,
            request.team,
            request.owner.issuer,
            request.owner.subject,
            request.context_id,
            request.text,
            orjson.dumps(dict(request.metadata), option=orjson.OPT_SORT_KEYS).decode(),
            request.digest,
            request.conversation,
            None if request.deadline is None else round(request.deadline * 1000),
            _BEGUN if self.begin else None,
            *((key.protocol, key.operation, key.key) if key is not None else (None, None, None)),
        )


def _create(connection: Connection, items: Sequence[New]) -> list[tuple[Run, bool] | ElfError]:
    outcomes: dict[str, tuple[Run, bool] | ElfError] = {}
    for holder in sorted({item.holder for item in items}, key=str):
        group = [item for item in items if item.holder == holder]
        added = connection.add_runs([item.row for item in group], holder)
        if holder is None and added:
            connection.notify((WORK,))
        undone: Counter[str] = Counter()
        # The last of a conversation first, because those are the ones too many.
        for item in reversed(group):
            row = added.get(item.run_id)
            conversation = item.request.conversation
            if row is None:
                outcomes[item.run_id] = _created_before(connection, item)
            elif not row.its_turn and row.waiting - undone[conversation] > item.waiting:
                outcomes[item.run_id] = crowded(item.waiting)
                _undo(connection, item)
                undone[conversation] += 1
            else:
                now = moment(row.created_at)
                held = row.its_turn and holder is not None
                state = RunState.WORKING if row.begun else RunState.QUEUED
                run = Run(item.run_id, item.request, state, int(row.begun), now, now, now, int(row.its_turn), held)
                outcomes[item.run_id] = run, True
    return [outcomes[item.run_id] for item in items]


def _undo(connection: Connection, item: New) -> None:
    connection.execute(_WAIT_NO_MORE, (item.request.conversation,))
    connection.execute("DELETE FROM runs WHERE id = ?", (item.run_id,))


def _created_before(connection: Connection, item: New) -> tuple[Run, bool] | ElfError:
    try:
        known = (
            find_known(connection, item.request, item.key, item.holder)
            if item.key is not None
            else find_run(connection, item.run_id, item.holder)
        )
    except Conflict as error:
        return error
    # What a key led to was compared by its digest, because its text may have been forgotten since.
    if known is None or (item.key is None and known.request != item.request):
        return Conflict(f"there is another run {item.run_id!r} already")
    # Its own id can only come from a commit whose answer got lost.
    return known, known.id == item.run_id


@dataclass(slots=True)
class Appended:
    """Events to be numbered and stored; `numbered` is how that was tried last.

    Attributes:
        taken: the run as it was seen, where nobody is to hold it before.
        kept: whether something was saved of it in this hold.
    """

    run_id: str
    rows: Sequence[tuple[str, str]]
    events: Sequence[Event]
    holder: str
    epoch: int | None
    park: bool = False
    taken: Run | None = None
    kept: bool = False
    outcome: Outcome | None = None
    numbered: list[EventRow] = field(default_factory=list)


@dataclass(slots=True)
class Outcome:
    """What was stored, where the run is now, and whether its turn went to another."""

    logged: tuple[LoggedEvent, ...]
    moved: MovedRow
    handed_on: bool = False


def _append(connection: Connection, items: Sequence[Appended]) -> list[Outcome | ElfError]:
    """Number the events of all items from the heads of their locked runs."""
    heads = connection.lock_runs({item.run_id for item in items})
    added: list[EventRow] = []
    moved: dict[str, MovedRow] = {}
    free: list[str] = []
    outcomes: list[Outcome | ElfError] = []
    for item in items:
        run = heads.get(item.run_id)
        if run is None:
            held = Retryable(f"the run {item.run_id!r} is held by another process; try again")
            outcomes.append(held if item.run_id in heads else refusal(item.run_id, None) or held)
            continue
        if item.outcome is not None and _is_stored(connection, item, run):
            outcomes.append(item.outcome)
            continue
        if refused := _refused(item, run):
            outcomes.append(refused)
            continue
        before, run = run, _moved(connection, item, run)
        item.numbered = [
            EventRow(run.id, seq, run.epoch, kind, data, run.now)
            for seq, (kind, data) in enumerate(item.rows, start=before.head + 1)
        ]
        heads[run.id] = run
        added += item.numbered
        moved[run.id] = MovedRow(run.id, run.head, run.state, run.holder, run.epoch, run.changed_at, run.now)
        # What waited for a person had no turn, and waited for none.
        parked = RunState(before.state).waits
        if run.holder is None and not parked and (item.taken is None or RunState(run.state).terminal):
            free.append(run.id)
        logged = tuple(
            LoggedEvent(row.run_id, row.seq, moment(row.at), event)
            for row, event in zip(item.numbered, item.events, strict=True)
        )
        item.outcome = Outcome(logged, moved[run.id])
        outcomes.append(item.outcome)
    if moved:
        kept = connection.add_events(added, list(moved.values()), free)
        for run_id in sorted(kept):
            _hand_on(connection, run_id)
        for item in items:
            if item.run_id in kept and item.outcome is not None:
                item.outcome.handed_on = True
        _add_usage(connection, outcomes)
        drop_checkpoints(connection, _without_use(items, moved))
    return outcomes


def _without_use(items: Sequence[Appended], moved: Mapping[str, MovedRow]) -> Iterator[str]:
    """Ended runs that may have checkpoints: something was saved in this hold, or in one before it."""
    for item in items:
        run = moved.get(item.run_id)
        if run is not None and RunState(run.state).terminal and (item.kept or run.epoch > 1):
            yield run.id


def _add_usage(connection: Connection, outcomes: Sequence[Outcome | ElfError]) -> None:
    """Keep what models used also apart from the events, because it outlives them."""
    rows: list[UsageRow] = []
    for outcome in outcomes:
        if isinstance(outcome, Outcome) and any(type(entry.event) is Usage for entry in outcome.logged):
            run = find_run(connection, outcome.moved.id)
            assert run is not None  # noqa: S101 - its row is locked
            rows += usage_rows(run, outcome.logged)
    if rows:
        add_usage(connection, rows)


def _refused(item: Appended, run: HeadRow) -> ElfError | None:
    if (ended := refusal(run.id, run)) is not None:
        return ended
    if item.taken is not None:
        free = run.holder is None and run.head == item.taken.head
        return None if free else moved_on(item.taken, run.head, held=run.holder is not None)
    if run.holder != item.holder or item.epoch not in (None, run.epoch):
        return stale(run.id)
    return None


def _moved(connection: Connection, item: Appended, run: HeadRow) -> HeadRow:
    """Where the run is after the item's events, and who holds it then."""
    state = next_state(run.state, item.events)
    holder, epoch = run.holder, run.epoch
    if item.taken is not None:
        epoch += 1
        if not RunState(state).terminal:
            conversation = item.taken.request.conversation
            connection.execute("UPDATE runs SET conversation = ? WHERE id = ?", (conversation, run.id))
            whose = connection.execute(_TURN, (conversation, run.id)).fetchone()
            holder = item.holder if whose == (run.id,) else None
    elif item.park or RunState(state).terminal:
        holder = None
    changed_at = run.now if state != run.state else run.changed_at
    return run._replace(head=run.head + len(item.rows), state=state, holder=holder, epoch=epoch, changed_at=changed_at)


def _hand_on(connection: Connection, run_id: str) -> None:
    """Give the turn of a run that has ended or waits for a person to the next of its conversation."""
    # Locked before anything is decided: at the same time the next may be cancelled, by another process.
    row = connection.execute(_LOCK_TURN, (run_id,)).fetchone()
    if row is None:
        return
    conversation, whose = row
    if whose != run_id:
        # It had no turn: it was one of those that wait.
        connection.execute(_WAIT_NO_MORE, (conversation,))
        return
    following = connection.execute(_NEXT, (conversation, run_id)).fetchone()
    if following is None:
        connection.execute("DELETE FROM turns WHERE conversation = ?", (conversation,))
        return
    connection.execute(
        "UPDATE turns SET run_id = ?, waiting = waiting - 1 WHERE conversation = ?", (*following, conversation)
    )
    connection.notify((WORK,))


def _is_stored(connection: Connection, item: Appended, run: HeadRow) -> bool:
    """Whether an earlier try was committed after all; the answer to a commit can get lost."""
    if not item.numbered or run.head < item.numbered[-1].seq:
        return False
    found = connection.execute(_STORED, (run.id, item.numbered[0].seq, item.numbered[-1].seq)).fetchall()
    return [EventRow(*row) for row in found] == item.numbered


CREATE: Final = Group(1, _create)
"""Makes runs, or finds those that the same keys made before."""
APPEND: Final = Group(2, _append)
"""Appends events to runs, and moves them on by these."""
