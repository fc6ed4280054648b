"""Work handed to other teams: what a person confirmed, and what became of it.

A confirmation writes the delegation and its place in the outbox in one transaction, so that nothing confirmed is
forgotten and nothing unconfirmed is sent. The delegation's id is also the id of its message, at each attempt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import orjson

from elf_sdk.errors import Conflict, NotFound
from elf_sdk.store.database import Connection, Store, moment

__all__ = ["Delegation", "DelegationState", "Delegations"]


class DelegationState(StrEnum):
    """Where a delegation is. The last four are the end of it."""

    CONFIRMED = "confirmed"
    SENT = "sent"
    WORKING = "working"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"

    @property
    def terminal(self) -> bool:
        """Whether nothing more will happen."""
        return self in _TERMINAL


_TERMINAL: Final = frozenset(
    {DelegationState.FINISHED, DelegationState.FAILED, DelegationState.CANCELLED, DelegationState.REJECTED}
)


_UNSET: Final = moment(0)


@dataclass(frozen=True, slots=True)
class Delegation:
    """One delegation, as its row says.

    Attributes:
        id: unique; also the message id under which it is sent.
        team: who delegates.
        owner_issuer: with `owner_subject`, the person who confirmed.
        owner_subject: stable id at the issuer.
        session_id: where it was confirmed.
        run_id: the run that proposed it.
        proposal_id: the proposal in that run.
        target: the team that is to do it.
        preview: JSON, what was shown.
        preview_hash: over all that was shown; a second confirmation with another hash is a conflict.
        state: where it is.
        remote_task_id: the target's task, once known.
        result: the target's answer.
        error: why it failed, for a person.
        created_at: set by the store.
        updated_at: set by the store.
    """

    id: str
    team: str
    owner_issuer: str
    owner_subject: str
    session_id: str
    run_id: str
    proposal_id: str
    target: str
    preview: Mapping[str, Any]
    preview_hash: str
    state: DelegationState = DelegationState.CONFIRMED
    remote_task_id: str | None = None
    result: str | None = None
    error: str | None = None
    created_at: datetime = _UNSET
    updated_at: datetime = _UNSET


_FIELDS: Final = tuple(field.name for field in fields(Delegation))
_COLUMNS: Final = ", ".join(_FIELDS)
_NOT_TERMINAL: Final = "state NOT IN ('finished', 'failed', 'cancelled', 'rejected')"


class Delegations:
    """The delegations in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def confirm(self, delegation: Delegation) -> Delegation:
        """Store a new delegation and queue it for sending; the same one again gives the stored one.

        Raises:
            Conflict: the id was confirmed with another preview.
        """

        def change(connection: Connection) -> Delegation:
            added = connection.execute(
                f"INSERT INTO delegations ({_COLUMNS}) "  # noqa: S608 - constants only
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'confirmed', NULL, NULL, NULL, elf_now(), elf_now()) "
                "ON CONFLICT (id) DO NOTHING RETURNING id",
                (
                    delegation.id,
                    delegation.team,
                    delegation.owner_issuer,
                    delegation.owner_subject,
                    delegation.session_id,
                    delegation.run_id,
                    delegation.proposal_id,
                    delegation.target,
                    orjson.dumps(dict(delegation.preview), option=orjson.OPT_SORT_KEYS).decode(),
                    delegation.preview_hash,
                ),
            ).fetchone()
            if added is not None:
                connection.execute(
                    "INSERT INTO outbox (delegation_id, next_attempt_at) VALUES (?, elf_now())", (delegation.id,)
                )
            known = _known(connection, delegation.id)
            if known.preview_hash != delegation.preview_hash:
                raise Conflict(f"the delegation {delegation.id!r} was confirmed with another preview; look again")
            return known

        return await self._store.write(change)

    async def get(self, delegation_id: str) -> Delegation | None:
        """The delegation, whoever owns it."""
        return await self._store.read(lambda connection: _one(connection, delegation_id))

    async def of_session(self, session_id: str) -> tuple[Delegation, ...]:
        """What was confirmed in a session, oldest first."""
        return await self._many("session_id = ?", session_id)

    async def pending(self, team: str) -> tuple[Delegation, ...]:
        """What a team still has to send or to follow, oldest first; after a restart all of it is sent again."""
        return await self._many(f"team = ? AND {_NOT_TERMINAL}", team)

    async def update(
        self,
        delegation_id: str,
        state: DelegationState,
        *,
        remote_task_id: str | None = None,
        result: str | None = None,
        error: str | None = None,
    ) -> Delegation:
        """Move a delegation on; what is None stays as it is. The end takes it out of the outbox.

        Raises:
            Conflict: it has ended already in another way.
            NotFound: there is no such delegation.
        """

        def change(connection: Connection) -> Delegation:
            known = _known(connection, delegation_id)
            if known.state.terminal:
                if known.state is state:
                    return known
                raise Conflict(f"the delegation {delegation_id!r} has ended already as {known.state}")
            connection.execute(
                "UPDATE delegations SET state = ?, remote_task_id = COALESCE(?, remote_task_id), "
                "result = COALESCE(?, result), error = COALESCE(?, error), updated_at = elf_now() WHERE id = ?",
                (state, remote_task_id, result, error, delegation_id),
            )
            if state.terminal:
                connection.execute("DELETE FROM outbox WHERE delegation_id = ?", (delegation_id,))
            return _known(connection, delegation_id)

        return await self._store.write(change)

    async def _many(self, where: str, value: str) -> tuple[Delegation, ...]:
        statement = f"SELECT {_COLUMNS} FROM delegations WHERE {where} ORDER BY created_at, id"  # noqa: S608 - constants only
        return await self._store.read(
            lambda connection: tuple(_delegation(row) for row in connection.execute(statement, (value,)))
        )


def _known(connection: Connection, delegation_id: str) -> Delegation:
    found = _one(connection, delegation_id)
    if found is None:
        raise NotFound(f"there is no delegation {delegation_id!r}")
    return found


def _one(connection: Connection, delegation_id: str) -> Delegation | None:
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM delegations WHERE id = ?",  # noqa: S608 - constants only
        (delegation_id,),
    ).fetchone()
    return None if row is None else _delegation(row)


def _delegation(row: tuple[Any, ...]) -> Delegation:
    values = dict(zip(_FIELDS, row, strict=True))
    values["preview"] = orjson.loads(values["preview"])
    values["state"] = DelegationState(values["state"])
    for name in ("created_at", "updated_at"):
        values[name] = moment(values[name])
    return Delegation(**values)
