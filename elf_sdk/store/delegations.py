"""Work handed to other teams: what a person confirmed, and what became of it.

A confirmation writes the delegation and its place in the outbox in one transaction, so that nothing confirmed is
forgotten and nothing unconfirmed is sent. The delegation's id is also the id of its message, at each attempt.

One process at a time delivers it: who holds its place in the outbox, for as long as its lease is there. Another that
finds no lease any more takes the place, and what the one before still writes is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import orjson

from elf_sdk.errors import Conflict, NotFound
from elf_sdk.store.database import Connection, Store, moment

__all__ = ["Delegation", "DelegationState", "Delegations", "Delivery", "NotHeld"]


class NotHeld(Conflict):
    """This process does not deliver it, or not any more: another does, or it has ended."""


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


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delegation that this process has to deliver.

    Attributes:
        delegation: what is delivered.
        holder: whose lease it is delivered under.
        attempts: how often in a row nobody was reached.
        wait: seconds until the next attempt.
    """

    delegation: Delegation
    holder: str
    attempts: int = 0
    wait: float = 0.0


_FIELDS: Final = tuple(field.name for field in fields(Delegation))
_COLUMNS: Final = ", ".join(_FIELDS)
_CLAIMABLE: Final = (
    "(holder IS NULL OR holder = ? OR NOT EXISTS (SELECT 1 FROM leases WHERE leases.holder = outbox.holder))"
)
_OPEN: Final = (
    "SELECT delegation_id FROM outbox "  # noqa: S608 - constants only
    f"WHERE EXISTS (SELECT 1 FROM delegations WHERE id = delegation_id AND team = ?) AND {_CLAIMABLE} "
    "ORDER BY next_attempt_at"
)
_ONE_OPEN: Final = (
    "SELECT attempts, next_attempt_at - elf_now() FROM outbox "  # noqa: S608 - constants only
    f"WHERE delegation_id = ? AND {_CLAIMABLE}"
)
_GIVE_BACK: Final = (
    "UPDATE outbox SET holder = NULL WHERE holder = ? "
    "AND EXISTS (SELECT 1 FROM delegations WHERE id = delegation_id AND team = ?)"
)


