"""The durable run log, on the store. What it has returned is on the disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final

import orjson
from typing_extensions import override

from elf_sdk.errors import Conflict, ElfError, Retryable
from elf_sdk.runs.adapter import Owner
from elf_sdk.runs.checkpoints import Checkpoints
from elf_sdk.runs.compaction import decode_rest
from elf_sdk.runs.durable_checkpoints import DurableCheckpoints, drop_checkpoints
from elf_sdk.runs.events import Event, LoggedEvent, Started, Usage, decode, encode, stored_kind
from elf_sdk.runs.lease import Lease
from elf_sdk.runs.log import (
    WORK,
    IdempotencyKey,
    Place,
    Run,
    RunFilter,
    RunLog,
    RunPage,
    RunRequest,
    RunState,
    check_end,
    check_same,
    crowded,
    goes_on,
    moved_on,
    next_state,
    refusal,
    stale,
)
from elf_sdk.runs.recent import Recent
from elf_sdk.runs.usage import usage_rows
from elf_sdk.store.database import Connection, EventRow, Group, HeadRow, MovedRow, RunRow, Store, milliseconds, moment
from elf_sdk.store.usage import UsageRow, add_usage

__all__ = ["DurableLog"]

_RUN: Final = (
    "id, team, owner_issuer, owner_subject, context_id, text, metadata, deadline, state, head, created_at, updated_at, "
    "changed_at, epoch, holder"
)
_KEPT: Final = "compacted < 2"
"""Without the runs of which only what a key needs is left."""
_KNOWN: Final = (
    "SELECT run_id, digest FROM idempotency_keys WHERE team = ? AND owner_issuer = ? AND owner_subject = ? "
    "AND protocol = ? AND operation = ? AND key = ?"
)
_READ: Final = "SELECT seq, at, kind, data FROM events WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?"
_STORED: Final = (
    "SELECT run_id, seq, epoch, kind, data, at FROM events WHERE run_id = ? AND seq BETWEEN ? AND ? ORDER BY seq"
)
_CLAIMABLE: Final = (
    "FROM runs WHERE team = ? AND holder IS NULL AND state IN ('queued', 'working') "
    "AND EXISTS (SELECT 1 FROM turns WHERE turns.run_id = runs.id)"
)
_CLAIMED: Final = f"SELECT id {_CLAIMABLE} ORDER BY number LIMIT ?"
_MINE: Final = f"SELECT {_RUN} FROM runs WHERE id = ? AND holder = ?"  # noqa: S608 - constants only
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
_RELEASE: Final = (
    "UPDATE runs SET holder = NULL, epoch = epoch + 1, state = COALESCE(?, state), changed_at = elf_now() "
    "WHERE id = ? AND holder = ? AND epoch = ? RETURNING id"
)
_BEGUN: Final = encode(Started()).decode()
_COMMANDS: Final = (
    "SELECT run_id, kind, data FROM commands WHERE run_id IN (SELECT id FROM runs WHERE holder = ?) ORDER BY number"
)


_ALMOST: Final = timedelta(microseconds=999)


class DurableLog(RunLog):
    """A `RunLog` that survives its process.

    Args:
        store: open already; others may use it too.
    """

    volatile = False

    def __init__(self, store: Store) -> None:
        self.waiters = store.waiters
        self.shared = store.shared
        self.lease = Lease(store, lambda: self.waiters.notify((WORK, self.holder)))
        self._store = store
        self._recent = Recent()
        # Runs of which something was saved here.
        self._kept: set[str] = set()
        self.lease.watch(self._recent.forget_held)

    @property
    @override
    def holder(self) -> str:
        return self.lease.holder

    async def open(self) -> None:
        """Begin to hold a lease, without which others would take away what this process holds.

        Raises:
            Retryable: the database is away.
        """
        await self.lease.open()

    async def close(self) -> None:
        """Let go of all that is still held, for others to claim."""
        await self.lease.close()

    @override
    def watch(self, alarm: Callable[[], None]) -> Callable[[], None]:
        return self.lease.watch(alarm)

    @override
    def guard(self, alarm: Callable[[], None]) -> Callable[[], None]:
        return self.lease.guard(alarm)

    @override
    async def create(
        self,
        run_id: str,
        request: RunRequest,
        key: IdempotencyKey | None,
        *,
        hold: bool = True,
        begin: bool = False,
        waiting: int = 10,
    ) -> tuple[Run, bool]:
        holder = self.holder
        item = _New(run_id, request, key, holder if hold else None, begin and hold, waiting)
        run, created = await self._store.join(_CREATE, item)
        run = self._still(run, holder)
        if run.held and created:
            begun = (LoggedEvent(run_id, 1, run.created_at, Started()),) if run.head == 1 else ()
            self._recent.add(run, begun)
        return run, created

    @override
    async def find(self, request: RunRequest, key: IdempotencyKey) -> Run | None:
        return await self._store.read(lambda connection: _known(connection, request, key))

    @override
    async def append(
        self, run_id: str, events: Sequence[Event], *, epoch: int | None = None, park: bool = False
    ) -> tuple[LoggedEvent, ...]:
        rows = [(stored_kind(event), encode(event).decode()) for event in events]
        stored = [decode(kind, data) for kind, data in rows]
        check_end(run_id, stored)
        item = _Appended(run_id, rows, stored, self.holder, epoch, park, kept=run_id in self._kept)
        self._recent.send(run_id)
        try:
            outcome = await self._store.join(_APPEND, item, self._stored)
        except BaseException:
            # Refused, the run is somebody else's; cancelled, it is stored all the same, and nobody waits to hear when.
            self._recent.forget(run_id)
            raise
        return outcome.logged

    @override
    async def take(self, run: Run, event: Event) -> Run:
        row = (stored_kind(event), encode(event).decode())
        holder = self.holder
        item = _Appended(run.id, [row], [decode(*row)], holder, None, taken=run)
        outcome = await self._store.join(_APPEND, item, self._stored)
        taken = Run(
            run.id,
            run.request,
            RunState(outcome.moved.state),
            outcome.moved.head,
            run.created_at,
            moment(outcome.moved.at),
            moment(outcome.moved.changed_at),
            outcome.moved.epoch,
            outcome.moved.holder is not None,
        )
        taken = self._still(taken, holder)
        if taken.held:
            self._recent.add(taken)
        return taken

    def _still(self, run: Run, holder: str) -> Run:
        """The run, held only if this process's life is still the one that began to hold it."""
        return run if holder == self.holder else replace(run, held=False)

    def _stored(self, outcome: _Outcome) -> None:
        """Tell who waits here of what was committed."""
        moved = outcome.moved
        if moved.holder is None:
            self._kept.discard(moved.id)
        if outcome.logged:
            self._recent.extend(moved.id, outcome.logged, let_go=moved.holder is None)
        self.waiters.notify((moved.id,), works=goes_on(next_state(None, [logged.event for logged in outcome.logged])))
        if outcome.handed_on:
            self.waiters.notify((WORK,))

    @override
    async def claim(self, team: str, limit: int) -> tuple[Run, ...]:
        holder = self.holder

        tried: dict[str, None] = {}

        def change(connection: Connection) -> tuple[Run, ...]:
            found = connection.execute(f"{_CLAIMED} {connection.skip_locked}", (team, limit)).fetchall()
            for (run_id,) in found:
                connection.execute("UPDATE runs SET holder = ?, epoch = epoch + 1 WHERE id = ?", (holder, run_id))
                tried[run_id] = None
            # With them, what an earlier try has claimed, when the answer to its commit got lost.
            rows = [connection.execute(_MINE, (run_id, holder)).fetchone() for run_id in tried]
            return tuple(_run(row, holder) for row in rows if row is not None)

        free = f"SELECT 1 {_CLAIMABLE} LIMIT 1"
        # Who may have lost its lease would claim what it believes to hold.
        if (
            limit < 1
            or not self.lease.valid
            or await self._store.read(lambda connection: connection.execute(free, (team,)).fetchone()) is None
        ):
            return ()
        runs = await self._store.write(change)
        if holder != self.holder:
            return ()
        for run in runs:
            self._recent.add(run)
        return runs

    @override
    async def release(self, run: Run, *, unstarted: bool = False) -> None:
        state = RunState.QUEUED if unstarted else None
        values = (state, run.id, self.holder, run.epoch)

        def change(connection: Connection) -> None:
            if connection.execute(_RELEASE, values).fetchone() is None:
                raise stale(run.id)
            connection.notify((WORK, run.id))

        self._recent.forget(run.id)
        self._kept.discard(run.id)
        await self._store.write(change, lambda _: self.waiters.notify((WORK, run.id)))

    @override
    def checkpoints(self, run: Run) -> Checkpoints:
        return DurableCheckpoints(self._store, run.id, self.holder, run.epoch, self._kept)

    @override
    async def command(self, run: Run, event: Event) -> None:
        values = (run.id, stored_kind(event), encode(event).decode())

        def change(connection: Connection) -> str | None:
            row = connection.execute("SELECT holder, state FROM runs WHERE id = ?", (run.id,)).fetchone()
            if row is None or RunState(row[1]).terminal:
                return None
            connection.execute(
                "INSERT INTO commands (run_id, kind, data, created_at) VALUES (?, ?, ?, elf_now())", values
            )
            holder: str | None = row[0]
            connection.notify((holder or WORK,))
            return holder

        await self._store.write(change, lambda holder: self.waiters.notify((holder or WORK,)))

    @override
    async def commands(self) -> tuple[tuple[str, Event], ...]:
        found = await self._store.read(lambda connection: connection.execute(_COMMANDS, (self.holder,)).fetchall())
        return tuple((run_id, decode(kind, data)) for run_id, kind, data in found)

    @override
    async def read(
        self, run_id: str, after: int = 0, limit: int = 1000, *, lately: bool = False
    ) -> tuple[LoggedEvent, ...]:
        kept = self._recent.read(run_id, after, limit, held=self.lease.valid, lately=lately)
        if kept is not None:
            return kept
        return await self._store.read(
            lambda connection: tuple(
                LoggedEvent(run_id, seq, moment(at), decode_rest(kind, data, seq, after))
                for seq, at, kind, data in connection.execute(_READ, (run_id, after, limit))
            )
        )

    @override
    async def get(self, run_id: str, *, lately: bool = False) -> Run | None:
        kept = self._recent.get(run_id, held=self.lease.valid, lately=lately)
        return kept or await self._store.read(lambda connection: _get(connection, run_id, self.holder))

    @override
    async def list(self, which: RunFilter, limit: int = 100) -> tuple[Run, ...]:
        fits, values = _fits(which)
        statement = f"SELECT {_RUN} FROM runs WHERE {fits} ORDER BY number DESC LIMIT ?"  # noqa: S608 - values are bound
        return await self._store.read(
            lambda connection: tuple(_run(row, self.holder) for row in connection.execute(statement, (*values, limit)))
        )

    @override
    async def page(self, which: RunFilter, limit: int, before: Place | None = None) -> RunPage:
        fits, values = _fits(which)
        behind = "" if before is None else "AND (changed_at, number) < (?, ?)"
        statement = (
            f"SELECT changed_at, number, {_RUN} FROM runs WHERE {fits} {behind} "  # noqa: S608 - values are bound
            "ORDER BY changed_at DESC, number DESC LIMIT ?"
        )
        total = f"SELECT COUNT(*) FROM runs WHERE {fits}"  # noqa: S608 - values are bound

        def read(connection: Connection) -> RunPage:
            rows = connection.execute(statement, (*values, *(before or ()), limit + 1)).fetchall()
            (number,) = connection.execute(total, values).fetchone()
            last = Place(*rows[limit - 1][:2]) if len(rows) > limit else None
            return RunPage(tuple(_run(row[2:], self.holder) for row in rows[:limit]), number, last)

        return await self._store.read(read)

    @override
    async def count(self, team: str) -> Mapping[RunState, int]:
        statement = f"SELECT state, COUNT(*) FROM runs WHERE team = ? AND {_KEPT} GROUP BY state"  # noqa: S608 - constants only
        return await self._store.read(
            lambda connection: {RunState(state): count for state, count in connection.execute(statement, (team,))}
        )


