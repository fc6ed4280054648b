"""The durable run log, on the store. What it has returned is on the disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from typing_extensions import override

from elf_sdk.errors import Conflict, ElfError, Retryable
from elf_sdk.runs.adapter import Owner
from elf_sdk.runs.events import Event, LoggedEvent, decode, encode, stored_kind
from elf_sdk.runs.log import (
    IdempotencyKey,
    Run,
    RunFilter,
    RunLog,
    RunRequest,
    RunState,
    check_end,
    check_same,
    goes_on,
    next_state,
    refusal,
)
from elf_sdk.store.database import Connection, EventRow, Group, HeadRow, MovedRow, RunRow, Store, moment

__all__ = ["DurableLog"]

_RUN: Final = "id, team, owner_issuer, owner_subject, context_id, text, metadata, state, head, created_at, updated_at"
_KNOWN: Final = (
    "SELECT run_id, digest FROM idempotency_keys WHERE team = ? AND owner_issuer = ? AND owner_subject = ? "
    "AND protocol = ? AND operation = ? AND key = ?"
)
_READ: Final = "SELECT seq, at, kind, data FROM events WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?"
_STORED: Final = (
    "SELECT run_id, seq, epoch, kind, data, at FROM events WHERE run_id = ? AND seq BETWEEN ? AND ? ORDER BY seq"
)


class DurableLog(RunLog):
    """A `RunLog` that survives its process.

    Args:
        store: open already; others may use it too.
    """

    volatile = False

    def __init__(self, store: Store) -> None:
        self.waiters = store.waiters
        self._store = store

    @override
    async def claim(self, team: str) -> None:
        await self._store.claim(team)

    @override
    async def create(self, run_id: str, request: RunRequest, key: IdempotencyKey | None) -> tuple[Run, bool]:
        return await self._store.join(_CREATE, _New(run_id, request, key))

    @override
    async def find(self, request: RunRequest, key: IdempotencyKey) -> Run | None:
        return await self._store.read(lambda connection: _known(connection, request, key))

    @override
    async def append(self, run_id: str, events: Sequence[Event], head: int | None = None) -> tuple[LoggedEvent, ...]:
        rows = [(stored_kind(event), encode(event).decode()) for event in events]
        stored = [decode(kind, data) for kind, data in rows]
        check_end(run_id, stored)
        item = _Appended(run_id, rows, stored, head)
        works = goes_on(next_state(None, stored))
        return await self._store.join(_APPEND, item, lambda _: self.waiters.notify((run_id,), works=works))

    @override
    async def read(self, run_id: str, after: int = 0, limit: int = 1000) -> tuple[LoggedEvent, ...]:
        return await self._store.read(
            lambda connection: tuple(
                LoggedEvent(run_id, seq, moment(at), decode(kind, data))
                for seq, at, kind, data in connection.execute(_READ, (run_id, after, limit))
            )
        )

    @override
    async def get(self, run_id: str) -> Run | None:
        return await self._store.read(lambda connection: _get(connection, run_id))

    @override
    async def list(self, which: RunFilter, limit: int = 100) -> tuple[Run, ...]:
        conditions, values = ["team = ?"], [which.team]
        if which.owner is not None:
            conditions += ["owner_issuer = ?", "owner_subject = ?"]
            values += [which.owner.issuer, which.owner.subject]
        if which.context_id is not None:
            conditions.append("context_id = ?")
            values.append(which.context_id)
        if which.states is not None and not which.states:
            return ()
        if which.states is not None:
            conditions.append(f"state IN ({', '.join('?' * len(which.states))})")
            values += sorted(which.states)
        statement = f"SELECT {_RUN} FROM runs WHERE {' AND '.join(conditions)} ORDER BY number DESC LIMIT ?"  # noqa: S608 - values are bound
        return await self._store.read(
            lambda connection: tuple(_run(row) for row in connection.execute(statement, (*values, limit)))
        )

    @override
    async def count(self, team: str) -> Mapping[RunState, int]:
        statement = "SELECT state, COUNT(*) FROM runs WHERE team = ? GROUP BY state"
        return await self._store.read(
            lambda connection: {RunState(state): count for state, count in connection.execute(statement, (team,))}
        )


@dataclass(frozen=True, slots=True)
class _New:
    """A run to be made."""

    run_id: str
    request: RunRequest
    key: IdempotencyKey | None

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
            *((key.protocol, key.operation, key.key) if key is not None else (None, None, None)),
        )


def _create(connection: Connection, items: Sequence[_New]) -> list[tuple[Run, bool] | ElfError]:
    added = connection.add_runs([item.row for item in items])
    return [_created(connection, item, added.get(item.run_id)) for item in items]


def _created(connection: Connection, item: _New, created: int | None) -> tuple[Run, bool] | ElfError:
    if created is not None:
        now = moment(created)
        return Run(item.run_id, item.request, RunState.QUEUED, 0, now, now), True
    try:
        known = _known(connection, item.request, item.key) if item.key is not None else _get(connection, item.run_id)
    except Conflict as error:
        return error
    if known is None or known.request != item.request:
        return Conflict(f"there is another run {item.run_id!r} already")
    # Its own id can only come from a commit whose answer got lost.
    return known, known.id == item.run_id


@dataclass(slots=True)
class _Appended:
    """Events to be numbered and stored; `numbered` is how that was tried last."""

    run_id: str
    rows: Sequence[tuple[str, str]]
    events: Sequence[Event]
    head: int | None
    numbered: list[EventRow] = field(default_factory=list)


def _append(connection: Connection, items: Sequence[_Appended]) -> list[tuple[LoggedEvent, ...] | ElfError]:
    """Number the events of all items from the heads of their locked runs."""
    heads = connection.lock_runs({item.run_id for item in items})
    added: list[EventRow] = []
    moved: dict[str, MovedRow] = {}
    outcomes: list[tuple[LoggedEvent, ...] | ElfError] = []
    for item in items:
        run = heads.get(item.run_id)
        if run is None:
            held = Retryable(f"the run {item.run_id!r} is held by another process; try again")
            outcomes.append(held if item.run_id in heads else refusal(item.run_id, None))
            continue
        if _is_stored(connection, item, run):
            outcomes.append(_logged(item))
            continue
        if RunState(run.state).terminal or item.head not in (None, run.head):
            outcomes.append(refusal(run.id, run))
            continue
        item.numbered = [
            EventRow(run.id, seq, run.epoch, kind, data, run.now)
            for seq, (kind, data) in enumerate(item.rows, start=run.head + 1)
        ]
        run = run._replace(head=run.head + len(item.rows), state=next_state(run.state, item.events))
        heads[run.id] = run
        added += item.numbered
        moved[run.id] = MovedRow(run.id, run.head, run.state, run.now)
        outcomes.append(_logged(item))
    if moved:
        connection.add_events(added, list(moved.values()))
    return outcomes


_CREATE: Final = Group(1, _create)
_APPEND: Final = Group(2, _append)


def _is_stored(connection: Connection, item: _Appended, run: HeadRow) -> bool:
    """Whether an earlier try was committed after all; the answer to a commit can get lost."""
    if not item.numbered or run.head < item.numbered[-1].seq:
        return False
    found = connection.execute(_STORED, (run.id, item.numbered[0].seq, item.numbered[-1].seq)).fetchall()
    return [EventRow(*row) for row in found] == item.numbered


def _logged(item: _Appended) -> tuple[LoggedEvent, ...]:
    return tuple(
        LoggedEvent(row.run_id, row.seq, moment(row.at), event)
        for row, event in zip(item.numbered, item.events, strict=True)
    )


def _known(connection: Connection, request: RunRequest, key: IdempotencyKey) -> Run | None:
    owner = request.owner
    known = connection.execute(
        _KNOWN, (request.team, owner.issuer, owner.subject, key.protocol, key.operation, key.key)
    ).fetchone()
    if known is None:
        return None
    run_id, digest = known
    check_same(key, digest, request)
    return _get(connection, run_id)


def _get(connection: Connection, run_id: str) -> Run | None:
    row = connection.execute(f"SELECT {_RUN} FROM runs WHERE id = ?", (run_id,)).fetchone()  # noqa: S608 - constants only
    return None if row is None else _run(row)


def _run(row: tuple[Any, ...]) -> Run:
    run_id, team, issuer, subject, context_id, text, metadata, state, head, created, updated = row
    request = RunRequest(team, Owner(issuer, subject), context_id, text, orjson.loads(metadata))
    return Run(run_id, request, RunState(state), head, moment(created), moment(updated))
