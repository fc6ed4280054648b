"""Brings a PostgreSQL to the schema of this release: `elf db migrate`, and nobody else.

All revisions run in one transaction. An advisory lock of that transaction makes a second migration wait for the first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from elf_sdk.errors import BadInput, Retryable
from elf_sdk.store.postgres import Address
from elf_sdk.store.schema import MIN_COMPATIBLE, REVISION, is_newer, may_use, run_revisions
from elf_sdk.store.worker import Lost

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["migrate"]


def migrate(url: str) -> tuple[str, str | None]:
    """Run the revisions that are missing, all or nothing. Needs a connection to the server itself, not to a pooler.

    Args:
        url: names the schema by its `search_path`; one that is not there yet is made.

    Returns:
        How to speak of the schema, and the revision it was at; None where it was empty. A newer one that allows this
        release to use it is left as it is.

    Raises:
        BadInput: the address is none, or the user may not change the schema.
        Failure: a newer release migrated it, and does not allow this one to use it.
        Retryable: the server is away, or its tables are in use.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import NullPool

    address = Address(url)
    try:
        with address.connect() as raw:
            schema = _schema(raw, address.name)
        name = f"{address.name}, schema {schema},"

        def connect() -> psycopg.Connection[tuple[object, ...]]:
            connection = address.connect()
            connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(schema)))
            connection.autocommit = False
            return connection

        engine = create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"elf migrate {schema}",)
            )
            # Only from here: whoever waits for the tables makes all others wait behind it.
            connection.exec_driver_sql("SET LOCAL lock_timeout TO '3s'")
            there = connection.exec_driver_sql("SELECT to_regclass('alembic_version') IS NOT NULL").scalar_one()
            found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() if there else None
            before = None if found is None else str(found)
            if before != REVISION and not (before is not None and _allows(connection, before)):
                run_revisions(connection, before, name, "install that release")
    except Lost as error:
        raise Retryable(str(error)) from error
    except DBAPIError as error:
        raise _explained(error.orig, address.name) from error
    except psycopg.Error as error:
        raise _explained(error, address.name) from error
    return name.rstrip(","), before


def _schema(connection: psycopg.Connection[tuple[object, ...]], name: str) -> str:
    """The first schema of the search path; made, where none of the path is there."""
    found = connection.execute("SELECT current_schema(), current_setting('search_path')").fetchone()
    assert found is not None  # noqa: S101 - one row by construction
    schema, path = found
    if schema is not None:
        return str(schema)
    first = str(path).split(",")[0].strip().strip('"')
    if not first or first.startswith("$"):
        raise BadInput(f"{name} has no schema of its search_path ({path}); create one, or name one in the search_path")
    connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(first)))
    return first


def _allows(connection: Connection, revision: str) -> bool:
    if not is_newer(revision) or not connection.exec_driver_sql("SELECT to_regclass('facts') IS NOT NULL").scalar():
        return False
    found = connection.exec_driver_sql(MIN_COMPATIBLE).scalar()
    return may_use(revision, None if found is None else str(found))


def _explained(error: BaseException | None, name: str) -> BadInput | Retryable:
    reason = " ".join(str(error).split())
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return BadInput(f"{name} does not let this user change the schema ({reason}); use the one who owns it")
    return Retryable(f"{name} could not be migrated, and was left as it was ({reason}); try again")
