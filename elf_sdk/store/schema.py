"""Brings a database to the schema of this release.

The revisions in `migrations/` are the truth. A new file gets `schema.sql`, which is what they add up to, because
to load Alembic takes longer than everything else at start; a test keeps the two equal.
"""

from __future__ import annotations

import sqlite3
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final

from elf_sdk.errors import BadInput, Failure

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["MIN_COMPATIBLE", "REVISION", "check", "is_newer", "may_use", "prepare", "run_revisions", "upgrade"]

REVISION: Final = "0002"
"""The newest revision in `migrations/versions`."""
_OLDER: Final = frozenset({"0001"})
"""All before it; a test compares both with the files, because to ask Alembic takes too long at start."""

MIN_COMPATIBLE: Final = "SELECT value FROM facts WHERE name = 'min_compatible'"
"""The oldest revision whose release may use the database, as the newest one has recorded it."""


def is_newer(revision: str) -> bool:
    """Whether a revision is one that this release does not know."""
    return revision != REVISION and revision not in _OLDER


def may_use(revision: str, min_compatible: str | None) -> bool:
    """Whether this release can work with a database that a newer one has migrated, as after a rollback.

    Args:
        revision: a newer one.
        min_compatible: what `MIN_COMPATIBLE` found; None for nothing.
    """
    return is_newer(revision) and min_compatible is not None and not is_newer(min_compatible)


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make or upgrade the schema, in one transaction. Costs one query where there is nothing to do.

    Only for a process that has the file for itself.

    Raises:
        BadInput: the file belongs to another program.
        Failure: the file was written by a newer release, which does not allow this one to use it.
    """
    revision = _revision(connection, path)
    if revision == REVISION or (revision is not None and may_use(revision, _min_compatible(connection))):
        return
    if revision is not None:
        upgrade(path, revision)
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in files(__package__).joinpath("schema.sql").read_text(encoding="utf-8").split(";\n"):
            connection.execute(statement)
        connection.execute("INSERT INTO alembic_version VALUES (?)", (REVISION,))
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def check(revision: str | None, name: str, min_compatible: str | None = None) -> None:
    """Refuse a PostgreSQL whose schema this release cannot use; a server does not change what others share.

    Args:
        revision: what it says; None where it says nothing.
        name: how to speak of it.
        min_compatible: of a newer revision, what `MIN_COMPATIBLE` found.

    Raises:
        Failure: it is older; or newer, and does not allow this release to use it.
    """
    if revision == REVISION or (revision is not None and may_use(revision, min_compatible)):
        return
    if revision is None:
        raise Failure(f"{name} has no tables of ELF yet; run `elf db migrate`")
    if revision in _OLDER:
        raise Failure(f"{name} is at revision {revision}, and this release needs {REVISION}; run `elf db migrate`")
    raise Failure(
        f"{name} was migrated by a newer release (revision {revision}, this one knows up to {REVISION}); "
        "install that release"
    )


def _revision(connection: sqlite3.Connection, path: Path) -> str | None:
    """None means that the file is empty."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return None
    row = (
        connection.execute("SELECT version_num FROM alembic_version").fetchone()
        if "alembic_version" in tables
        else None
    )
    if row is None:
        raise BadInput(f"{path} is a database of another program; set ELF_STORE to another file")
    return str(row[0])


def _min_compatible(connection: sqlite3.Connection) -> str | None:
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'facts'").fetchone() is None:
        return None
    row = connection.execute(MIN_COMPATIBLE).fetchone()
    return None if row is None else str(row[0])


def upgrade(path: Path, revision: str | None = None) -> None:
    """Run the revisions after `revision`, all or nothing; None runs all.

    Raises:
        Failure: this release does not know `revision`.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    # The driver must not open and commit transactions of its own accord: one holds all revisions.
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(path, isolation_level=None), poolclass=NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        run_revisions(connection, revision, str(path), "install that release, or set ELF_STORE to another file")
        connection.commit()


def run_revisions(connection: Connection, revision: str | None, name: str, remedy: str) -> None:
    """Run the revisions after `revision` in the transaction that the connection is in.

    Args:
        connection: in a transaction; the caller commits.
        revision: where the database is; None where it is empty.
        name: how to speak of the database.
        remedy: what to do when it is newer than this release.

    Raises:
        Failure: this release does not know `revision`.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(files(__package__).joinpath("migrations")).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    if revision is not None:
        try:
            ScriptDirectory.from_config(config).get_revision(revision)
        except CommandError:
            raise Failure(
                f"{name} was written by a newer release (schema {revision}, this one knows up to {REVISION}); {remedy}"
            ) from None
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
