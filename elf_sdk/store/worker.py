"""A thread that owns a connection and executes calls, as many together as wait."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Final, Protocol, TypeVar

from typing_extensions import override

from elf_sdk.errors import ElfError, Retryable
from elf_sdk.store.database import Connection, Group, Store
from elf_sdk.store.observer import StoreObserver
from elf_sdk.store.waiters import Waiters

__all__ = ["GATHER", "Call", "Lost", "Session", "WorkedStore", "Worker", "each", "together"]

T = TypeVar("T")
ItemT = TypeVar("ItemT")
log = logging.getLogger("elf.store")

_BATCH: Final = 256
"""Calls that share one transaction at most."""
GATHER: Final = 0.25
"""How long a transaction waits for the callers of the one before, as a share of how long that took."""


class Call:
    """A change or a query on its way through a worker's thread.

    Attributes:
        function: does it; None where it is an item of a group.
        group: what the item belongs to.
        item: the group's.
        queued_at: monotonic seconds.
        decided: whether `result` or `error` is final.
        unknown: whether it may have been committed, because the answer to a commit got lost.
    """

    __slots__ = ("_done", "_then", "decided", "error", "function", "group", "item", "queued_at", "result", "unknown")

    def __init__(
        self,
        done: asyncio.Future[Any],
        then: Callable[[Any], None] | None,
        function: Callable[[Connection], Any] | None,
        group: Group[Any, Any] | None = None,
        item: Any = None,
    ) -> None:
        self._done = done
        self._then = then
        self.function = function
        self.group = group
        self.item = item
        self.queued_at = time.monotonic()
        self.decided = False
        self.unknown = False
        self.result: Any = None
        self.error: Exception | None = None

    def fail(self, error: Exception) -> None:
        """It is not to be made."""
        self.error = error
        self.decided = True

    def answer(self) -> None:
        """Tell the caller. Belongs to the loop's thread."""
        if self.error is None and self._then is not None:
            self._then(self.result)
        if self._done.done():
            return
        if self.error is None:
            self._done.set_result(self.result)
        else:
            self._done.set_exception(self.error)


class Worker:
    """The thread.

    Args:
        name: of the thread.
        execute: decides the calls that it is given, and raises nothing; the ones that it returns, it is given again.
        finish: called in the thread as its last act.
        gather: how long to wait for the callers of the time before, as a share of how long that took; 0 where many
            calls take as long together as one by one.

    Attributes:
        told: in the thread, how many seconds each turn took, and of how many calls.
    """

    def __init__(
        self,
        name: str,
        execute: Callable[[Sequence[Call]], list[Call]],
        finish: Callable[[], None],
        *,
        gather: float = 0.0,
    ) -> None:
        self._gathering = gather
        self._execute = execute
        self._finish = finish
        self._loop = asyncio.get_running_loop()
        self._waiting: SimpleQueue[Call | None] = SimpleQueue()
        # A daemon, so that a process that dies without closing its store does die.
        self.told: Callable[[float, int], None] | None = None
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(
        self,
        function: Callable[[Connection], Any] | None,
        then: Callable[[Any], None] | None = None,
        group: Group[Any, Any] | None = None,
        item: Any = None,
    ) -> asyncio.Future[Any]:
        """Queue a call; its result."""
        done: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.put(Call(done, then, function, group, item))
        return done

    def stop(self) -> None:
        """Finish what waits, and wait for the thread's end."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        going = True
        left: list[Call] = []
        wanted, until = 0, 0.0
        while going or left:
            taken: list[Call | None] = [*left] or [self._waiting.get()]
            self._gather(taken, wanted, until)
            going = going and None not in taken
            calls = [call for call in taken if call is not None]
            begun = time.monotonic()
            left = self._execute(calls) if calls else []
            ended = time.monotonic()
            if self.told is not None and calls:
                self.told(ended - begun, len(calls))
            try:
                self._loop.call_soon_threadsafe(_answer, [call for call in calls if call.decided])
            except RuntimeError:
                log.debug("the event loop was closed before its store was")
            answered = len(calls) - len(left)
            wanted = answered + self._waiting.qsize() if answered > 1 else 0
            until = ended + (ended - begun) * self._gathering
        self._finish()

    def _gather(self, taken: list[Call | None], wanted: int, until: float) -> None:
        """Take what waits, and what comes until then, as long as it is less than `wanted`.

        Of those who were just answered most are about to come again. Without a moment for them, two halves of the
        callers would take turns, each waiting for the other's transaction as well as for its own.
        """
        while len(taken) < _BATCH:
            try:
                taken.append(self._waiting.get_nowait())
            except Empty:
                break
        while len(taken) < min(wanted, _BATCH) and (left := until - time.monotonic()) > 0:
            try:
                taken.append(self._waiting.get(timeout=left))
            except Empty:
                break


def _answer(calls: Sequence[Call]) -> None:
    for call in calls:
        call.answer()


class Lost(Exception):
    """The connection is gone. What was not decided may be tried again on another."""


class Session(Connection, Protocol):
    """A connection as its worker knows it. What its methods raise is explained, or `Lost`."""

    def begin(self) -> None:
        """Open a transaction for writing."""
        ...

    def commit(self) -> None:
        """Make it durable."""
        ...

    def rollback(self) -> None:
        """Undo it; raises nothing."""
        ...

    def can_do_better(self) -> bool:
        """Whether the transaction that was rolled back is to be tried as a whole once more."""
        ...

    def reading(self) -> AbstractContextManager[None]:
        """Surrounds a query."""
        ...

    @property
    def in_transaction(self) -> bool:
        """Whether there is still something to commit or to roll back to."""
        ...

    def explain(self, error: Exception) -> Exception:
        """The database's error as one sentence; any other as it is; `Lost` when the connection is gone."""
        ...