def _fits(which: RunFilter) -> tuple[str, list[Any]]:
    """A condition for rows of `runs`, and its values."""
    conditions, values = ["team = ?", _KEPT], list[Any]([which.team])
    if which.owner is not None:
        conditions += ["owner_issuer = ?", "owner_subject = ?"]
        values += [which.owner.issuer, which.owner.subject]
    if which.context_id is not None:
        conditions.append("context_id = ?")
        values.append(which.context_id)
    if which.states is not None:
        # No state at all fits no run.
        conditions.append(f"state IN ({', '.join('?' * len(which.states))})" if which.states else "1 = 0")
        values += sorted(which.states)
    if which.changed_since is not None:
        conditions.append("changed_at >= ?")
        # What is stored has whole milliseconds, so the next one is as good.
        values.append(milliseconds(which.changed_since + _ALMOST))
    return " AND ".join(conditions), values


@dataclass(frozen=True, slots=True)
class _New:
    """A run to be made; without a holder, for others to claim."""

    run_id: str
    request: RunRequest
    key: IdempotencyKey | None
    holder: str | None
    begin: bool
    waiting: int

    @property
    def row(self) -> RunRow:
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


def _create(connection: Connection, items: Sequence[_New]) -> list[tuple[Run, bool] | ElfError]:
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


