"""A run as a value: what was asked, by whom, and where it is. Pure, so that codecs can speak of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeVar

import orjson

from elf_sdk.runs.adapter import Owner
from elf_sdk.runs.events import (
    REJECTED,
    Answered,
    AuthRequired,
    Cancelled,
    Event,
    Failed,
    Finished,
    InputRequired,
    Started,
    clean,
)

__all__ = ["IdempotencyKey", "Place", "Run", "RunFilter", "RunPage", "RunRequest", "RunState", "next_state"]

StateT = TypeVar("StateT")


class RunState(StrEnum):
    """Where a run is. `QUEUED` and `WORKING` occupy the engine, all others nothing."""

    QUEUED = "queued"
    WORKING = "working"
    INPUT_REQUIRED = "input_required"
    AUTH_REQUIRED = "auth_required"
    FINISHED = "finished"
    FAILED = "failed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether nothing more will happen."""
        return self in _TERMINAL

    @property
    def waits(self) -> bool:
        """Whether somebody has to answer or to act before it goes on."""
        return self in _WAITING


_TERMINAL: Final = frozenset({RunState.FINISHED, RunState.FAILED, RunState.REJECTED, RunState.CANCELLED})
_WAITING: Final = frozenset({RunState.INPUT_REQUIRED, RunState.AUTH_REQUIRED})
_NEXT: Final[Mapping[type[Event], RunState]] = {
    Started: RunState.WORKING,
    Answered: RunState.QUEUED,
    InputRequired: RunState.INPUT_REQUIRED,
    AuthRequired: RunState.AUTH_REQUIRED,
    Finished: RunState.FINISHED,
    Failed: RunState.FAILED,
    Cancelled: RunState.CANCELLED,
}


def next_state(state: StateT, events: Sequence[Event]) -> RunState | StateT:
    """The state after `events` of a run in `state`, which they may leave as it is."""
    now: RunState | StateT = state
    for event in events:
        now = _NEXT.get(type(event), now)
        if now is RunState.FAILED and isinstance(event, Failed) and event.code == REJECTED:
            now = RunState.REJECTED
    return now


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
        deadline: seconds that the caller leaves for the work; None where the team's own bound holds alone. A repeat
            with less time left is still the same request.
        conversation: the context id scoped by team and owner, so that nobody can name another's.
    """

    team: str
    owner: Owner
    context_id: str
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    deadline: float | None = field(default=None, compare=False)
    conversation: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # A frozen dataclass leaves no other way to keep out what no store takes.
        for name in ("context_id", "text", "metadata"):
            object.__setattr__(self, name, clean(getattr(self, name)))
        scoped = orjson.dumps([self.team, self.owner.key, self.context_id])
        object.__setattr__(self, "conversation", hashlib.sha256(scoped).hexdigest()[:32])

    @property
    def digest(self) -> str:
        """Hash of all that makes the request what it is; hexadecimal."""
        body = orjson.dumps(
            [self.team, self.owner.key, self.context_id, self.text, dict(self.metadata)], option=orjson.OPT_SORT_KEYS
        )
        return hashlib.sha256(body).hexdigest()


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
        changed_at: when the state was last another one.
        epoch: how often somebody has begun to hold it.
        held: whether this process holds it, and nobody else may append to it.
    """

    id: str
    request: RunRequest
    state: RunState
    head: int
    created_at: datetime
    updated_at: datetime
    changed_at: datetime
    epoch: int = field(default=0, compare=False)
    held: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to list; unset fields do not narrow.

    Attributes:
        team: always given: a server sees its own team's runs.
        owner: whose.
        context_id: of one conversation.
        states: any of these.
        changed_since: aware; those whose state was last another one no earlier.
    """

    team: str
    owner: Owner | None = None
    context_id: str | None = None
    states: frozenset[RunState] | None = None
    changed_since: datetime | None = None


class Place(NamedTuple):
    """Where a run is among those that a log lists by their last change. What changes meanwhile comes before it.

    Attributes:
        changed_at: by the log's own count of time.
        number: in which order the log has made its runs.
    """

    changed_at: int
    number: int


@dataclass(frozen=True, slots=True)
class RunPage:
    """Some runs of a list.

    Attributes:
        runs: the latest changed first.
        total: how many fit in all, on this page or another.
        last: the place of the last of `runs`; None where no more come behind it.
    """

    runs: tuple[Run, ...]
    total: int
    last: Place | None
