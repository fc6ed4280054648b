"""One database a process, with the schema and all migrations; SQLite and PostgreSQL differ only here.

Importing this loads neither a driver nor SQLAlchemy nor Alembic: these are needed only for PostgreSQL, and only while
a schema is being changed.
"""

from __future__ import annotations

from pathlib import Path

from elf_sdk.errors import Missing
from elf_sdk.store.database import Store

__all__ = ["Store", "need_postgres", "store_at"]


def need_postgres() -> None:
    """See that the driver is there, before anything imports it.

    Raises:
        Missing: it is not.
    """
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise Missing("PostgreSQL needs the package psycopg; install it: pip install 'elf-sdk[postgres]'") from None


def store_at(path: Path, database_url: str = "") -> Store:
    """The store that the settings name, not yet open: PostgreSQL where there is a URL, else the SQLite file.

    Raises:
        BadInput: the URL is none.
        Missing: PostgreSQL's driver is not installed.
    """
    if database_url:
        need_postgres()
        from elf_sdk.store.postgres import PostgresStore

        return PostgresStore(database_url)
    from elf_sdk.store.sqlite import SQLiteStore

    return SQLiteStore(path)
