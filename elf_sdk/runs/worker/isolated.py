"""The adapter whose runs are processes of their own."""

from __future__ import annotations

import asyncio
import logging
import pickle
from collections.abc import AsyncGenerator, Coroutine
from dataclasses import replace
from typing import Any, Final

from elf_sdk import errors
from elf_sdk.errors import ElfError
from elf_sdk.models.llm import Endpoint
from elf_sdk.runs.adapter import AdapterCapabilities, RunContext, RunError
from elf_sdk.runs.events import MAX_EVENT_BYTES, Event, decode
from elf_sdk.runs.worker.context import Calls, calls_of, pack
from elf_sdk.runs.worker.origin import Origin
from elf_sdk.runs.worker.process import Worker
from elf_sdk.runs.worker.wire import Garbled
from elf_sdk.runs.worker.workers import Workers

__all__ = ["Isolated"]

log = logging.getLogger("elf.runs")

_CALLS: Final = 32
"""Calls of one run that are answered at once; more wait, and so does what comes behind them."""
_GARBLED: Final = (
    "the process of the run wrote what is no message to the server; the team's code must leave its line alone"
)


class Isolated:
    """Runs another adapter, each run in a process of its own, which dies with it.

    Args:
        name: of the other adapter.
        capabilities: of the other adapter.
        origin: how a clean interpreter finds it.
        team: whose adapter it is, for logs.
        model: of the team; clients that its code makes by itself find it in the environment of the processes.
    """

    def __init__(
        self,
        name: str,
        capabilities: AdapterCapabilities,
        origin: Origin,
        team: str = "",
        model: Endpoint | None = None,
    ) -> None:
        self.name = name
        self.capabilities = replace(capabilities, cancel="certain", blocking=False)
        self._workers = Workers(origin, team or name, model)

    def open(self) -> None:
        """Begin to load the team's code, in the background; otherwise the first run does it."""
        self._workers.open()

    async def close(self) -> None:
        """End all processes."""
        await self._workers.close()

    def end_all(self) -> None:
        """End all runs' processes at once, from any thread, and return when they are gone."""
        self._workers.end_all()

    @property
    def state(self) -> str:
        """Where the processes come from, for people: `forks`, `fresh processes (why)`, `loading` or `not loaded`."""
        return self._workers.state

    async def run(self, ctx: RunContext) -> AsyncGenerator[Event, None]:
        """Do the work of one run; see `Adapter.run`. When it is closed, its process is gone."""
        worker = await self._workers.take(ctx.whereabouts)
        calls = _Answers(worker, calls_of(ctx))
        over = False
        try:
            await worker.open()
            ctx.whereabouts.tell = worker.place
            worker.write({}, pack(ctx))
            while (received := await worker.read()) is not None:
                header, body = received
                if "event" in header:
                    yield _event(str(header["event"]), body)
                elif "call" in header:
                    await calls.take(header, body)
                elif "failed" in header:
                    over = True
                    raise _failure(header["failed"])
                elif "done" in header:
                    over = True
                    return
                else:
                    raise Garbled("a frame of no known kind")
            raise await worker.epitaph()
        except Garbled as error:
            over = True
            log.warning("the process of the run is not understood: %s", error)
            raise RunError(_GARBLED) from None
        finally:
            ctx.whereabouts.tell = None
            calls.close()
            await _whole(worker.kill() if over else worker.stop())


class _Answers:
    """Answers what the process asks of the server, beside its events."""

    def __init__(self, worker: Worker, calls: Calls) -> None:
        self._worker = worker
        self._calls = calls
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self, header: dict[str, Any], body: bytes) -> None:
        """Begin to answer; waits while too many are under way."""
        while len(self._tasks) >= _CALLS:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(self._answer(header, body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, header: dict[str, Any], body: bytes) -> None:
        try:
            result = await self._calls[header["method"]](body, **header["arguments"])
            self._worker.write({"reply": header["call"]}, pickle.dumps(result))
        except Exception as error:
            if not isinstance(error, ElfError):
                log.exception("a call of the run's process failed")
            self._worker.write({"reply": header["call"], "error": _known(error), "message": str(error)[:2000]})
        await self._worker.drain()

    def close(self) -> None:
        """Answer no more."""
        for task in self._tasks:
            task.cancel()


def _event(kind: str, body: bytes) -> Event:
    if len(body) > MAX_EVENT_BYTES:
        raise Garbled(f"an event of {len(body)} bytes")
    try:
        return decode(kind, body)
    except (ValueError, TypeError, AttributeError) as error:
        raise Garbled(f"a {kind[:50]} event: {error}") from None


def _failure(said: Any) -> RunError:
    try:
        return RunError(str(said["message"]), code=str(said["code"]), retryable=bool(said["retryable"]))
    except (TypeError, KeyError) as error:
        raise Garbled(f"a failure without {error}") from None


def _known(error: Exception) -> str:
    """The class in `elf_sdk.errors` that the process is to raise."""
    for cls in type(error).__mro__:
        if cls.__module__ == errors.__name__ and cls is not errors.BadSpec:
            return cls.__name__
    return errors.Failure.__name__


async def _whole(work: Coroutine[Any, Any, None]) -> None:
    """Do it to its end, whoever does not want to wait for it: its time is bounded."""
    task = asyncio.create_task(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError
