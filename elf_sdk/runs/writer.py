"""How one run's events reach the log: in order, coalesced, and never further than the log has acknowledged."""

from __future__ import annotations

import asyncio
from typing import Final

from elf_sdk.errors import Conflict
from elf_sdk.runs.events import Event, TextDelta, as_stored
from elf_sdk.runs.log import RunLog
from elf_sdk.runs.observer import RunWatch

__all__ = ["RunWriter"]

_COALESCE: Final = 0.025
"""Seconds for which text deltas are held back, counted from the flush before, while nothing but text comes."""
_BUFFER: Final = 256
"""Events that may wait for the log; then the adapter is not read any further."""
_DELTA: Final = 16_000
"""Characters in one stored delta, so that the encoded event stays well below its bound."""


class RunWriter:
    """Buffers the events of one run and flushes them; a flush starts as soon as the one before it is done.

    A failure of the log is raised by the next call.

    Args:
        log: where they go.
        run_id: whose they are.
        epoch: in which this process holds the run.
        watch: told what is stored.

    Attributes:
        failure: what the log raised, once it has.
    """

    def __init__(self, log: RunLog, run_id: str, epoch: int, watch: RunWatch) -> None:
        self._log = log
        self._run_id = run_id
        self._epoch = epoch
        self._watch = watch
        self._buffer: list[Event] = []
        # Whether something waits that is not to be held back.
        self._urgent = False
        # Begins the next flush. A run that is done at once needs none, and so no task for it.
        self._due: asyncio.Handle | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._flushed_at = 0.0
        self._ending = False
        self.failure: Exception | None = None

    async def add(self, event: Event) -> None:
        """Take an event. Waits only when too much waits already.

        Raises:
            Conflict: the run is being ended.
            ValueError: the event cannot be stored; what came before it is.
        """
        self._raise_failure()
        if self._ending:
            raise Conflict(f"the run {self._run_id!r} is being ended")
        text = isinstance(event, TextDelta)
        if not text:
            as_stored(event)
        self._buffer.append(event)
        self._schedule(urgent=not text)
        if len(self._buffer) >= _BUFFER:
            await self.flush()

    async def flush(self) -> None:
        """Wait until everything taken so far is in the log."""
        while self._flushing is not None or (self._buffer and not self._ending):
            self._urgent = True
            self._begin()
            if self._flushing is not None:
                await asyncio.wait({self._flushing})
            self._raise_failure()

    def hold(self) -> None:
        """Take no more: `end` comes right away and writes what is left in one commit with the end."""
        self._ending = True
        self._cancel_due()

    async def end(self, event: Event) -> None:
        """Write the terminal event together with all that was taken; from here on nothing more is.

        When it raises, what was taken and not stored is given up, and `end` may be called again.
        """
        await self._finish((event,), park=False)

    async def park(self, questions: tuple[Event, ...]) -> None:
        """Write what a person is asked, together with all that was taken, and let go of the run.

        When it raises, what was taken and not stored is given up, and the run has to be ended.
        """
        await self._finish(questions, park=True)

    async def _finish(self, events: tuple[Event, ...], *, park: bool) -> None:
        self.hold()
        if self._flushing is not None:
            await asyncio.wait({self._flushing})
            self._raise_failure()
        batch, self._buffer = coalesce(self._buffer), []
        await self._log.append(self._run_id, [*batch, *events], epoch=self._epoch, park=park)
        self._watch.stored(batch)

    def _raise_failure(self) -> None:
        task = self._flushing
        if task is not None and task.done():
            self._flushing = None
            task.result()

    def _schedule(self, *, urgent: bool) -> None:
        """See to it that what waits is flushed: at once, or when the text that may still come has had its time."""
        hurried = urgent and not self._urgent
        self._urgent = self._urgent or urgent
        if self._flushing is not None or (self._due is not None and not hurried):
            return
        self._cancel_due()
        loop = asyncio.get_running_loop()
        wait = 0 if self._urgent else self._flushed_at + _COALESCE - loop.time()
        self._due = loop.call_later(wait, self._begin) if wait > 0 else loop.call_soon(self._begin)

    def _cancel_due(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _begin(self) -> None:
        self._cancel_due()
        if self._flushing is None and self._buffer and not self._ending:
            self._flushing = asyncio.create_task(self._flush())

    async def _flush(self) -> None:
        try:
            self._urgent = False
            batch, self._buffer = coalesce(self._buffer), []
            await self._log.append(self._run_id, batch, epoch=self._epoch)
            self._watch.stored(batch)
        except Exception as error:
            self.failure = error
            if (task := asyncio.current_task()) is not None:
                # Of a run that was lost nobody asks any more how it went.
                task.add_done_callback(asyncio.Task.exception)
            raise
        self._flushed_at = asyncio.get_running_loop().time()
        self._flushing = None
        # What is left when the end has come is written with it, in one commit.
        if self._buffer and not self._ending:
            self._schedule(urgent=False)


def coalesce(events: list[Event]) -> list[Event]:
    """The same events with neighbouring text joined, and text that is too long for one event split."""
    joined: list[Event] = []
    text: list[str] = []

    def close() -> None:
        whole = "".join(text)
        text.clear()
        joined.extend(TextDelta(whole[start : start + _DELTA]) for start in range(0, len(whole), _DELTA))

    for event in events:
        if isinstance(event, TextDelta):
            text.append(event.text)
        else:
            close()
            joined.append(event)
    close()
    return joined
