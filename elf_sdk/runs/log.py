"""The run log: one small protocol, implemented in memory (volatile) and on the store (durable).

A run is a row and its events. Whoever *holds* a run, and nobody else, appends to it: a process takes hold of a run when
it makes it or claims it, and lets go at its end, when it waits for a person, or when its lease ran out and another
process took the run away. Each hold has a number, the epoch, which every append is checked against. Who wants something
of a run that another process holds leaves a command. What `append` and `create` have returned is as safe as the log
promises (`RunLog.volatile`).

Of one conversation one run works at a time. It has the *turn*; the others wait, in the order in which they were made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from elf_sdk.errors import Conflict, NotFound, Retryable
from elf_sdk.runs.checkpoints import Checkpoints
from elf_sdk.runs.events import Event, LoggedEvent, is_terminal
from elf_sdk.runs.run import IdempotencyKey, Place, Run, RunFilter, RunPage, RunRequest, RunState, next_state
from elf_sdk.store.waiters import Waiters

__all__ = [
    "WORK",
    "IdempotencyKey",
    "Place",
    "Run",
    "RunFilter",
    "RunLog",
    "RunPage",
    "RunRequest",
    "RunState",
    "Stale",
    "Waiters",
    "check_end",
    "check_same",
    "crowded",
    "goes_on",
    "moved_on",
    "next_state",
    "refusal",
    "stale",
]


WORK: Final = "work"
"""Key of the waiters that hear when there is a run to be claimed."""


class Stale(Conflict):
    """This process does not hold the run, or not any more: whoever works on it stops."""


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


def refusal(run_id: str, run: Placed | None) -> Conflict | NotFound | None:
    """Why a run, or its absence, takes no events at all; None where it may."""
    if run is None:
        return NotFound(f"there is no run {run_id!r}")
    if RunState(run.state).terminal:
        return Conflict(f"the run {run_id!r} has ended as {run.state}")
    return None


def stale(run_id: str) -> Stale:
    """The refusal of an append by who does not hold the run."""
    return Stale(f"the run {run_id!r} is not held by this process any more")


def moved_on(run: Run, head: int, *, held: bool) -> Conflict:
    """The refusal of a take."""
    if held:
        return Conflict(f"the run {run.id!r} is held by a process that works on it")
    return Conflict(f"the run {run.id!r} has moved on to event {head}")


def crowded(waiting: int) -> Retryable:
    """The refusal of a run in a conversation where too many wait already."""
    return Retryable(f"{waiting} messages wait in this conversation already; wait for an answer, and send it again")


class RunLog(Protocol):
    """Where runs are kept. All methods belong to one event loop."""

    volatile: bool
    """Whether everything is lost with the process. The methods of such a log never give way to the event loop."""
    shared: bool
    """Whether other processes may claim what this one lets go of."""
    waiters: Waiters
    """Who is told of news: by a run's id, by `WORK`, and by `holder` when there are commands."""

    @property
    def holder(self) -> str:
        """This life of this process, as the log knows it."""
        ...

    def watch(self, alarm: Callable[[], None]) -> Callable[[], None]:
        """Have `alarm` called when this process has lost what it held; returns how to stop that."""
        ...

    def guard(self, alarm: Callable[[], None]) -> Callable[[], None]:
        """Have `alarm` called from whatever thread finds first that this process has lost what it held.

        What it held is let go of only when `alarm` has returned, so this is for what works outside the event loop and
        has to be gone by then. It may be called again. Returns how to stop that.
        """
        ...

    async def create(
        self,
        run_id: str,
        request: RunRequest,
        key: IdempotencyKey | None,
        *,
        hold: bool = True,
        begin: bool = False,
        waiting: int = 10,
    ) -> tuple[Run, bool]:
        """A new queued run, and True; or the run that the key already made, and False.

        Where its conversation is free the new run gets the turn, and this process holds it.

        Args:
            run_id: unique.
            request: what is asked.
            key: makes the start safe to repeat.
            hold: False leaves the run for another process to claim.
            begin: where the run is held, its first event is stored with it, `started`: whoever finds it after a crash
                knows that its work may have begun.
            waiting: how many runs may wait in a conversation.

        Raises:
            Conflict: the key was used for a different request.
            Retryable: too many runs wait in this conversation.
        """
        ...

    async def find(self, request: RunRequest, key: IdempotencyKey) -> Run | None:
        """The run that `create` would return without making one.

        Raises:
            Conflict: the key was used for a different request.
        """
        ...

    async def append(
        self, run_id: str, events: Sequence[Event], *, epoch: int | None = None, park: bool = False
    ) -> tuple[LoggedEvent, ...]:
        """Number and store events of a run that this process holds, move head and state, notify; all or nothing.

        At its end, and when it is parked, nobody holds the run any more, and its turn goes to who waits. A caller that
        is cancelled meanwhile leaves the events to be stored all the same.

        Args:
            run_id: whose events.
            events: in order; a terminal one only as the last.
            epoch: of the hold; None stands for the present one.
            park: let go of the run, because it waits for a person now.

        Raises:
            Conflict: the run has ended; nothing may follow its terminal event.
            NotFound: there is no such run.
            Stale: this process does not hold the run in this epoch.
            ValueError: an event cannot be encoded; nothing was stored.
        """
        ...

    async def take(self, run: Run, event: Event) -> Run:
        """Append one event to a run that nobody holds: an answer, or its end.

        After an answer the run has the turn and this process holds it; or it waits for its turn.

        Raises:
            Conflict: the run has ended, is not at `run.head` any more, or somebody holds it.
            NotFound: there is no such run.
        """
        ...

    async def claim(self, team: str, limit: int) -> tuple[Run, ...]:
        """Hold runs of this team whose turn it is and whom nobody holds, the oldest first."""
        ...

    async def release(self, run: Run, *, unstarted: bool = False) -> None:
        """Let go of a run that this process holds, so that another may claim it.

        Args:
            run: with the epoch of the hold.
            unstarted: nothing was done yet that counts: whoever claims it begins anew.

        Raises:
            Stale: this process does not hold it any more.
        """
        ...

    def checkpoints(self, run: Run) -> Checkpoints:
        """What is kept of a run that this process holds, by the epoch of the hold. At the run's end it is dropped."""
        ...

    async def command(self, run: Run, event: Event) -> None:
        """Ask whoever holds the run to end it like this. Kept until it does."""
        ...

    async def commands(self) -> tuple[tuple[str, Event], ...]:
        """What others ask of the runs that this process holds: ids of runs, and how they are to end."""
        ...

    async def read(
        self, run_id: str, after: int = 0, limit: int = 1000, *, lately: bool = False
    ) -> tuple[LoggedEvent, ...]:
        """Events with a number above `after`, in order, at most `limit`; empty where there are none.

        Args:
            run_id: whose.
            after: the last number that is known.
            limit: how many at most.
            lately: what is being committed right now may be missing; for those who are told of it in a moment.
        """
        ...

    async def get(self, run_id: str, *, lately: bool = False) -> Run | None:
        """The run, whoever owns it; `lately` as for `read`."""
        ...

    async def list(self, which: RunFilter, limit: int = 100) -> tuple[Run, ...]:
        """Runs that fit, the latest created first."""
        ...

    async def page(self, which: RunFilter, limit: int, before: Place | None = None) -> RunPage:
        """Runs that fit, the latest changed first, and among those the latest created.

        Args:
            which: what fits.
            limit: of runs on this page.
            before: where the page before this one ended; what did not change since is where it was.
        """
        ...

    async def count(self, team: str) -> Mapping[RunState, int]:
        """How many runs of a team are in each state; states without runs are left out."""
        ...
