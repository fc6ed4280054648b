"""Who is told what an engine does, such as a server's metrics."""

from __future__ import annotations

from collections.abc import Sequence

from elf_sdk.runs.events import Event
from elf_sdk.runs.run import Run

__all__ = ["RunObserver", "RunWatch"]


class RunWatch:
    """Told of one run, from where this process takes it to where it lets go of it. Does nothing by itself.

    All methods are called in the event loop's thread, often, and must not raise.
    """

    __slots__ = ()

    def working(self) -> None:
        """It has a place, and the adapter is about to be called."""

    def stored(self, events: Sequence[Event]) -> None:
        """These events of the adapter are in the log, as safe as it makes them."""

    def ended(self, end: Event | None) -> None:
        """The run is over with this event, or, with None, waits for a person. It is stored."""

    def left(self) -> None:
        """This process let go of the run before its end: it stops, or lost the run to another one."""


class RunObserver:
    """Told of all runs of an engine. Does nothing by itself."""

    def queued(self, run: Run) -> RunWatch:
        """The process takes a run that is to work, new or to be gone on with. Returns who is told of the rest."""
        return _NOBODY


_NOBODY = RunWatch()
