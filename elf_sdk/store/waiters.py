"""Who waits for news of what, in this process: of a run by its id, or of work that somebody has to do."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

__all__ = ["Waiters"]


class _Watch:
    """Somebody who looks after many runs, and is told which has news."""

    __slots__ = ("_key", "_tell")

    def __init__(self, tell: Callable[[str], None], key: str) -> None:
        self._tell = tell
        self._key = key

    def set(self) -> None:
        self._tell(self._key)


class Waiters:
    """One event for each who waits. A notification is a hint: what there is to know is in the log.

    Register first, then read until nothing is left, then wait: no event falls between.
    """

    def __init__(self) -> None:
        self._by_key: defaultdict[str, dict[asyncio.Event | _Watch, bool]] = defaultdict(dict)

    @contextmanager
    def register(self, *keys: str, until_rest: bool = False) -> Iterator[asyncio.Event]:
        """An event that is set at each notification, for as long as the block runs.

        Args:
            keys: whose news: ids of runs, or what else is agreed on.
            until_rest: leave out the news after which the run surely still works.
        """
        waiter = asyncio.Event()
        self._enter(keys, waiter, until_rest)
        try:
            yield waiter
        finally:
            self._leave(keys, waiter)

    @contextmanager
    def watch(self, key: str, tell: Callable[[str], None]) -> Iterator[None]:
        """Have `tell` called with the key at each notification; it takes no time, and raises nothing."""
        watch = _Watch(tell, key)
        self._enter((key,), watch, until_rest=False)
        try:
            yield
        finally:
            self._leave((key,), watch)

    def _enter(self, keys: Iterable[str], waiter: asyncio.Event | _Watch, until_rest: bool) -> None:
        for key in keys:
            self._by_key[key][waiter] = until_rest

    def _leave(self, keys: Iterable[str], waiter: asyncio.Event | _Watch) -> None:
        for key in keys:
            waiting = self._by_key[key]
            del waiting[waiter]
            if not waiting:
                del self._by_key[key]

    @property
    def keys(self) -> tuple[str, ...]:
        """What somebody waits for."""
        return tuple(self._by_key)

    def notify(self, keys: Iterable[str], *, works: bool = False) -> None:
        """Wake all who wait for one of these. To be called in the loop's thread, after the commit.

        Args:
            keys: what has news.
            works: whether these runs surely still work; what another process says is not known as well.
        """
        for key in keys:
            for waiter, until_rest in self._by_key.get(key, {}).items():
                if not (works and until_rest):
                    waiter.set()
