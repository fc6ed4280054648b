"""A team's workers: a process for each run, from a fork server that is started when needed, and again when lost."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Coroutine
from typing import Any

from elf_sdk.models.llm import Endpoint
from elf_sdk.runs.adapter import Whereabouts
from elf_sdk.runs.worker.fork_server import ForkServer, refused
from elf_sdk.runs.worker.origin import Origin
from elf_sdk.runs.worker.process import Worker

__all__ = ["Workers"]

log = logging.getLogger("elf.runs")


class Workers:
    """A team's fork server: started when it is needed first, or beforehand, and again when it was lost.

    Args:
        origin: how a clean interpreter finds the team's adapter.
        name: of the team, for logs.
        model: of the team.
    """

    def __init__(self, origin: Origin, name: str, model: Endpoint | None = None) -> None:
        self._origin = origin
        self._name = name
        self._model = model
        self._numbers = itertools.count(1)
        self._server: ForkServer | None = None
        self._ended: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Begin to load the team, in the background."""
        try:
            self._living()
        except OSError as error:
            log.warning("the workers of %s cannot be started yet: %s", self._name, error)

    @property
    def state(self) -> str:
        """What there is, for people: `loading`, `forks`, or why there are fresh processes instead, or none."""
        if self._server is None or self._server.lost:
            why = self._server.broken if self._server is not None else ""
            return f"not loaded ({why})" if why else "not loaded"
        return self._server.state

    async def take(self, whereabouts: Whereabouts) -> Worker:
        """A process for one run.

        Args:
            whereabouts: of the run, which waits until the team's code is loaded.

        Raises:
            RunError: none can be had; the message says why.
        """
        try:
            server = self._living()
            whereabouts.tell = server.place
            await server.wait_ready()
            return Worker(server, next(self._numbers))
        except OSError as error:
            raise refused(error.strerror or str(error)) from error

    def end_all(self) -> None:
        """End all workers at once, and return when they are gone. For any thread: the event loop may stand still."""
        if self._server is not None:
            self._server.end_all()

    async def close(self) -> None:
        """End all workers, and what they come from."""
        server, self._server = self._server, None
        if server is not None:
            await server.close()
        if self._ended:
            await asyncio.wait(self._ended)

    def _living(self) -> ForkServer:
        if self._server is not None and not self._server.lost:
            return self._server
        if self._server is not None:
            self._later(self._server.close())
        self._server = ForkServer(self._origin, self._name, self._model)
        return self._server

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._ended.add(task)
        task.add_done_callback(self._ended.discard)