def _undo(connection: Connection, item: _New) -> None:
    connection.execute(_WAIT_NO_MORE, (item.request.conversation,))
    connection.execute("DELETE FROM runs WHERE id = ?", (item.run_id,))


def _created_before(connection: Connection, item: _New) -> tuple[Run, bool] | ElfError:
    try:
        known = (
            _known(connection, item.request, item.key, item.holder)
            if item.key is not None
            else _get(connection, item.run_id, item.holder)
        )
    except Conflict as error:
        return error
    # What a key led to was compared by its digest, because its text may have been forgotten since.
    if known is None or (item.key is None and known.request != item.request):
        return Conflict(f"there is another run {item.run_id!r} already")
    # Its own id can only come from a commit whose answer got lost.
    return known, known.id == item.run_id


@dataclass(slots=True)
class _Appended:
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
    outcome: _Outcome | None = None
    numbered: list[EventRow] = field(default_factory=list)


@dataclass(slots=True)
class _Outcome:
    """What was stored, where the run is now, and whether its turn went to another."""

    logged: tuple[LoggedEvent, ...]
    moved: MovedRow
    handed_on: bool = False


def _append(connection: Connection, items: Sequence[_Appended]) -> list[_Outcome | ElfError]:
    """Number the events of all items from the heads of their locked runs."""
    heads = connection.lock_runs({item.run_id for item in items})
    added: list[EventRow] = []
    moved: dict[str, MovedRow] = {}
    free: list[str] = []
    outcomes: list[_Outcome | ElfError] = []
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
        item.outcome = _Outcome(logged, moved[run.id])
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


