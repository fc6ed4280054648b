"""The run log: one small protocol, implemented in memory (volatile) and on the store (durable).

A run is a row and its events. Only the engine that holds a run appends to it; whoever else wants something of a run
asks that engine. What `append` and `create` have returned is as safe as the log promises (`RunLog.volatile`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from elf_sdk.errors import Conflict, NotFound
from elf_sdk.runs.events import Event, LoggedEvent, is_terminal
from elf_sdk.runs.run import IdempotencyKey, Run, RunFilter, RunRequest, RunState, next_state
from elf_sdk.store.waiters import Waiters

__all__ = [
    "IdempotencyKey",
    "Run",
    "RunFilter",
    "RunLog",
    "RunRequest",
    "RunState",
    "Waiters",
    "check_end",
    "check_same",
    "goes_on",
    "next_state",
    "refusal",
]


def check_end(run_id: str, events: Sequence[Event]) -> None:
    """Refuse events behind a terminal one.

    Raises:
        Conflict: there are.
    """
    if any(is_terminal(event) for event in events[:-1]):
        raise Conflict(f"nothing may follow the end of the run {run_id!r}")


def check_same(key: IdempotencyKey, digest: str, request: RunRequest) -> None:
    """Refuse a key that was used before, for the request of `digest`, when `request` is another.

    Raises:
        Conflict: it is.
    """
    if digest != request.digest:
        raise Conflict(f"the key {key.key!r} was used before for a different request; use another")


def goes_on(state: RunState | None) -> bool:
    """Whether a run still works after events that left it in `state`; None where they left it as it was."""
    return state is None or not (state.terminal or state.waits)


class Placed(Protocol):
    """What says where a run is."""

    @property
    def state(self) -> str:
        """A value of `RunState`."""
        ...

    @property
    def head(self) -> int:
        """How many events there are."""
        ...


def refusal(run_id: str, run: Placed | None) -> Conflict | NotFound:
    """Why a run, or its absence, takes no events."""
    if run is None:
        return NotFound(f"there is no run {run_id!r}")
    if RunState(run.state).terminal:
        return Conflict(f"the run {run_id!r} has ended as {run.state}")
    return Conflict(f"the run {run_id!r} has moved on to event {run.head}")


class RunLog(Protocol):
    """Where runs are kept. All methods belong to one event loop."""

    volatile: bool
    """Whether everything is lost with the process. The methods of such a log never give way to the event loop."""
    waiters: Waiters

    async def claim(self, team: str) -> None:
        """Keep other processes from running this team's work, for as long as the log is open.

        Raises:
            Conflict: another one does.
        """
        ...

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