def each(session: Session, calls: Sequence[Call]) -> list[Call]:
    """Execute queries, each by itself. Returns an empty list: all are decided.

    Raises:
        Lost: the connection is gone; not all are decided.
    """
    for call in calls:
        if call.decided:
            continue
        assert call.function is not None  # noqa: S101 - groups are for changes
        try:
            with session.reading():
                call.result = call.function(session)
        except Exception as error:  # noqa: BLE001 - carried to the caller
            call.fail(_explained(session, error))
        call.decided = True
    return []


def together(session: Session, calls: Sequence[Call]) -> list[Call]:
    """Execute changes in one transaction; where that cannot be committed, in halves, down to the one that fails.

    Returns an empty list: all are decided.

    Raises:
        Lost: the connection is gone; not all are decided.
    """
    try:
        session.begin()
    except Exception as error:  # noqa: BLE001 - carried to the callers
        # Locked, for as long as one waits for that: to wait for each call alone would stop the process for minutes.
        explained = _explained(session, error)
        for call in calls:
            call.fail(explained)
        return []
    for call in calls:
        call.error = None
    committing = False
    try:
        _perform(session, calls, alone=len(calls) == 1)
        committing = True
        session.commit()
    except Exception as error:  # noqa: BLE001 - carried to the callers
        try:
            explained = _explained(session, error)
        except Lost:
            for call in calls:
                call.unknown = call.unknown or committing
            raise
        session.rollback()
        if session.can_do_better():
            return together(session, calls)
        if len(calls) == 1:
            calls[0].fail(explained)
            return []
        middle = len(calls) // 2
        return together(session, calls[:middle]) + together(session, calls[middle:])
    for call in calls:
        call.decided = True
    return []


def _perform(session: Session, calls: Sequence[Call], alone: bool) -> None:
    groups: dict[Group[Any, Any], list[Call]] = {}
    for call in calls:
        if call.group is not None:
            groups.setdefault(call.group, []).append(call)
    for group, members in sorted(groups.items(), key=lambda found: found[0].rank):
        outcomes = group.change(session, [call.item for call in members])
        for call, outcome in zip(members, outcomes, strict=True):
            if isinstance(outcome, ElfError):
                call.error = outcome
            else:
                call.result = outcome
    for call in calls:
        if call.function is not None:
            _single(session, call, call.function, alone)


def _single(session: Session, call: Call, function: Callable[[Connection], Any], alone: bool) -> None:
    if not alone:
        session.execute("SAVEPOINT call")
    try:
        call.result = function(session)
    except Exception as error:
        # After some errors (a full disk) SQLite has given up the whole transaction by itself.
        if alone or not session.in_transaction:
            raise
        call.error = _explained(session, error)
        session.execute("ROLLBACK TO SAVEPOINT call")
    if not alone:
        session.execute("RELEASE SAVEPOINT call")


def _explained(session: Session, error: Exception) -> Exception:
    explained = session.explain(error)
    if isinstance(explained, Lost):
        raise explained from error
    if explained is not error:
        explained.__cause__ = error
    return explained


class WorkedStore(Store):
    """A store that writes in one worker's thread and reads in another's. A subclass opens, closes and claims.

    Args:
        name: the database, for people.
    """

    def __init__(self, name: str) -> None:
        self.waiters = Waiters()
        self._name = name
        self._writer: Worker | None = None
        self._reader: Worker | None = None

    @override
    async def write(self, change: Callable[[Connection], T], then: Callable[[T], None] | None = None) -> T:
        result: T = await self._ready(self._writer).call(change, then)
        return result

    @override
    async def join(self, group: Group[ItemT, T], item: ItemT, then: Callable[[T], None] | None = None) -> T:
        result: T = await self._ready(self._writer).call(None, then, group, item)
        return result

    @override
    async def read(self, query: Callable[[Connection], T]) -> T:
        result: T = await self._ready(self._reader).call(query)
        return result

    @override
    def observe(self, observer: StoreObserver) -> None:
        self._ready(self._writer).told = observer.flushed
        self._ready(self._reader).told = observer.read

    def _ready(self, worker: Worker | None) -> Worker:
        if worker is None:
            raise Retryable(f"{self._name} is closed")
        return worker
