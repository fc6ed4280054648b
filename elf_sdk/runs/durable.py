"""The durable run log, on the store. What it has returned is on the disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from typing_extensions import override

from elf_sdk.runs.adapter import Owner
from elf_sdk.runs.events import Event, LoggedEvent, decode, encode, stored_kind
from elf_sdk.runs.log import (
    IdempotencyKey,
    Run,
    RunFilter,
    RunLog,
    RunRequest,
    RunState,
    Waiters,
    check_end,
    check_same,
    next_state,
    refusal,
)
from elf_sdk.store.sqlite import NOW, Store, moment

__all__ = ["DurableLog"]

_RUN: Final = "id, team, owner_issuer, owner_subject, context_id, text, metadata, state, head, created_at, updated_at"
_CREATE: Final = (
    "INSERT INTO runs (id, team, owner_issuer, owner_subject, context_id, text, metadata, digest, state, created_at, "  # noqa: S608 - constants only
    f"updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'queued', {NOW}, {NOW}) RETURNING created_at"
)
_KEY: Final = (
    "INSERT INTO idempotency_keys (team, owner_issuer, owner_subject, protocol, operation, key, run_id, digest, "
    "created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_KNOWN: Final = (
    "SELECT run_id, digest FROM idempotency_keys WHERE team = ? AND owner_issuer = ? AND owner_subject = ? "
    "AND protocol = ? AND operation = ? AND key = ?"
)
_MOVE: Final = (
    f"UPDATE runs SET head = head + ?, state = COALESCE(?, state), updated_at = {NOW} "  # noqa: S608 - constants only
    "WHERE id = ? AND head = COALESCE(?, head) AND state NOT IN ('finished', 'failed', 'cancelled') "
    "RETURNING head, updated_at, epoch"
)
_ADD: Final = "INSERT INTO events (run_id, seq, epoch, kind, data, at) VALUES (?, ?, ?, ?, ?, ?)"
_READ: Final = "SELECT seq, at, kind, data FROM events WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?"


class DurableLog(RunLog):
    """A `RunLog` that survives its process.

    Args:
        store: open already; others may use it too.
    """

    volatile = False

    def __init__(self, store: Store) -> None:
        self.waiters = Waiters()
        self._store = store

    @override
    async def create(self, run_id: str, request: RunRequest, key: IdempotencyKey | None) -> tuple[Run, bool]:
        metadata = orjson.dumps(dict(request.metadata), option=orjson.OPT_SORT_KEYS).decode()

        def change(connection: sqlite3.Connection) -> tuple[Run, bool]:
            if key is not None:
                known = _known(connection, request, key)
                if known is not None:
                    return known, False
            owner = (request.team, request.owner.issuer, request.owner.subject)
            (created,) = connection.execute(
                _CREATE, (run_id, *owner, request.context_id, request.text, metadata, request.digest)
            ).fetchone()
            if key is not None:
                connection.execute(
                    _KEY, (*owner, key.protocol, key.operation, key.key, run_id, request.digest, created)
                )
            now = moment(created)
            return Run(run_id, request, RunState.QUEUED, 0, now, now), True

        return await self._store.write(change)

    @override
    async def find(self, request: RunRequest, key: IdempotencyKey) -> Run | None:
        return await self._store.read(lambda connection: _known(connection, request, key))

    @override
    async def append(self, run_id: str, events: Sequence[Event], head: int | None = None) -> tuple[LoggedEvent, ...]:
        rows = [(stored_kind(event), encode(event).decode()) for event in events]
        stored = [decode(kind, data) for kind, data in rows]
        check_end(run_id, stored)
        state = next_state(None, stored)

        def change(connection: sqlite3.Connection) -> tuple[LoggedEvent, ...]:
            moved = connection.execute(_MOVE, (len(rows), state, run_id, head)).fetchone()
            if moved is None:
                raise refusal(run_id, _get(connection, run_id))
            last, at, epoch = moved
            first = last - len(rows) + 1
            connection.executemany(
                _ADD, [(run_id, seq, epoch, kind, data, at) for seq, (kind, data) in enumerate(rows, start=first)]
            )
            when = moment(at)
            return tuple(LoggedEvent(run_id, seq, when, event) for seq, event in enumerate(stored, start=first))

        return await self._store.write(change, lambda _: self.waiters.notify(run_id, state))

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


def _known(connection: sqlite3.Connection, request: RunRequest, key: IdempotencyKey) -> Run | None:
    owner = request.owner
    known = connection.execute(
        _KNOWN, (request.team, owner.issuer, owner.subject, key.protocol, key.operation, key.key)
    ).fetchone()
    if known is None:
        return None
    run_id, digest = known
    check_same(key, digest, request)
    return _get(connection, run_id)


def _get(connection: sqlite3.Connection, run_id: str) -> Run | None:
    row = connection.execute(f"SELECT {_RUN} FROM runs WHERE id = ?", (run_id,)).fetchone()  # noqa: S608 - constants only
    return None if row is None else _run(row)


def _run(row: tuple[Any, ...]) -> Run:
    run_id, team, issuer, subject, context_id, text, metadata, state, head, created, updated = row
    request = RunRequest(team, Owner(issuer, subject), context_id, text, orjson.loads(metadata))
    return Run(run_id, request, RunState(state), head, moment(created), moment(updated))