class Delegations:
    """The delegations in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def confirm(self, delegation: Delegation, holder: str) -> tuple[Delegation, Delivery | None]:
        """Store a new delegation, for this process to deliver; the same one again gives the stored one.

        Args:
            delegation: what was confirmed.
            holder: this life of this process.

        Returns:
            What is stored, and the delivery where it is this process's; None where it is another's, or done.

        Raises:
            Conflict: the id was confirmed with another preview.
        """

        def change(connection: Connection) -> tuple[Delegation, Delivery | None]:
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
                    "INSERT INTO outbox (delegation_id, next_attempt_at, holder) VALUES (?, elf_now(), ?)",
                    (delegation.id, holder),
                )
            known = _known(connection, delegation.id)
            if known.preview_hash != delegation.preview_hash:
                raise Conflict(f"the delegation {delegation.id!r} was confirmed with another preview; look again")
            held = connection.execute(
                "SELECT 1 FROM outbox WHERE delegation_id = ? AND holder = ?", (delegation.id, holder)
            ).fetchone()
            return known, None if held is None else Delivery(known, holder)

        return await self._store.write(change)

    async def claim(self, team: str, holder: str, known: Collection[str], limit: int) -> tuple[Delivery, ...]:
        """Take up what a team has still to deliver and nobody with a lease does, what is due first.

        Args:
            team: who delegates.
            holder: this life of this process.
            known: ids of what this process delivers already.
            limit: how many at most.
        """
        if limit < 1:
            return ()
        found = await self._store.read(lambda connection: connection.execute(_OPEN, (team, holder)).fetchall())
        wanted = [delegation_id for (delegation_id,) in found if delegation_id not in known][:limit]

        def change(connection: Connection) -> tuple[Delivery, ...]:
            claimed: list[Delivery] = []
            for delegation_id in wanted:
                # Who is claiming or ending it right now is left alone.
                place = connection.execute(f"{_ONE_OPEN} {connection.skip_locked}", (delegation_id, holder)).fetchone()
                if place is not None:
                    connection.execute("UPDATE outbox SET holder = ? WHERE delegation_id = ?", (holder, delegation_id))
                    attempts, wait = place
                    claimed.append(Delivery(_known(connection, delegation_id), holder, attempts, max(wait / 1000, 0.0)))
            return tuple(claimed)

        return await self._store.write(change) if wanted else ()

    async def give_back(self, team: str, holder: str) -> None:
        """Leave what this process has not delivered for others to claim."""
        await self._store.write(lambda connection: connection.execute(_GIVE_BACK, (holder, team)))

    async def put_off(self, delivery: Delivery, attempts: int, delay: float) -> None:
        """Note that it is tried again in `delay` seconds, after so many attempts in a row that reached nobody.

        Raises:
            NotHeld: this process does not deliver it any more.
        """
        values = (attempts, round(delay * 1000), delivery.delegation.id, delivery.holder)

        def change(connection: Connection) -> None:
            put_off = connection.execute(
                "UPDATE outbox SET attempts = ?, next_attempt_at = elf_now() + ? "
                "WHERE delegation_id = ? AND holder = ? RETURNING delegation_id",
                values,
            ).fetchone()
            if put_off is None:
                raise _not_held(delivery.delegation.id)

        await self._store.write(change)

    async def get(self, delegation_id: str) -> Delegation | None:
        """The delegation, whoever owns it."""
        return await self._store.read(lambda connection: _one(connection, delegation_id))

    async def of_session(self, session_id: str) -> tuple[Delegation, ...]:
        """What was confirmed in a session, oldest first."""
        return await self._many("session_id = ?", session_id)

    async def update(
        self,
        delegation_id: str,
        state: DelegationState,
        holder: str,
        *,
        remote_task_id: str | None = None,
        result: str | None = None,
        error: str | None = None,
    ) -> Delegation:
        """Move a delegation on; what is None stays as it is. The end takes it out of the outbox.

        Raises:
            NotFound: there is no such delegation.
            NotHeld: another process than `holder` delivers it, or it has ended already in another way.
        """

        def change(connection: Connection) -> Delegation:
            known = _known(connection, delegation_id)
            if known.state.terminal:
                if known.state is state:
                    return known
                raise NotHeld(f"the delegation {delegation_id!r} has ended already as {known.state}")
            # Both lock the place, so that nobody claims it before this is committed.
            if state.terminal:
                place = "DELETE FROM outbox WHERE delegation_id = ? AND holder = ? RETURNING delegation_id"
            else:
                place = "UPDATE outbox SET attempts = 0 WHERE delegation_id = ? AND holder = ? RETURNING delegation_id"
            if connection.execute(place, (delegation_id, holder)).fetchone() is None:
                raise _not_held(delegation_id)
            connection.execute(
                "UPDATE delegations SET state = ?, remote_task_id = COALESCE(?, remote_task_id), "
                "result = COALESCE(?, result), error = COALESCE(?, error), updated_at = elf_now() WHERE id = ?",
                (state, remote_task_id, result, error, delegation_id),
            )
            return _known(connection, delegation_id)

        return await self._store.write(change)

    async def _many(self, where: str, value: str) -> tuple[Delegation, ...]:
        statement = f"SELECT {_COLUMNS} FROM delegations WHERE {where} ORDER BY created_at, id"  # noqa: S608 - constants only
        return await self._store.read(
            lambda connection: tuple(_delegation(row) for row in connection.execute(statement, (value,)))
        )


def _not_held(delegation_id: str) -> NotHeld:
    return NotHeld(f"the delegation {delegation_id!r} is not delivered by this process any more")


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
