"""The seam between the engine and whatever does the work.

An adapter has one method, `run`. It gets a `RunContext` and yields events; the engine stores them. Closing the
iterator is cancelling. An adapter never yields a terminal event: returning is success, raising is failure, and the
engine writes the end.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from elf_sdk.errors import Failure
from elf_sdk.models.llm import Endpoint
from elf_sdk.runs.checkpoints import Checkpoints, MemoryCheckpoints
from elf_sdk.runs.events import Event, LoggedEvent
from elf_sdk.team.spec import TeamSpec

__all__ = [
    "Adapter",
    "AdapterCapabilities",
    "Delegate",
    "Owner",
    "RunContext",
    "RunError",
    "TurnMessage",
    "Whereabouts",
]


@dataclass(frozen=True, slots=True)
class Owner:
    """On whose behalf a run is. Everything stored is scoped by it.

    Attributes:
        issuer: who vouches for the subject.
        subject: stable id at that issuer; for a workload its team.
    """

    issuer: str
    subject: str

    @property
    def key(self) -> str:
        """One string, distinct for distinct owners."""
        return f"{len(self.issuer)}:{self.issuer}:{self.subject}"


@dataclass(frozen=True, slots=True)
class TurnMessage:
    """One earlier message of the conversation."""

    role: Literal["user", "team"]
    text: str


@dataclass(frozen=True, slots=True)
class Delegate:
    """A team that this one may propose work to, as its models see it."""

    name: str
    title: str
    purpose: str


async def _no_history() -> tuple[TurnMessage, ...]:
    return ()


class Whereabouts:
    """Where the work of a run stands, as far as what does it can tell; asked when a run is ended for taking too long.

    Attributes:
        tell: set by an adapter that can tell, while it can: gives a place such as `crew.py, line 12`, or nothing.
    """

    def __init__(self) -> None:
        self.tell: Callable[[], Awaitable[str]] | None = None

    async def place(self) -> str:
        """The place, or nothing."""
        return await self.tell() if self.tell is not None else ""


@dataclass(frozen=True, slots=True)
class RunContext:
    """All that an adapter knows of the run.

    Attributes:
        run_id: for logs, and for keys of effects.
        spec: the team, environment merged in.
        owner: on whose behalf.
        conversation: id of the conversation, scoped by owner and team already: safe as a framework's thread id.
        text: what was asked.
        endpoint: the model to talk to.
        delegates: the teams that may be proposed for delegation.
        history: earlier messages, oldest first, at most `chat.context_window_messages`; read only when called.
        answers: what a person answered so far, by the id of the question.
        message_id: the caller's own id of the latest message, question or answer; empty where the protocol has none.
        attempt: 1, and one more each time that the work was cut off and is taken up again. An adapter that can recover
            then goes on where the work was, and says what it repeats by a `Rewound` event.
        before: what the run's log held when the work began.
        checkpoints: what the adapter keeps of the run.
        deadline: when the engine ends the run, by `time.monotonic()`, which the processes of a machine share, or None.
            Calls to models wait no longer than that.
        whereabouts: where an adapter that knows where its work stands says so.
    """

    run_id: str
    spec: TeamSpec
    owner: Owner
    conversation: str
    text: str
    endpoint: Endpoint
    delegates: tuple[Delegate, ...] = ()
    history: Callable[[], Awaitable[tuple[TurnMessage, ...]]] = field(default=_no_history)
    answers: Mapping[str, str] = field(default_factory=dict)
    message_id: str = ""
    attempt: int = 1
    before: tuple[LoggedEvent, ...] = ()
    checkpoints: Checkpoints = field(default_factory=MemoryCheckpoints)
    deadline: float | None = None
    whereabouts: Whereabouts = field(default_factory=Whereabouts, compare=False)


@dataclass(frozen=True, slots=True)
class AdapterCapabilities:
    """What the adapter really does; shown in /capabilities and in the extended card.

    Attributes:
        stream: text arrives while the model still writes.
        human: questions to a person survive a restart.
        cancel: `certain` stops the work, `cooperative` asks it to stop and frees the caller.
        recover: continues after the process died, without repeating finished steps.
        blocking: has synchronous code, which holds the loop or a thread; such work is done in a worker process unless
            `runs.isolation` says otherwise. Not shown: what follows from it is `cancel`.
    """

    stream: bool
    human: bool
    cancel: Literal["certain", "cooperative"]
    recover: bool
    blocking: bool = False


class RunError(Failure):
    """Why a run failed, in a sentence for the caller that holds no secret; the engine ends the run with it.

    Attributes:
        code: as in `events.Failed`: `model`, `team`, `input`, `rejected`, or another of its codes.
        retryable: whether the same run may succeed later.
    """

    def __init__(self, message: str, *, code: str = "team", retryable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable


@runtime_checkable
class Adapter(Protocol):
    """Runs a framework's work as a stream of events."""

    name: str
    capabilities: AdapterCapabilities

    def run(self, ctx: RunContext) -> AsyncGenerator[Event, None]:
        """Do the work of one run.

        Yields:
            Neutral events, none of them terminal.

        Raises:
            RunError: what went wrong is known; the engine ends the run as failed with its code and message.
            Exception: whatever the team's own code raised; the engine ends the run as failed with it.
        """
        ...
