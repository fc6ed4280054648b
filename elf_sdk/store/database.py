"""The store as all others see it: one protocol, for SQLite and for PostgreSQL.

Changes that wait at the same time share one transaction and its one commit. Nobody gets an answer before the commit
that holds their change has succeeded.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from elf_sdk.errors import ElfError
from elf_sdk.store.observer import StoreObserver
from elf_sdk.store.waiters import Waiters

__all__ = [
    "AddedRow",
    "Connection",
    "EventRow",
    "Group",
    "HeadRow",
    "MovedRow",
    "RunRow",
    "Store",
    "milliseconds",
    "moment",
]

T = TypeVar("T")
ItemT = TypeVar("ItemT")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def moment(milliseconds: int) -> datetime:
    """What `elf_now()` gave, as an aware time."""
    return _EPOCH + timedelta(milliseconds=milliseconds)


def milliseconds(at: datetime) -> int:
    """An aware time as `elf_now()` counts it; parts of a millisecond count as none."""
    return (at - _EPOCH) // _MILLISECOND


class RunRow(NamedTuple):
    """A new run; the last three are empty where it has no idempotency key.

    `begun` is the data of its first event, `started`, where the work begins as soon as the run is stored.
    """

    id: str
    team: str
    owner_issuer: str
    owner_subject: str
    context_id: str
    text: str
    metadata: str
    digest: str
    conversation: str
    deadline: int | None
    begun: str | None
    protocol: str | None
    operation: str | None
    key: str | None


class AddedRow(NamedTuple):
    """A run that was added: when, whether it has the turn, whether it has begun, and how many wait behind the turn."""

    created_at: int
    its_turn: bool
    begun: bool
    waiting: int


class HeadRow(NamedTuple):
    """Where a run is, and who holds it; `now` is the database's clock, in milliseconds since 1970."""

    id: str
    head: int
    state: str
    holder: str | None
    epoch: int
    changed_at: int
    now: int


class EventRow(NamedTuple):
    """One numbered event."""

    run_id: str
    seq: int
    epoch: int
    kind: str
    data: str
    at: int


class MovedRow(NamedTuple):
    """Where a run is to be, and who is to hold it."""

    id: str
    head: int
    state: str
    holder: str | None
    epoch: int
    changed_at: int
    at: int


class Cursor(Protocol):
    """The rows that a statement gave."""

    def fetchone(self) -> Any:
        """The next row as a tuple, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """The rows that are left."""
        ...

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """What a change or a query works with, in the store's own thread.

    SQL is what both databases understand, with `?` for values, `elf_now()` for the database's clock (whole milliseconds
    since 1970, UTC), and `elf_uptime()` for how long it has run. The other methods are what the two do best in ways of
    their own.

    Attributes:
        skip_locked: ends a SELECT of rows that nobody else is to change before the commit; rows that somebody else is
            changing are left out.
    """

    skip_locked: str

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Cursor:
        """Run one statement."""
        ...

    def add_runs(self, rows: Sequence[RunRow], holder: str | None) -> dict[str, AddedRow]:
        """Add queued runs with their keys, without those whose id or key is there.

        Where a conversation is free, the first of its runs gets the turn, `holder` holds it where one is given, and it
        begins where that is wanted; the others wait.
        """
        ...

    def lock_runs(self, ids: Collection[str]) -> dict[str, HeadRow | None]:
        """Keep others from changing these runs until the commit.

        Absent ones are left out. None stands for one that somebody else kept for too long.
        """
        ...

    def add_events(self, events: Sequence[EventRow], moved: Sequence[MovedRow], free: Sequence[str]) -> set[str]:
        """Add events of locked runs and move them on; after the commit, let all processes know.

        Args:
            events: numbered.
            moved: the runs that they belong to.
            free: those of them that give up their turn and need no commands any more.

        Returns:
            Those of `free` that keep the turn as yet, because others wait for it.
        """
        ...

    def notify(self, keys: Sequence[str]) -> None:
        """After the commit, wake who waits for these keys, in all processes."""
        ...


@dataclass(frozen=True, slots=True)
class Group(Generic[ItemT, T]):
    """A kind of change of which all that wait are made at once.

    Attributes:
        rank: the order within a transaction, the same everywhere, so that two replicas cannot block each other.
        change: makes the changes; for each item its result, or the reason why it alone was not made. What it
            raises undoes the transaction, which is then tried again in halves.
    """

    rank: int
    change: Callable[[Connection, Sequence[ItemT]], Sequence[T | ElfError]]


class Store(Protocol):
    """One database. All methods belong to the event loop that called `open`.

    Attributes:
        waiters: who is told when a run changes, by this process or by another.
        shared: whether other processes may use it at the same time.
    """

    waiters: Waiters
    shared: bool

    @property
    def connected_since(self) -> float | None:
        """Monotonic seconds since when changes were possible without a break; None while they are not."""
        ...

    async def open(self) -> None:
        """Connect, and see that the schema is this release's.

        Raises:
            BadInput: the database cannot be used as it was named.
            Conflict: it is taken.
            Failure: its schema is another release's, or it does not keep what it acknowledges.
            Missing: a package is not installed.
            Retryable: it cannot be reached for now.
        """
        ...

    async def close(self) -> None:
        """Finish what waits, then disconnect."""
        ...

    def observe(self, observer: StoreObserver) -> None:
        """Tell this observer, until `close`, how long everything takes.

        Raises:
            Retryable: it is not open.
        """
        ...

    async def write(self, change: Callable[[Connection], T], then: Callable[[T], None] | None = None) -> T:
        """Execute `change` in a transaction, and return its result once that is durable.

        When `change` raises, what it did is undone and the exception is raised here; changes that share the
        transaction are not touched. It may be executed again, even after it was committed when the answer to the
        commit got lost, so it does nothing beside the database and knows its own traces. A caller that is cancelled
        leaves the change to be made all the same.

        Args:
            change: executed in the writer's thread.
            then: called with the result in the loop's thread after the commit, also when the caller has gone.

        Raises:
            Retryable: the database is full, locked or away.
            Failure: it cannot be written.
        """
        ...

    async def join(self, group: Group[ItemT, T], item: ItemT, then: Callable[[T], None] | None = None) -> T:
        """As `write`, for a change of which many are made at once."""
        ...

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Execute `query`, which changes nothing, in the reader's thread. It may be executed again.

        Raises:
            Retryable: the database is away.
            Failure: it cannot be read.
        """
        ...
