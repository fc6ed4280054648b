"""Keeps this process's lease, takes away the leases of processes that are gone, and notices when its own is no good.

All that a process may lose by this is stopped runs: what it may not write any more the log refuses by the epoch.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import Final

from elf_sdk.errors import ElfError
from elf_sdk.store.database import Store
from elf_sdk.store.leases import Leases

__all__ = ["Lease"]

log = logging.getLogger("elf.runs")

TTL: Final = 4.0
"""Seconds for which a lease holds after it was renewed."""
_RENEW: Final = 1.0
"""Seconds between two renewals."""
_LAST: Final = 10.0
"""Seconds after the last renewal when the work is stopped: longer than a restart of a database takes, and not so much
longer than the others wait that two processes would do the same work for long."""
_LOOK: Final = 0.25
"""Seconds between two looks of the watchdog."""


class Lease:
    """The lease of one life of this process.

    Args:
        store: open.
        on_news: called in the loop's thread once a renewal is done, to look for work and commands.

    Attributes:
        holder: of this life; another one after the lease was lost.
    """

    def __init__(self, store: Store, on_news: Callable[[], None]) -> None:
        self._store = store
        self._on_news = on_news
        self._alarms: list[Callable[[], None]] = []
        self._guards: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None
        self._closing = Event()
        # Between the loop, which renews, and the watchdog, which finds that it came too late.
        self._deciding = Lock()
        self._spent = False
        self._renewed = time.monotonic()
        self.holder = str(uuid.uuid4())

    @property
    def valid(self) -> bool:
        """Whether surely nobody else holds what this process holds."""
        return not self._store.shared or (not self._spent and time.monotonic() - self._renewed < TTL)

    def watch(self, alarm: Callable[[], None]) -> Callable[[], None]:
        """Have `alarm` called in the loop's thread when the lease is lost or no good; returns how to stop that."""
        self._alarms.append(alarm)
        return lambda: self._alarms.remove(alarm)

    def guard(self, alarm: Callable[[], None]) -> Callable[[], None]:
        """As `RunLog.guard`."""
        self._guards.append(alarm)
        return lambda: self._guards.remove(alarm)

    async def open(self) -> None:
        """Hold a lease from here to `close`.

        Raises:
            Retryable: the database is away.
        """
        if not self._store.shared:
            # Nobody else can live: the store is this process's own.
            await self._leases().evict()
        await self._leases().enlist()
        self._renewed = time.monotonic()
        if self._store.shared:
            self._task = asyncio.create_task(self._keep(), name="lease")
            loop = asyncio.get_running_loop()
            Thread(target=self._watchdog, args=(loop,), name="lease watchdog", daemon=True).start()

    async def close(self) -> None:
        """Give it back, with all that is still held by it."""
        self._closing.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        try:
            await self._leases().retire()
        except ElfError as error:
            log.warning("the lease could not be given back, and runs out by itself: %s", error)

    def _leases(self, holder: str = "") -> Leases:
        name = f"process {os.getpid()} on {socket.gethostname()}"
        return Leases(self._store, holder or self.holder, name, round(TTL * 1000))

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(_RENEW)
            try:
                await self._renew()
                self._on_news()
                since = self._store.connected_since
                if since is not None and time.monotonic() - since > TTL:
                    for holder in await self._leases().reap():
                        log.warning("the process with the lease %s is gone; its runs are taken over", holder)
                        self._on_news()
            except ElfError as error:
                log.warning("the lease could not be renewed: %s", error)
            except Exception:
                # Whatever it was: a process that stops to renew would go on without ever working again.
                log.exception("the lease could not be renewed")

    async def _renew(self) -> None:
        begun = time.monotonic()
        renewed = not self._spent and await self._leases().renew()
        with self._deciding:
            if renewed and not self._spent:
                self._renewed = begun
                return
        if not self._spent:
            reason = f"the lease {self.holder} was taken away: this process was cut off, or stood still, for too long"
            self._sound(reason, self.holder)
        # What works outside of the loop is gone before anybody else may do the same work.
        await asyncio.to_thread(self._stop_outside)
        # What this life held belongs to whoever claims it, and this process begins another life.
        await self._leases().retire()
        last_holder, next_holder = self.holder, str(uuid.uuid4())
        await self._leases(next_holder).enlist()
        with self._deciding:
            self.holder = next_holder
            self._renewed = begun
            self._spent = False
        self._tell()
        # With what was begun meanwhile in the name of the life before. The store works in order, so it is all of it.
        await self._leases(last_holder).retire()

    def _watchdog(self, loop: asyncio.AbstractEventLoop) -> None:
        # A thread, because the loop may be what stands still.
        while not self._closing.wait(_LOOK):
            with self._deciding:
                age = time.monotonic() - self._renewed
                late = age > _LAST and not self._spent
                self._spent = self._spent or late
                holder = self.holder
            if late:
                reason = f"the lease could not be renewed for {age:.0f} s; all runs of this process are stopped"
                # First, so that the loop knows of each run why its worker is gone.
                with suppress(RuntimeError):  # the loop was closed
                    loop.call_soon_threadsafe(self._sound, reason, holder)
                self._stop_outside()

    def _sound(self, reason: str, holder: str) -> None:
        log.error("%s", reason)
        if holder != self.holder:
            # The loop went on in the meantime, and has begun another life already.
            return
        self._spent = True
        self._tell()

    def _stop_outside(self) -> None:
        for alarm in list(self._guards):
            alarm()

    def _tell(self) -> None:
        for alarm in list(self._alarms):
            alarm()