def _without_use(items: Sequence[_Appended], moved: Mapping[str, MovedRow]) -> Iterator[str]:
    """Ended runs that may have checkpoints: something was saved in this hold, or in one before it."""
    for item in items:
        run = moved.get(item.run_id)
        if run is not None and RunState(run.state).terminal and (item.kept or run.epoch > 1):
            yield run.id


def _add_usage(connection: Connection, outcomes: Sequence[_Outcome | ElfError]) -> None:
    """Keep what models used also apart from the events, because it outlives them."""
    rows: list[UsageRow] = []
    for outcome in outcomes:
        if isinstance(outcome, _Outcome) and any(type(entry.event) is Usage for entry in outcome.logged):
            run = _get(connection, outcome.moved.id)
            assert run is not None  # noqa: S101 - its row is locked
            rows += usage_rows(run, outcome.logged)
    if rows:
        add_usage(connection, rows)


def _refused(item: _Appended, run: HeadRow) -> ElfError | None:
    if (ended := refusal(run.id, run)) is not None:
        return ended
    if item.taken is not None:
        free = run.holder is None and run.head == item.taken.head
        return None if free else moved_on(item.taken, run.head, held=run.holder is not None)
    if run.holder != item.holder or item.epoch not in (None, run.epoch):
        return stale(run.id)
    return None


def _moved(connection: Connection, item: _Appended, run: HeadRow) -> HeadRow:
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


_CREATE: Final = Group(1, _create)
_APPEND: Final = Group(2, _append)


def _is_stored(connection: Connection, item: _Appended, run: HeadRow) -> bool:
    """Whether an earlier try was committed after all; the answer to a commit can get lost."""
    if not item.numbered or run.head < item.numbered[-1].seq:
        return False
    found = connection.execute(_STORED, (run.id, item.numbered[0].seq, item.numbered[-1].seq)).fetchall()
    return [EventRow(*row) for row in found] == item.numbered


def _known(connection: Connection, request: RunRequest, key: IdempotencyKey, holder: str | None = None) -> Run | None:
    owner = request.owner
    known = connection.execute(
        _KNOWN, (request.team, owner.issuer, owner.subject, key.protocol, key.operation, key.key)
    ).fetchone()
    if known is None:
        return None
    run_id, digest = known
    check_same(key, digest, request)
    return _get(connection, run_id, holder)


def _get(connection: Connection, run_id: str, holder: str | None = None) -> Run | None:
    row = connection.execute(f"SELECT {_RUN} FROM runs WHERE id = ?", (run_id,)).fetchone()  # noqa: S608 - constants only
    return None if row is None else _run(row, holder)


def _run(row: tuple[Any, ...], holder: str | None) -> Run:
    run_id, team, issuer, subject, context_id, text, metadata, deadline, state, head, *times, epoch, held_by = row
    created, updated, changed = map(moment, times)
    request = RunRequest(
        team,
        Owner(issuer, subject),
        context_id,
        text,
        orjson.loads(metadata),
        None if deadline is None else deadline / 1000,
    )
    held = held_by is not None and held_by == holder
    return Run(run_id, request, RunState(state), head, created, updated, changed, epoch, held)
