"""A team's fork server, as the server sees it: one life of the program in `program`."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from contextvars import Context
from typing import Any, Final, Protocol

from elf_sdk.models.llm import Endpoint
from elf_sdk.models.variables import variables_of
from elf_sdk.runs.adapter import RunError
from elf_sdk.runs.places import dumped_place
from elf_sdk.runs.worker.capture import levels
from elf_sdk.runs.worker.origin import Origin
from elf_sdk.runs.worker.output import read_output
from elf_sdk.runs.worker.program import SAMPLE, command

__all__ = ["KILLED", "PLACE", "TRACE", "ForkServer", "Watched", "refused"]

log = logging.getLogger("elf.runs")

PLACE: Final = 0.25
"""Seconds that a process gets to say where it stands, or what it printed last."""
KILLED: Final = 3.0
"""Seconds for a killed process to be gone; then the fork server is killed, and takes all workers with it."""
TRACE: Final = 65536
"""Bytes of what faulthandler writes."""
_LOAD: Final = 120.0
"""Seconds that the team's code gets to be loaded."""
_AT_ONCE: Final = 0.05
"""Seconds between the end of a process's line and its own."""
_KILLS: Final = frozenset({-signal.SIGKILL, -signal.SIGTERM})
"""How a process ends that somebody else has ended."""
_LOST: Final = "the process that the team's workers come from has ended{}; send it again"


class Watched(Protocol):
    """A process of a run, which is told what happens to it.

    Attributes:
        number: of the run, for the fork server.
        pid: of the process; 0 until it is known.
    """

    number: int
    pid: int

    def ended(self, end: int | RunError) -> None:
        """It is gone, with this status (as of `os.wait`), or for this reason."""

    def kill_group(self) -> None:
        """Kill it over the head of the fork server, with all that it started, from any thread."""


def refused(why: str) -> RunError:
    """No process can be had for a run, for this reason."""
    return RunError(f"no process can be started for the run: {why}; try again", code="interrupted", retryable=True)


