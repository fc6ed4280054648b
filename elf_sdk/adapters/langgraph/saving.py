"""The way of what a graph writes to the checkpoints of its run: in few saves, and from any thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping

from elf_sdk.runs.checkpoints import Checkpoints

__all__ = ["Saving"]


class Saving:
    """What was written and is not durable yet. What is written in one moment is saved as one.

    Args:
        checkpoints: of the run.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._unsaved: dict[str, bytes | None] = {}
        # The next save, which has not begun yet, and the one before it.
        self._next: asyncio.Future[None] | None = None
        self._latest: asyncio.Future[None] | None = None
        self._held_up = False

    def add(self, entries: Mapping[str, bytes | None]) -> None:
        """Take entries, for the next save to have them together; None forgets what was there."""
        with self._lock:
            self._unsaved |= entries

    def read_by_thread(self) -> None:
        """Note from which thread a graph reads, before it writes.

        One that runs in the loop's own thread writes from others, and these must not wait for the loop until it comes
        round: it waits for them.
        """
        if threading.get_ident() == self._thread:
            self._held_up = True
            self._loop.call_soon(self._come_round)

    def _come_round(self) -> None:
        self._held_up = False

    async def save(self) -> None:
        """Wait until all that was taken so far is durable.

        Raises:
            Conflict: somebody else holds the run.
            Retryable: the database is away.
        """
        if self._next is None:
            self._next = self._latest = asyncio.ensure_future(self._flush(self._latest))
            # Whoever waits for it hears of it; nobody may.
            self._next.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(self._next)

    def save_from_thread(self) -> None:
        """As `save`, from a thread without a loop; where the loop is held up, the next save is waited for instead."""
        if self._held_up:
            self._loop.call_soon_threadsafe(lambda: asyncio.ensure_future(self.save()))
        else:
            asyncio.run_coroutine_threadsafe(self.save(), self._loop).result()

    async def _flush(self, before: asyncio.Future[None] | None) -> None:
        # The end of a task and that of its step come one after the other.
        await asyncio.sleep(0)
        if before is not None:
            # It may have what somebody waits for who came too late for it.
            await asyncio.wait({before})
        self._next = None
        with self._lock:
            entries, self._unsaved = self._unsaved, {}
        try:
            await self._checkpoints.save(entries)
        except BaseException:
            with self._lock:
                self._unsaved = entries | self._unsaved
            raise
