"""What is true of a database as a whole: to which environment it belongs."""

from __future__ import annotations

from typing import Final

from elf_sdk.errors import BadInput
from elf_sdk.store.database import Connection, Store

__all__ = ["settle_environment"]

_FIND: Final = "SELECT value FROM facts WHERE name = 'environment'"
_RECORD: Final = "INSERT INTO facts (name, value) VALUES ('environment', ?) ON CONFLICT (name) DO NOTHING"


async def settle_environment(store: Store, environment: str, name: str) -> None:
    """See that a database belongs to an environment; one that belongs to none yet does from now on.

    Args:
        store: open.
        environment: which one this process is of.
        name: how to speak of the database.

    Raises:
        BadInput: it belongs to another.
    """

    def find(connection: Connection) -> str | None:
        row = connection.execute(_FIND).fetchone()
        return None if row is None else str(row[0])

    def record(connection: Connection) -> str | None:
        # Of two that begin at once the second waits for the first, and finds what that one wrote.
        connection.execute(_RECORD, (environment,))
        return find(connection)

    found = await store.read(find) or await store.write(record)
    if found != environment:
        raise BadInput(
            f"{name} belongs to the environment {found!r}, and this server is of {environment!r}; "
            "set ELF_ENVIRONMENT to the one it belongs to, or name another database"
        )
