"""The process of one run, as the server sees it: its frames, where it stands, and how it ended."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import socket
import time
from contextlib import ExitStack, suppress
from typing import Any, Final

from elf_sdk.runs.adapter import RunError
from elf_sdk.runs.places import dumped_place
from elf_sdk.runs.worker.fork_server import KILLED, PLACE, TRACE, ForkServer
from elf_sdk.runs.worker.output import read_output
from elf_sdk.runs.worker.wire import BUFFER, MAX_TOLD, frame, read_frame

__all__ = ["Worker"]

log = logging.getLogger("elf.runs")

_STOP: Final = 0.5
"""Seconds that a worker gets to stop when it is asked to, before it is killed."""
_CRASHES: Final = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT})


class Worker:
    """The process of one run, with a channel for frames, a pipe for what it prints, and one for where it stood.

    Args:
        server: that it comes from.
        number: of the run, for the fork server.

    Attributes:
        number: as given.
        pid: of the process; 0 until it is known.
    """

    def __init__(self, server: ForkServer, number: int) -> None:
        self.number = number
        self.pid = 0
        self._server = server
        self._end: asyncio.Future[int | RunError] = asyncio.get_running_loop().create_future()
        self._asked: asyncio.Future[str] | None = None
        self._dump = ""
        with ExitStack() as ours, ExitStack() as theirs:
            sock, far = socket.socketpair()
            ours.callback(sock.close)
            theirs.callback(far.close)
            self._trace, traced = self._pipe(ours, theirs)
            output, printed = self._pipe(ours, theirs)
            # Who writes down where it stands in the middle of a signal must not have to wait.
            for end in (self._trace, traced):
                os.set_blocking(end, False)
            server.tell({"run": number}, [far.fileno(), printed, traced])
            server.watch(self)
            ours.pop_all()
        self._sock = sock
        self._opened = False
        self._output = asyncio.create_task(read_output(output), name=f"output of run process {number}")

    @staticmethod
    def _pipe(ours: ExitStack, theirs: ExitStack) -> tuple[int, int]:
        reading, writing = os.pipe()
        ours.callback(os.close, reading)
        theirs.callback(os.close, writing)
        return reading, writing

    async def open(self) -> None:
        """Make ready to talk."""
        self._reader, self._writer = await asyncio.open_unix_connection(sock=self._sock, limit=BUFFER)
        self._opened = True

    def write(self, header: dict[str, Any], body: bytes = b"") -> None:
        """Hand a frame over. It must be open."""
        self._writer.write(frame(header, body, limit=MAX_TOLD))

    async def drain(self) -> None:
        """Wait while the process does not read; when it is gone, reading says so."""
        with suppress(ConnectionError):
            await self._writer.drain()

    async def read(self) -> tuple[dict[str, Any], bytes] | None:
        """The next frame; None when there are no more.

        Raises:
            Garbled: the process wrote what is no frame.
        """
        while (received := await read_frame(self._reader)) is not None and "place" in received[0]:
            if self._asked is not None and not self._asked.done():
                self._asked.set_result(str(received[0]["place"]))
        return received

    async def place(self) -> str:
        """Where the team's code stands, such as `crew.py, line 12`; empty where nobody knows."""
        if self._end.done():
            return ""
        self._asked = asyncio.get_running_loop().create_future()
        self.write({"where": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(PLACE):
                if place := await self._asked:
                    return place
        return await self._sampled()

    async def _sampled(self) -> str:
        """Where it stands, though its loop stands still too."""
        self._read_trace()
        before = len(self._dump)
        with suppress(OSError):
            self._server.tell({"sample": self.number})
        until = time.monotonic() + PLACE
        while time.monotonic() < until and not (place := dumped_place(self._dump[before:])):
            await asyncio.sleep(0.01)
            self._read_trace()
        return place

    async def stop(self) -> None:
        """Ask it to stop, and end it in any case."""
        if not self._end.done() and self._opened:
            self.write({"cancel": True})
            try:
                async with asyncio.timeout(_STOP):
                    # It closes the channel when it has stopped.
                    while await self._reader.read(BUFFER):
                        pass
            except TimeoutError:
                place = await self._sampled()
                log.warning("the process of the run does not stop%s, and is killed", place and f" at {place}")
            except ConnectionError:
                pass
        await self.kill()

    async def kill(self) -> None:
        """End it with all that it started, and return when it is gone."""
        if not self._end.done():
            with suppress(OSError):
                self._server.tell({"end": self.number})
            if (await asyncio.wait({self._end}, timeout=KILLED))[1]:
                await self._server.kill()
        if self._opened:
            # What is still to be sent is for nobody: who holds the other end now may never read it.
            self._writer.transport.abort()
            with suppress(ConnectionError):
                await self._writer.wait_closed()
        else:
            self._sock.close()
        self._read_trace()
        if self._trace >= 0:
            os.close(self._trace)
            self._trace = -1
        _, late = await asyncio.wait({self._output}, timeout=PLACE)
        if late:
            self._output.cancel()
            await asyncio.wait(late)

    async def epitaph(self) -> RunError:
        """Why it is gone, though it has not said how the run went."""
        if (await asyncio.wait({self._end}, timeout=_STOP))[1]:
            return RunError("the process of the run closed its line to the server; the team's code must leave it open")
        end = self._end.result()
        if isinstance(end, RunError):
            return end
        self._read_trace()
        if not os.WIFSIGNALED(end):
            told = re.search(r"^exit (.*)$", self._dump, re.MULTILINE)
            place = f" ({told[1]})" if told and told[1] else ""
            return RunError(f"the team's code ended its process with exit code {os.WEXITSTATUS(end)}{place}")
        number = os.WTERMSIG(end)
        if number in _CRASHES:
            place = f" at {place}" if (place := dumped_place(self._dump)) else ""
            return RunError(f"the team's code crashed its process ({_signal(number)}){place}")
        memory = ", as a system does that runs out of memory" if number == signal.SIGKILL else ""
        return RunError(
            f"the process of the run was killed ({_signal(number)}{memory}); send it again",
            code="interrupted",
            retryable=True,
        )

    def kill_group(self) -> None:
        """Kill it over the head of the fork server, with all that it started, from any thread."""
        if self.pid:
            with suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)

    def ended(self, end: int | RunError) -> None:
        """It is gone, with this status (as of `os.wait`), or for this reason."""
        if not self._end.done():
            self._end.set_result(end)

    def _read_trace(self) -> None:
        with suppress(BlockingIOError):
            while self._trace >= 0 and len(self._dump) < TRACE and (read := os.read(self._trace, 4096)):
                self._dump += read.decode(errors="replace")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
