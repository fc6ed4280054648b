"""How code that cannot await gets done what has to be awaited."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from elf_sdk.adapters.base import Closed

__all__ = ["Portal", "loop_beside"]


class Portal:
    """Runs coroutines in a loop for another thread, until it is closed.

    Args:
        loop: runs in a thread that is not the one which waits.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: set[concurrent.futures.Future[Any]] = set()
        self._closed = threading.Event()

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Have `work` run, and give its result.

        Raises:
            Closed: the run was closed; the work should end.
        """
        if self._closed.is_set():
            work.close()
            raise Closed
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        self._waiting.add(future)
        if self._closed.is_set():
            future.cancel()
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise Closed from None
        finally:
            self._waiting.discard(future)

    def close(self) -> None:
        """Cancel what is under way, and run no more."""
        self._closed.set()
        for future in list(self._waiting):
            future.cancel()


@contextmanager
def loop_beside() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop in a thread of its own, for code that holds the one which runs here."""
    begun: concurrent.futures.Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = concurrent.futures.Future()

    async def serve() -> None:
        done = asyncio.Event()
        begun.set_result((asyncio.get_running_loop(), done))
        await done.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="elf-portal", daemon=True)
    thread.start()
    loop, done = begun.result()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()
