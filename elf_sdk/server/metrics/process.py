"""What is counted of a process, and what is looked up when somebody asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final

from typing_extensions import override

from elf_sdk import __version__
from elf_sdk.errors import ElfError
from elf_sdk.runs.engine import EngineStatus
from elf_sdk.runs.run import RunState
from elf_sdk.server.metrics import catalogue
from elf_sdk.server.metrics.families import Families, Sample
from elf_sdk.server.metrics.team import TeamMetrics
from elf_sdk.store.observer import StoreObserver

__all__ = ["Metrics"]

_LAG_INTERVAL: Final = 0.25
"""Seconds between two looks at how late the event loop is."""
_PATIENCE: Final = 2.0
"""Seconds that the store gets to answer a scrape."""


class Metrics(StoreObserver):
    """What is counted of a process and its teams."""

    def __init__(self) -> None:
        self._families = Families()
        self._teams: dict[str, TeamMetrics] = {}
        self._gauges: dict[str, _Gauges] = {}
        self._lag = self._families.distribution(catalogue.LAG)
        self._flush = self._families.distribution(catalogue.FLUSH)
        self._flush_size = self._families.distribution(catalogue.FLUSH_SIZE)
        self._read = self._families.distribution(catalogue.READ)

    def team(self, name: str) -> TeamMetrics:
        """What is counted of a team; the same for the same name."""
        if name not in self._teams:
            self._teams[name] = TeamMetrics(self._families, name)
        return self._teams[name]

    @contextmanager
    def showing(
        self, team: str, status: Callable[[], Awaitable[EngineStatus]], chats: Callable[[], int]
    ) -> Iterator[None]:
        """Look a team's state up at each scrape, for as long as the block runs.

        Args:
            team: its name.
            status: of its engine; raises where the store is away.
            chats: how many are open.
        """
        self._gauges[team] = _Gauges(team, status, chats)
        try:
            yield
        finally:
            del self._gauges[team]

    @asynccontextmanager
    async def watching_loop(self) -> AsyncGenerator[None, None]:
        """Measure how late the event loop is, for as long as the block runs."""
        task = asyncio.create_task(self._watch_loop(), name="event loop lag")
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _watch_loop(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _LAG_INTERVAL
            await asyncio.sleep(_LAG_INTERVAL)
            self._lag.observe(max(loop.time() - due, 0.0))

    @override
    def flushed(self, seconds: float, changes: int) -> None:
        self._flush.observe(seconds)
        self._flush_size.observe(changes)

    @override
    def read(self, seconds: float, queries: int) -> None:
        self._read.observe(seconds)

    async def samples(self, team: str | None = None) -> list[Sample]:
        """All that there is to tell now; of the teams only `team`, where that is given."""
        found = [Sample(catalogue.BUILD, (__version__,), 1)]
        if shown := [gauges for name, gauges in self._gauges.items() if team in (None, name)]:
            looks = await asyncio.gather(*(gauges.look() for gauges in shown))
            found.append(Sample(catalogue.STORE_UP, (), float(None not in looks)))
            for gauges, look in zip(shown, looks, strict=True):
                found += [*gauges.at_hand(), *(look or ())]
        found += [
            sample
            for sample in self._families.samples()
            if team is None or sample.metric.labels[:1] != ("team",) or sample.labels[0] == team
        ]
        return found


class _Gauges:
    def __init__(self, team: str, status: Callable[[], Awaitable[EngineStatus]], chats: Callable[[], int]) -> None:
        self._team = team
        self._status = status
        self._chats = chats

    def at_hand(self) -> list[Sample]:
        """The samples that need no store."""
        return [Sample(catalogue.CHATS, (self._team,), self._chats())]

    async def look(self) -> list[Sample] | None:
        """The samples that the store knows; None where it does not answer."""
        try:
            async with asyncio.timeout(_PATIENCE):
                status = await self._status()
        except (ElfError, TimeoutError):
            return None
        team = self._team
        return [
            *(Sample(catalogue.RUNS, (team, state.value), status.runs.get(state, 0)) for state in RunState),
            Sample(catalogue.WORKING, (team,), status.running),
            Sample(catalogue.QUEUED, (team,), status.queued),
        ]
