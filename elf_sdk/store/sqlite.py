"""The engine for SQLite: one thread that writes, with group commit, and one that reads.

What waits for the writer is executed in one transaction and shares one commit; the next transaction starts as soon
as the one before is done. Nobody gets an answer before the commit that holds their change has succeeded.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Final, TypeVar

from elf_sdk.errors import BadInput, ElfError, Failure, Missing, Retryable
from elf_sdk.store.lock import FileLock
from elf_sdk.store.schema import prepare

__all__ = ["NOW", "Store", "moment"]

T = TypeVar("T")
log = logging.getLogger("elf.store")

NOW: Final = "CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER)"
"""SQL for the database's clock: whole milliseconds since 1970, UTC."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def moment(milliseconds: int) -> datetime:
    """What `NOW` gave, as an aware time."""
    return _EPOCH + timedelta(milliseconds=milliseconds)


_BUSY_TIMEOUT: Final = 5000
"""Milliseconds to wait for another program that has the file locked."""
_BATCH: Final = 256
"""Calls that share one transaction at most."""
_OLDEST: Final = (3, 35)
"""The first SQLite with RETURNING."""


class Store:
    """One SQLite file, served by this process alone. All methods belong to the event loop that called `open`.

    Args:
        path: the file; made with its directory where there is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: FileLock | None = None
        self._writer: _Worker | None = None
        self._reader: _Worker | None = None

    async def open(self) -> None:
        """Take the file for this process and bring its schema to this release.

        Raises:
            BadInput: the file cannot be opened or made, or is something else.
            Conflict: another process serves it.
            Failure: a newer release wrote it, or it is damaged.
            Retryable: another program has it locked.
        """
        if sqlite3.sqlite_version_info < _OLDEST:
            raise Missing(f"SQLite {sqlite3.sqlite_version} is too old; install a Python built with 3.35 or later")
        loop = asyncio.get_running_loop()
        writing, reading = await asyncio.to_thread(self._open)
        self._writer = _Worker("store writer", self.path, writing, _together, loop)
        self._reader = _Worker("store reader", self.path, reading, _each, loop)

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

    async def close(self) -> None:
        """Finish what waits, then give the file back."""
        workers = [worker for worker in (self._reader, self._writer) if worker is not None]
        self._reader = self._writer = None
        for worker in workers:
            await asyncio.to_thread(worker.stop)
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    async def write(self, change: Callable[[sqlite3.Connection], T], then: Callable[[T], None] | None = None) -> T:
        """Execute `change` in a transaction, and return its result once that is on the disk.

        When `change` raises, what it did is undone and the exception is raised here; changes that share the
        transaction are not touched. It may be executed a second time, so it must do nothing beside the database. A
        caller that is cancelled leaves the change to be made all the same.

        Args:
            change: executed in the writer's thread.
            then: called with the result in the loop's thread after the commit, also when the caller has gone.

        Raises:
            Retryable: the disk is full, or another program has the file locked; nothing was changed.
            Failure: the file cannot be written; nothing was changed.
        """
        if self._writer is None:
            raise Retryable(f"{self.path} is closed")
        return await self._writer.call(change, then)

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Execute `query`, which changes nothing, in the reader's thread.

        Raises:
            Failure: the file cannot be read.
        """
        if self._reader is None:
            raise Retryable(f"{self.path} is closed")
        return await self._reader.call(query)


class _Call:
    """One function on its way through a worker's thread."""

    __slots__ = ("done", "error", "function", "result", "then")

    def __init__(
        self,
        function: Callable[[sqlite3.Connection], Any],
        done: asyncio.Future[Any],
        then: Callable[[Any], None] | None,
    ) -> None:
        self.function = function
        self.done = done
        self.then = then
        self.result: Any = None
        self.error: Exception | None = None

    def settle(self, path: Path) -> None:
        error = self.error
        if error is None:
            if self.then is not None:
                self.then(self.result)
            if not self.done.done():
                self.done.set_result(self.result)
        elif not self.done.done():
            if isinstance(error, sqlite3.Error):
                explained = _explain(error, path)
                explained.__cause__ = error
                error = explained
            self.done.set_exception(error)


class _Worker:
    """A thread that owns a connection and executes calls, as many together as wait."""

    def __init__(
        self,
        name: str,
        path: Path,
        connection: sqlite3.Connection,
        execute: Callable[[sqlite3.Connection, Sequence[_Call]], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._path = path
        self._connection = connection
        self._execute = execute
        self._loop = loop
        self._waiting: SimpleQueue[_Call | None] = SimpleQueue()
        # A daemon, so that a process that dies without closing its store does die.
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(
        self, function: Callable[[sqlite3.Connection], T], then: Callable[[T], None] | None = None
    ) -> asyncio.Future[T]:
        done: asyncio.Future[T] = self._loop.create_future()
        self._waiting.put(_Call(function, done, then))
        return done

    def stop(self) -> None:
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        going = True
        while going:
            taken = [self._waiting.get()]
            while len(taken) < _BATCH:
                try:
                    taken.append(self._waiting.get_nowait())
                except Empty:
                    break
            going = None not in taken
            calls = [call for call in taken if call is not None]
            if calls:
                self._execute(self._connection, calls)
                try:
                    self._loop.call_soon_threadsafe(self._settle, calls)
                except RuntimeError:
                    log.debug("the event loop was closed before its store was")
        self._connection.close()

    def _settle(self, calls: Sequence[_Call]) -> None:
        for call in calls:
            call.settle(self._path)


def _each(connection: sqlite3.Connection, calls: Sequence[_Call]) -> None:
    for call in calls:
        try:
            call.result = call.function(connection)
        except Exception as error:  # noqa: BLE001 - carried to the caller
            call.error = error


def _together(connection: sqlite3.Connection, calls: Sequence[_Call]) -> None:
    """Execute all calls in one transaction; where that cannot be committed, each in its own."""
    alone = len(calls) == 1
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.Error as error:
        # Locked, for as long as one waits for that: to wait for each call alone would stop the process for minutes.
        for call in calls:
            call.error = error
        return
    try:
        for call in calls:
            if not alone:
                connection.execute("SAVEPOINT call")
            call.error = None
            try:
                call.result = call.function(connection)
            except Exception as error:
                # After some errors (a full disk) SQLite has given up the whole transaction by itself.
                if alone or not connection.in_transaction:
                    raise
                call.error = error
                connection.execute("ROLLBACK TO call")
            if not alone:
                connection.execute("RELEASE call")
        connection.execute("COMMIT")
    except Exception as error:  # noqa: BLE001 - carried to the caller
        try:
            connection.rollback()
        except sqlite3.Error as second:
            log.warning("a transaction that had failed could not be rolled back: %s", second)
        if alone:
            calls[0].error = error
        else:
            for call in calls:
                _together(connection, [call])


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_TIMEOUT / 1000)
    try:
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
