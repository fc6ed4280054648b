"""Who waits for news of which run, in this process."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

__all__ = ["Waiters"]


class _Watch:
    """Somebody who looks after many runs, and is told which has news."""

    __slots__ = ("_run_id", "_tell")

    def __init__(self, tell: Callable[[str], None], run_id: str) -> None:
        self._tell = tell
        self._run_id = run_id

    def set(self) -> None:
        self._tell(self._run_id)


class Waiters:
    """One event for each who waits. A notification is a hint: what there is to know is in the log.

    Register first, then read until nothing is left, then wait: no event falls between.
    """

    def __init__(self) -> None:
        self._by_run: defaultdict[str, dict[asyncio.Event | _Watch, bool]] = defaultdict(dict)

    @contextmanager
    def register(self, run_id: str, *, until_rest: bool = False) -> Iterator[asyncio.Event]:
        """An event that is set at each notification, for as long as the block runs.

        Args:
            run_id: whose news.
            until_rest: leave out the news after which the run surely still works.
        """
        waiter = asyncio.Event()
        with self._entered(run_id, waiter, until_rest):
            yield waiter

    @contextmanager
    def watch(self, run_id: str, tell: Callable[[str], None]) -> Iterator[None]:
        """Have `tell` called with the run's id at each notification; it takes no time, and raises nothing."""
        with self._entered(run_id, _Watch(tell, run_id), until_rest=False):
            yield

    @contextmanager
    def _entered(self, run_id: str, waiter: asyncio.Event | _Watch, until_rest: bool) -> Iterator[None]:
        self._by_run[run_id][waiter] = until_rest
        try:
            yield
        finally:
            waiting = self._by_run[run_id]
            del waiting[waiter]
            if not waiting:
                del self._by_run[run_id]

    @property
    def runs(self) -> tuple[str, ...]:
        """The ids of the runs that somebody waits for."""
        return tuple(self._by_run)

    def notify(self, run_ids: Iterable[str], *, works: bool = False) -> None:
        """Wake all who wait for one of these. To be called in the loop's thread, after the commit.

        Args:
            run_ids: what has news.
            works: whether these runs surely still work; what another process says is not known as well.
        """
        for run_id in run_ids:
            for waiter, until_rest in self._by_run.get(run_id, {}).items():
                if not (works and until_rest):
                    waiter.set()