class ForkServer:
    """Loads the team once, and makes a process for each run that asks for one.

    Args:
        origin: how a clean interpreter finds the team's adapter.
        name: of the team, for logs.
        model: of the team.

    Attributes:
        lost: whether it is gone, and with it everything that it started.
        state: `loading`, or how runs get their processes.
        broken: why it could not load the team; empty where it could.
    """

    def __init__(self, origin: Origin, name: str, model: Endpoint | None) -> None:
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._begun = time.monotonic()
        self._lock = threading.Lock()
        self._buffer = b""
        self._watched: dict[int, Watched] = {}
        self.lost = False
        self.state = "loading"
        self.broken = ""
        self._why = ""
        self._loading = False
        self._ready: asyncio.Future[None] = self._loop.create_future()
        with ExitStack() as ours, ExitStack() as theirs:
            self._sock, far = socket.socketpair()
            ours.callback(self._sock.close)
            theirs.callback(far.close)
            pipe, output = os.pipe()
            ours.callback(os.close, pipe)
            theirs.callback(os.close, output)
            self._trace, traced = os.pipe()
            ours.callback(os.close, self._trace)
            theirs.callback(os.close, traced)
            # Who writes down where it stands in the middle of a signal must not have to wait.
            for end in (self._trace, traced):
                os.set_blocking(end, False)
            # A session of its own: what a terminal sends is for the server, which ends the rest in order.
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                command(far.fileno(), "fork", str(traced)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[far.fileno(), traced],
                start_new_session=True,
            )
            ours.pop_all()
        # In no run's name, though a run may have been what needed it.
        self._reading = self._loop.create_task(read_output(pipe), name=f"output of {name}", context=Context())
        self._sock.setblocking(False)
        self._loop.add_reader(self._sock, self._hear)
        hello = {
            "path": sys.path,
            "cwd": os.getcwd(),  # noqa: PTH109 - as text
            "loader": origin.loader,
            "arguments": dict(origin.arguments),
            "levels": levels(),
            # Over the socket, and not in the environment that it is started with, which others on the machine may see.
            "variables": {} if model is None else variables_of(model),
        }
        self._telling = self._loop.create_task(self._tell_all(json.dumps(hello).encode() + b"\n"))

    async def wait_ready(self) -> None:
        """Wait until runs can begin.

        Raises:
            RunError: they cannot.
        """
        try:
            async with asyncio.timeout(_LOAD):
                await asyncio.shield(self._ready)
        except TimeoutError:
            self._process.kill()
            raise RunError(
                f"the team's code is not loaded within {_LOAD:.0f} s in a process of its own", retryable=True
            ) from None

    async def place(self) -> str:
        """Where the team's code stands that is being loaded, such as `team.py, line 3`."""
        if self._loading:
            self._process.send_signal(SAMPLE)
            until = time.monotonic() + PLACE
            while time.monotonic() < until:
                await asyncio.sleep(0.01)
                with suppress(BlockingIOError):
                    if place := dumped_place(os.read(self._trace, TRACE).decode(errors="replace")):
                        return f"{place}, which is being loaded"
        return "the loading of the team's code" if not self._ready.done() else ""

    def watch(self, worker: Watched) -> None:
        """Have the worker told what happens to its process."""
        self._watched[worker.number] = worker

    def tell(self, said: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Send a request, from any thread.

        Raises:
            OSError: it is gone, or does not take any more.
        """
        if descriptors:
            said = {**said, "descriptors": len(descriptors)}
        with self._lock:
            line = json.dumps(said).encode() + b"\n"
            if self.lost or socket.send_fds(self._sock, [line], descriptors) != len(line):
                raise OSError(errno.EPIPE, "the fork server does not listen")

    async def _tell_all(self, line: bytes) -> None:
        with suppress(OSError):
            await self._loop.sock_sendall(self._sock, line)

    def end_all(self) -> None:
        """As `Workers.end_all`."""
        if not self._ready.done():
            # No run has a process yet, and what loads the team does not listen.
            return
        try:
            ended, ending = os.pipe()
        except OSError:
            self._kill_all()
            return
        try:
            try:
                self.tell({"end_all": True}, [ending])
            finally:
                os.close(ending)
            os.set_blocking(ended, False)
            until = time.monotonic() + KILLED
            while time.monotonic() < until:
                with suppress(BlockingIOError):
                    if not os.read(ended, 1):
                        return
                time.sleep(0.005)
            self._kill_all()
        except OSError:
            self._kill_all()
        finally:
            os.close(ended)

    def _kill_all(self) -> None:
        # Without the loop's help: what the workers have started would not go with the fork server.
        for worker in list(self._watched.values()):
            worker.kill_group()
        self._process.kill()

    async def close(self) -> None:
        """End it, with all that came from it."""
        if not self._telling.done():
            self._telling.cancel()
            await asyncio.wait({self._telling})
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
        try:
            async with asyncio.timeout(KILLED):
                await self._collected()
        except TimeoutError:
            self._process.kill()
            await self._collected()
        self._lose()
        self._sock.close()
        os.close(self._trace)
        _, late = await asyncio.wait({self._reading}, timeout=PLACE)
        if late:
            self._reading.cancel()
            await asyncio.wait({self._reading})

    async def kill(self) -> None:
        """End it over its head; what came from it ends with it."""
        self._process.kill()
        await self._collected()
        self._lose()

    async def _collected(self) -> None:
        while self._process.poll() is None:  # noqa: ASYNC110 - the system does not tell a loop
            await asyncio.sleep(0.01)

    def _hear(self) -> None:
        try:
            received = self._sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            self._lose()
            return
        *lines, self._buffer = (self._buffer + received).split(b"\n")
        for line in lines:
            self._heard(json.loads(line))

    def _heard(self, said: dict[str, Any]) -> None:
        if "loading" in said:
            self._loading = said["loading"]
        elif "ready" in said:
            log.info("workers of %s are ready after %.1f s: %s", self._name, time.monotonic() - self._begun, self._mode)
            self.state = self._mode
            if not self._ready.done():
                self._ready.set_result(None)
        elif "spawns" in said:
            self._why = said["spawns"]
            log.warning("each run of %s gets a fresh process and none by a fork: %s", self._name, self._why)
        elif "broken" in said:
            self._why = said["broken"]
            log.error("the workers of %s cannot load its code: %s", self._name, self._why)
        elif "begun" in said:
            if worker := self._watched.get(said["begun"]):
                worker.pid = said["pid"]
        elif "exit" in said:
            if worker := self._watched.pop(said["exit"], None):
                worker.ended(said["status"])
        elif "refused" in said and (worker := self._watched.pop(said["refused"], None)):
            worker.ended(refused(said["why"]))

    @property
    def _mode(self) -> str:
        return f"fresh processes ({self._why})" if self._why else "forks"

    def _status(self) -> int | None:
        """Its exit code, negative for a signal, if it comes at once: its line has ended, and so has it."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(_AT_ONCE)
        return None

    def _lose(self) -> None:
        """It is gone, and with it everything that it started."""
        if self.lost:
            return
        with self._lock:
            self.lost = True
        self._loop.remove_reader(self._sock)
        self._loading = False
        status = self._status()
        how = f" ({signal.Signals(-status).name})" if status is not None and status < 0 else ""
        if not self._ready.done():
            if self.state != "loading" or status in _KILLS:
                error = RunError(_LOST.format(how), code="interrupted", retryable=True)
            else:
                ended = "" if status is None or status < 0 else f" with exit code {status}"
                self.broken = self._why or f"its process ended{how or ended} meanwhile"
                error = RunError(f"the team's code cannot be loaded in a process of its own: {self.broken}")
            self._ready.set_exception(error)
            self._ready.exception()  # seen, also when no run waits for it
        for worker in list(self._watched.values()):
            # The workers die with it; what they have started does not.
            worker.kill_group()
            worker.ended(RunError(_LOST.format(how), code="interrupted", retryable=True))
        self._watched.clear()
