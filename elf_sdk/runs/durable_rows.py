"""Runs as rows of the store: how one is found and read, and which of them a filter means."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import orjson

from elf_sdk.runs.adapter import Owner
from elf_sdk.runs.log import IdempotencyKey, Run, RunFilter, RunRequest, RunState, check_same
from elf_sdk.store.database import Connection, milliseconds, moment

__all__ = ["KEPT", "RUN", "condition", "find_known", "find_run", "run_of"]

RUN: Final = (
    "id, team, owner_issuer, owner_subject, context_id, text, metadata, deadline, state, head, created_at, updated_at, "
    "changed_at, epoch, holder"
)
"""Columns of `runs`, as `run_of` reads them."""
KEPT: Final = "compacted < 2"
"""Without the runs of which only what a key needs is left."""
_KNOWN: Final = (
    "SELECT run_id, digest FROM idempotency_keys WHERE team = ? AND owner_issuer = ? AND owner_subject = ? "
    "AND protocol = ? AND operation = ? AND key = ?"
)
_ALMOST: Final = timedelta(microseconds=999)
"""Rounds a moment up to the next millisecond."""


def condition(which: RunFilter) -> tuple[str, list[Any]]:
    """A condition for rows of `runs`, and its values."""
    conditions, values = ["team = ?", KEPT], list[Any]([which.team])
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


def find_known(
    connection: Connection, request: RunRequest, key: IdempotencyKey, holder: str | None = None
) -> Run | None:
    """The run that the key led to before; None where it is new.

    Raises:
        Conflict: that was for another request.
    """
    owner = request.owner
    known = connection.execute(
        _KNOWN, (request.team, owner.issuer, owner.subject, key.protocol, key.operation, key.key)
    ).fetchone()
    if known is None:
        return None
    run_id, digest = known
    check_same(key, digest, request)
    return find_run(connection, run_id, holder)


def find_run(connection: Connection, run_id: str, holder: str | None = None) -> Run | None:
    """The run of this id, held where `holder` holds it."""
    row = connection.execute(f"SELECT {RUN} FROM runs WHERE id = ?", (run_id,)).fetchone()  # noqa: S608 - constants only
    return None if row is None else run_of(row, holder)


def run_of(row: tuple[Any, ...], holder: str | None) -> Run:
    """A row with the columns `RUN` as a run, held where `holder` holds it."""
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
