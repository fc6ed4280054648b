"""The run log: one small protocol, implemented in memory (volatile) and on the store (durable).

A run is a row and its events. Only the engine that holds a run appends to it; whoever else wants something of a run
asks that engine. What `append` and `create` have returned is as safe as the log promises (`RunLog.volatile`).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Protocol, TypeVar

import orjson

from elf_sdk.errors import Conflict
from elf_sdk.runs.adapter import Owner
from elf_sdk.runs.events import (
    Answered,
    Cancelled,
    Event,
    Failed,
    Finished,
    InputRequired,
    LoggedEvent,
    Started,
    clean,
    is_terminal,
)

__all__ = [
    "IdempotencyKey",
    "Run",
    "RunFilter",
    "RunLog",
    "RunRequest",
    "RunState",
    "Waiters",
    "check_end",
    "next_state",
]

StateT = TypeVar("StateT")


class RunState(StrEnum):
    """Where a run is. `QUEUED` and `WORKING` occupy the engine, `INPUT_REQUIRED` occupies nothing."""

    QUEUED = "queued"
    WORKING = "working"
    INPUT_REQUIRED = "input_required"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether nothing more will happen."""
        return self in _TERMINAL


_TERMINAL: Final = frozenset({RunState.FINISHED, RunState.FAILED, RunState.CANCELLED})
_NEXT: Final[Mapping[type[Event], RunState]] = {
    Started: RunState.WORKING,
    Answered: RunState.QUEUED,
    InputRequired: RunState.INPUT_REQUIRED,
    Finished: RunState.FINISHED,
    Failed: RunState.FAILED,
    Cancelled: RunState.CANCELLED,
}


def next_state(state: StateT, events: Sequence[Event]) -> RunState | StateT:
    """The state after `events` of a run in `state`, which they may leave as it is."""
    now: RunState | StateT = state
    for event in events:
        now = _NEXT.get(type(event), now)
    return now


def check_end(run_id: str, events: Sequence[Event]) -> None:
    """Refuse events behind a terminal one.

    Raises:
        Conflict: there are.
    """
    if any(is_terminal(event) for event in events[:-1]):
        raise Conflict(f"nothing may follow the end of the run {run_id!r}")


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """Makes a start safe to repeat.

    Attributes:
        protocol: `a2a`, `chat` or `delegation`.
        operation: what is started, within the protocol.
        key: the caller's own, such as an A2A message id. Scoped by team, owner, protocol and operation.
    """

    protocol: str
    operation: str
    key: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", clean(self.key))


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What somebody asks of a team.

    Attributes:
        team: its name.
        owner: on whose behalf.
        context_id: the conversation, as the caller names it.
        text: what is asked; cleaned like the text of events.
        metadata: JSON that protocols keep with the run, such as the message id, or the chain of teams.
    """

    team: str
    owner: Owner
    context_id: str
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # A frozen dataclass leaves no other way to keep out what no store takes.
        for name in ("context_id", "text", "metadata"):
            object.__setattr__(self, name, clean(getattr(self, name)))

    @property
    def digest(self) -> str:
        """Hash of all that makes the request what it is; hexadecimal."""
        body = orjson.dumps(
            [self.team, self.owner.key, self.context_id, self.text, dict(self.metadata)], option=orjson.OPT_SORT_KEYS
        )
        return hashlib.sha256(body).hexdigest()

    @property
    def conversation(self) -> str:
        """The context id scoped by team and owner, so that nobody can name another's."""
        scoped = orjson.dumps([self.team, self.owner.key, self.context_id])
        return hashlib.sha256(scoped).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Run:
    """One unit of work, as its row in the log says.

    Attributes:
        id: unique.
        request: what was asked, by whom.
        state: after event number `head`.
        head: how many events there are.
        created_at: aware, by the store's clock.
        updated_at: when the last event was stored.
    """

    id: str
    request: RunRequest
    state: RunState
    head: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to list; unset fields do not narrow.

    Attributes:
        team: always given: a server sees its own team's runs.
        owner: whose.
        context_id: of one conversation.
        states: any of these.
    """

    team: str
    owner: Owner | None = None
    context_id: str | None = None
    states: frozenset[RunState] | None = None


class Waiters:
    """Who waits for news of which run, in this process.

    Register first, then read until nothing is left, then wait: no event falls between.
    """

    def __init__(self) -> None:
        self._by_run: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    @contextmanager
    def register(self, run_id: str) -> Iterator[asyncio.Event]:
        """An event that is set at each notification, for as long as the block runs."""
        waiter = asyncio.Event()
        self._by_run[run_id].add(waiter)
        try:
            yield waiter
        finally:
            waiting = self._by_run[run_id]
            waiting.discard(waiter)
            if not waiting:
                del self._by_run[run_id]

    def notify(self, run_id: str) -> None:
        """Wake all who wait for `run_id`. To be called in the loop's thread, after the commit."""
        for waiter in self._by_run.get(run_id, ()):
            waiter.set()


class RunLog(Protocol):
    """Where runs are kept. All methods belong to one event loop."""

    volatile: bool
    """Whether everything is lost with the process."""
    waiters: Waiters

    async def create(self, run_id: str, request: RunRequest, key: IdempotencyKey | None) -> tuple[Run, bool]:
        """A new queued run, and True; or the run that the key already made, and False.

        Raises:
            Conflict: the key was used for a different request.
        """
        ...

    async def find(self, request: RunRequest, key: IdempotencyKey) -> Run | None:
        """The run that `create` would return without making one.

        Raises:
            Conflict: the key was used for a different request.
        """
        ...

    async def append(self, run_id: str, events: Sequence[Event], head: int | None = None) -> tuple[LoggedEvent, ...]:
        """Number and store events, move the head and the state, and notify, all or nothing.

        A caller that is cancelled meanwhile leaves the events to be stored all the same.

        Args:
            run_id: whose events.
            events: in order; a terminal one only as the last.
            head: where the run must still be; None takes it wherever it is.

        Raises:
            Conflict: the run has ended; nothing may follow its terminal event. Or it is not at `head` any more.
            NotFound: there is no such run.
            ValueError: an event cannot be encoded; nothing was stored.
        """
        ...

    async def read(self, run_id: str, after: int = 0, limit: int = 1000) -> tuple[LoggedEvent, ...]:
        """Events with a number above `after`, in order, at most `limit`; empty where there are none."""
        ...

    async def get(self, run_id: str) -> Run | None:
        """The run, whoever owns it."""
        ...

    async def list(self, which: RunFilter, limit: int = 100) -> tuple[Run, ...]:
        """Runs that fit, the latest created first."""
        ...

    async def count(self, team: str) -> Mapping[RunState, int]:
        """How many runs of a team are in each state; states without runs are left out."""
        ...
