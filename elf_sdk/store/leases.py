"""The leases in a store: which processes live, by the database's own clock.

One row a life of a process, not one a run. A process renews its lease each second; when it could not for a while the
lease runs out, and then whoever notices takes it away together with all that the process held. As long as nobody did, a
lease that ran out may still be renewed: a database that was away for all of them changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from elf_sdk.store.database import Connection, Group, Store

__all__ = ["Leases"]

_ENLIST: Final = (
    "INSERT INTO leases (holder, name, started_at, expires_at) VALUES (?, ?, elf_now(), elf_now() + ?) "
    "ON CONFLICT (holder) DO NOTHING"
)
_RENEW: Final = "UPDATE leases SET expires_at = elf_now() + ? WHERE holder = ? RETURNING holder"
_DEAD: Final = "SELECT holder FROM leases WHERE expires_at < elf_now() AND elf_uptime() > ? AND holder <> ?"
_ORPHANED: Final = (
    "SELECT DISTINCT holder FROM runs WHERE holder IS NOT NULL AND holder <> ? "
    "AND NOT EXISTS (SELECT 1 FROM leases WHERE leases.holder = runs.holder)"
)
_TAKE_AWAY: Final = "UPDATE runs SET holder = NULL, epoch = epoch + 1 WHERE holder = ?"


class Leases:
    """The leases in a store.

    Args:
        store: open while any method runs.
        holder: whose lease this process keeps: one life of it, never used again.
        name: for people who look at the table.
        ttl: milliseconds for which a lease holds after it was renewed.
    """

    def __init__(self, store: Store, holder: str, name: str, ttl: int) -> None:
        self._store = store
        self._holder = holder
        self._name = name
        self._ttl = ttl

    async def enlist(self) -> None:
        """Begin to hold the lease."""
        await self._store.write(lambda connection: connection.execute(_ENLIST, (self._holder, self._name, self._ttl)))

    async def renew(self) -> bool:
        """Hold it for longer; False where somebody took it away."""
        return await self._store.join(_RENEWALS, (self._ttl, self._holder))

    async def retire(self) -> None:
        """Give it back, with all that is still held by it."""

        def change(connection: Connection) -> None:
            _take_away(connection, self._holder)

        await self._store.write(change)

    async def evict(self) -> None:
        """Take away all leases but this one, because nobody else can be alive."""

        def change(connection: Connection) -> None:
            others = connection.execute("SELECT holder FROM leases WHERE holder <> ?", (self._holder,)).fetchall()
            for (holder,) in others + connection.execute(_ORPHANED, (self._holder,)).fetchall():
                _take_away(connection, holder)

        await self._store.write(change)

    async def reap(self) -> tuple[str, ...]:
        """Take away the leases that have run out; whose they were.

        Only for a process that has been connected for as long as a lease holds, or a database that comes back would
        have each process take the others for dead.
        """

        def query(connection: Connection) -> bool:
            dead = connection.execute(f"{_DEAD} LIMIT 1", (self._ttl, self._holder)).fetchone()
            return (
                dead is not None or connection.execute(f"{_ORPHANED} LIMIT 1", (self._holder,)).fetchone() is not None
            )

        def change(connection: Connection) -> tuple[str, ...]:
            # Who is renewing right now is left alone.
            found = connection.execute(f"{_DEAD} {connection.skip_locked}", (self._ttl, self._holder)).fetchall()
            found += connection.execute(_ORPHANED, (self._holder,)).fetchall()
            for (holder,) in found:
                _take_away(connection, holder)
            return tuple(holder for (holder,) in found)

        return await self._store.write(change) if await self._store.read(query) else ()


def _take_away(connection: Connection, holder: str) -> None:
    connection.execute(_TAKE_AWAY, (holder,))
    connection.execute("DELETE FROM leases WHERE holder = ?", (holder,))
    connection.notify(["work"])


def _renew(connection: Connection, items: Sequence[tuple[int, str]]) -> list[bool]:
    return [connection.execute(_RENEW, item).fetchone() is not None for item in items]


_RENEWALS: Final = Group(0, _renew)
