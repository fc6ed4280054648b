"""What this process wrote lately, so that those who wait for it here need not ask the database.

A run that this process holds is changed by nobody else, and a run that has ended by nobody at all.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from elf_sdk.runs.events import LoggedEvent
from elf_sdk.runs.run import Run, next_state

__all__ = ["Recent"]

_ENDED: Final = 256
"""Runs that are kept after this process let go of them."""
_ENDED_FOR: Final = 60.0
"""Seconds for which they are kept, so that a run that is deleted is gone."""
_EVENTS: Final = 256
"""The latest events of one run that are kept; older ones are in the database."""


@dataclass(slots=True)
class _Kept:
    run: Run
    events: deque[LoggedEvent] = field(default_factory=lambda: deque(maxlen=_EVENTS))
    under_way: int = 0
    ended_at: float = 0.0


class Recent:
    """Runs with their latest events, as this process wrote them."""

    def __init__(self) -> None:
        self._held: dict[str, _Kept] = {}
        self._ended: OrderedDict[str, _Kept] = OrderedDict()

    def add(self, run: Run, events: Iterable[LoggedEvent] = ()) -> None:
        """A run that this process begins to hold, with its latest events as far as they are known."""
        self._held[run.id] = _Kept(run, deque(events, maxlen=_EVENTS))

    def send(self, run_id: str) -> None:
        """Events of the run are on their way to the database, which may know them before this process hears of it.

        Until `extend` or `forget` the database is asked, so that nobody is told less here than elsewhere.
        """
        if kept := self._held.get(run_id):
            kept.under_way += 1

    def extend(self, run_id: str, logged: Sequence[LoggedEvent], *, let_go: bool) -> None:
        """Events that were just stored; with `let_go` this process holds the run no more."""
        kept = self._held.get(run_id)
        if kept is None or not logged or logged[0].seq != kept.run.head + 1:
            self.forget(run_id)
            return
        run = kept.run
        kept.under_way -= 1
        kept.events += logged
        state = next_state(run.state, [entry.event for entry in logged])
        at = logged[-1].at
        changed_at = at if state is not run.state else run.changed_at
        kept.run = Run(
            run_id,
            run.request,
            state,
            logged[-1].seq,
            run.created_at,
            at,
            changed_at,
            run.epoch,
            run.held and not let_go,
        )
        if let_go:
            del self._held[run_id]
            if state.terminal and kept.run.head < _EVENTS:
                kept.ended_at = time.monotonic()
                self._ended[run_id] = kept
                if len(self._ended) > _ENDED:
                    self._ended.popitem(last=False)

    def get(self, run_id: str, *, held: bool, lately: bool) -> Run | None:
        """The run, where it is here; without `held` only one that has ended, without `lately` none under way."""
        kept = self._find(run_id, held, lately)
        return None if kept is None else kept.run

    def read(self, run_id: str, after: int, limit: int, *, held: bool, lately: bool) -> tuple[LoggedEvent, ...] | None:
        """Events of a run with a number above `after`, where all of them are here; else as `get`."""
        kept = self._find(run_id, held, lately)
        if kept is None or after < kept.run.head - len(kept.events):
            return None
        start = after - (kept.run.head - len(kept.events))
        return tuple(islice(kept.events, start, start + limit))

    def forget(self, run_id: str) -> None:
        """Ask the database for this run from now on."""
        self._held.pop(run_id, None)

    def forget_held(self) -> None:
        """Ask the database for all runs that have not ended."""
        self._held.clear()

    def _find(self, run_id: str, held: bool, lately: bool) -> _Kept | None:
        if held and (kept := self._held.get(run_id)) is not None:
            return kept if lately or not kept.under_way else None
        kept = self._ended.get(run_id)
        if kept is not None and time.monotonic() - kept.ended_at > _ENDED_FOR:
            del self._ended[run_id]
            return None
        return kept
