"""The engine for SQLite: one thread that writes, with group commit, and one that reads.

What waits for the writer is executed in one transaction and shares one commit; the next transaction starts as soon
as the one before is done.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import sqlite3
import time
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final, TypeVar

from typing_extensions import override

from elf_sdk.errors import BadInput, ElfError, Failure, Missing, Retryable
from elf_sdk.store.database import AddedRow, Cursor, EventRow, HeadRow, MovedRow, RunRow
from elf_sdk.store.lock import FileLock
from elf_sdk.store.schema import prepare
from elf_sdk.store.worker import GATHER, Session, WorkedStore, Worker, each, together

__all__ = ["SQLiteStore"]

T = TypeVar("T")
ItemT = TypeVar("ItemT")
log = logging.getLogger("elf.store")

_BUSY_TIMEOUT: Final = 5000
"""Milliseconds to wait for another program that has the file locked."""
_OLDEST: Final = (3, 35)
"""The first SQLite with RETURNING."""
_RUN: Final = (
    "INSERT INTO runs (id, team, owner_issuer, owner_subject, context_id, text, metadata, digest, conversation, "
    "deadline, state, head, holder, epoch, created_at, updated_at, changed_at) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_KEY: Final = (
    "INSERT INTO idempotency_keys (team, owner_issuer, owner_subject, protocol, operation, key, run_id, digest, "
    "created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_TURN: Final = (
    "INSERT INTO turns (conversation, run_id) VALUES (?, ?) "
    "ON CONFLICT (conversation) DO UPDATE SET waiting = waiting + 1 RETURNING run_id, waiting"
)
_EVENT: Final = "INSERT INTO events (run_id, seq, epoch, kind, data, at) VALUES (?, ?, ?, ?, ?, ?)"
_MOVE: Final = "UPDATE runs SET head = ?, state = ?, holder = ?, epoch = ?, changed_at = ?, updated_at = ? WHERE id = ?"
_KNOWN: Final = (
    "SELECT 1 FROM idempotency_keys WHERE team = ? AND owner_issuer = ? AND owner_subject = ? AND protocol = ? "
    "AND operation = ? AND key = ?"
)


class SQLiteStore(WorkedStore):
    """One SQLite file, served by this process alone. All methods belong to the event loop that called `open`.

    Args:
        path: the file; made with its directory where there is none.
    """

    shared = False
    connected_since = 0.0

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(str(path))
        self._lock: FileLock | None = None

    @override
    async def open(self) -> None:
        if sqlite3.sqlite_version_info < _OLDEST:
            raise Missing(f"SQLite {sqlite3.sqlite_version} is too old; install a Python built with 3.35 or later")
        writing, reading = (_Session(raw, self.path) for raw in await asyncio.to_thread(self._open))
        self._writer = Worker("store writer", lambda calls: together(writing, calls), writing.close, gather=GATHER)
        self._reader = Worker("store reader", lambda calls: each(reading, calls), reading.close)

    def _open(self) -> tuple[sqlite3.Connection, sqlite3.Connection]:
        path = self.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Conversations are nobody else's business; SQLite gives its -wal and -shm files the same mode.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise _unusable(path, error) from None
        self._lock = FileLock(path.resolve())
        connections: list[sqlite3.Connection] = []
        try:
            connections.append(_connect(path))
            prepare(connections[0], path)
            connections.append(_connect(path))
            connections[1].execute("PRAGMA query_only = ON")
        except BaseException as error:
            for connection in connections:
                connection.close()
            self._lock.release()
            self._lock = None
            if isinstance(error, sqlite3.Error):
                raise _explain(error, path) from error
            raise
        return connections[0], connections[1]

    @override
    async def close(self) -> None:
        workers = [worker for worker in (self._reader, self._writer) if worker is not None]
        self._reader = self._writer = None
        for worker in workers:
            await asyncio.to_thread(worker.stop)
        if self._lock is not None:
            self._lock.release()
            self._lock = None


class _Session(Session):
    skip_locked = ""

    def __init__(self, raw: sqlite3.Connection, path: Path) -> None:
        self._raw = raw
        self._path = path
        self.close = raw.close

    @override
    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Cursor:
        return self._raw.execute(statement, values)

    @override
    def add_runs(self, rows: Sequence[RunRow], holder: str | None) -> dict[str, AddedRow]:
        now = _now()
        added: dict[str, AddedRow] = {}
        waits: dict[str, int] = {}
        for row in rows:
            owner = (row.team, row.owner_issuer, row.owner_subject)
            key = (row.protocol, row.operation, row.key)
            if row.key is not None and self._raw.execute(_KNOWN, (*owner, *key)).fetchone():
                continue
            if self._raw.execute("SELECT 1 FROM runs WHERE id = ?", (row.id,)).fetchone():
                continue
            whose, waiting = self._raw.execute(_TURN, (row.conversation, row.id)).fetchone()
            held = whose == row.id
            begins = held and row.begun is not None
            state = "working" if begins else "queued"
            self._raw.execute(_RUN, (*row[:10], state, int(begins), holder if held else None, int(held), now, now, now))
            if begins:
                self._raw.execute(_EVENT, (row.id, 1, 1, "started", row.begun, now))
            if row.key is not None:
                self._raw.execute(_KEY, (*owner, *key, row.id, row.digest, now))
            added[row.id] = AddedRow(now, held, begins, 0)
            waits[row.conversation] = waiting
        return {row.id: added[row.id]._replace(waiting=waits[row.conversation]) for row in rows if row.id in added}

    @override
    def lock_runs(self, ids: Collection[str]) -> dict[str, HeadRow | None]:
        # The transaction locks the whole file.
        now = _now()
        statement = (
            "SELECT id, head, state, holder, epoch, changed_at FROM runs "  # noqa: S608 - values are bound
            f"WHERE id IN ({', '.join('?' * len(ids))})"
        )
        return {row[0]: HeadRow._make((*row, now)) for row in self._raw.execute(statement, tuple(ids))}

    @override
    def add_events(self, events: Sequence[EventRow], moved: Sequence[MovedRow], free: Sequence[str]) -> set[str]:
        # Nobody has to be told: one process serves a file.
        self._raw.executemany(_EVENT, events)
        self._raw.executemany(_MOVE, [(*row[1:], row.id) for row in moved])
        kept: set[str] = set()
        for run_id in free:
            self._raw.execute("DELETE FROM commands WHERE run_id = ?", (run_id,))
            if not self._raw.execute("DELETE FROM turns WHERE run_id = ? AND waiting = 0", (run_id,)).rowcount:
                kept.add(run_id)
        return kept

    @override
    def notify(self, keys: Sequence[str]) -> None:
        """Nobody has to be told: one process serves a file."""

    @override
    def begin(self) -> None:
        self._raw.execute("BEGIN IMMEDIATE")

    @override
    def commit(self) -> None:
        self._raw.execute("COMMIT")

    @override
    def rollback(self) -> None:
        try:
            self._raw.rollback()
        except sqlite3.Error as error:
            log.warning("a transaction that had failed could not be rolled back: %s", error)

    @override
    def can_do_better(self) -> bool:
        return False

    @override
    def reading(self) -> AbstractContextManager[None]:
        return nullcontext()

    @property
    @override
    def in_transaction(self) -> bool:
        return self._raw.in_transaction

    @override
    def explain(self, error: Exception) -> Exception:
        return _explain(error, self._path) if isinstance(error, sqlite3.Error) else error


def _now() -> int:
    return time.time_ns() // 1_000_000


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_TIMEOUT / 1000)
    try:
        connection.create_function("elf_now", 0, _now)
        # A file does not go away: it has been there for as long as anybody asks.
        connection.create_function("elf_uptime", 0, _now)
        for pragma, value, wanted in (
            ("journal_mode", "WAL", "wal"),
            ("synchronous", "FULL", 2),
            ("foreign_keys", "ON", 1),
            ("busy_timeout", str(_BUSY_TIMEOUT), _BUSY_TIMEOUT),
        ):
            connection.execute(f"PRAGMA {pragma} = {value}")
            (found,) = connection.execute(f"PRAGMA {pragma}").fetchone()
            if found != wanted:
                raise Failure(
                    f"{path}: SQLite keeps {pragma} at {found!r} instead of {wanted!r}; put the file on a local disk"
                )
    except BaseException:
        connection.close()
        raise
    return connection


def _unusable(path: Path, error: OSError) -> ElfError:
    if error.errno == errno.EISDIR:
        return BadInput(f"{path} is a directory; set ELF_STORE to a file")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Retryable(f"{path} cannot be made, because the disk is full; free some space")
    return BadInput(f"{path} cannot be opened for writing: {error.strerror}; set ELF_STORE to a file that can")


def _explain(error: sqlite3.Error, path: Path) -> ElfError:
    """SQLite's error as one sentence that names the file. Codes: https://www.sqlite.org/rescode.html."""
    name: str = getattr(error, "sqlite_errorname", "")
    match "_".join(name.split("_")[:2]):
        case "SQLITE_FULL":
            return Retryable(f"{path} could not be written, because the disk is full; free some space")
        case "SQLITE_IOERR":
            return Retryable(
                f"{path} could not be read or written ({name}); look whether the disk is full, at a limit or broken"
            )
        case "SQLITE_BUSY" | "SQLITE_LOCKED":
            return Retryable(f"{path} is locked by another program; close that one and try again")
        case "SQLITE_READONLY" | "SQLITE_CANTOPEN" | "SQLITE_PERM":
            return BadInput(f"{path} cannot be opened for writing; give this user the right to, also for its directory")
        case "SQLITE_NOTADB":
            return BadInput(f"{path} is not a SQLite database; set ELF_STORE to another file")
        case "SQLITE_CORRUPT":
            return Failure(f"{path} is damaged; put back a copy, or set ELF_STORE to a new file")
    return Failure(f"{path}: {error}")
