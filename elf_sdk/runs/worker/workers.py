"""The server's side of a team's fork server, and of the workers that come from it."""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine, Sequence
from contextlib import ExitStack, suppress
from contextvars import Context
from typing import Any, Final

from elf_sdk.models.llm import Endpoint
from elf_sdk.models.variables import variables_of
from elf_sdk.runs.adapter import RunError, Whereabouts
from elf_sdk.runs.places import dumped_place
from elf_sdk.runs.worker.capture import levels
from elf_sdk.runs.worker.origin import Origin
from elf_sdk.runs.worker.output import read_output
from elf_sdk.runs.worker.program import SAMPLE, command
from elf_sdk.runs.worker.wire import BUFFER, MAX_TOLD, frame, read_frame

__all__ = ["Worker", "Workers"]

log = logging.getLogger("elf.runs")

_LOAD: Final = 120.0
"""Seconds that the team's code gets to be loaded."""
_STOP: Final = 0.5
"""Seconds that a worker gets to stop when it is asked to, before it is killed."""
_PLACE: Final = 0.25
"""Seconds that a worker gets to say where it stands."""
_KILLED: Final = 3.0
"""Seconds for a killed process to be gone; then the fork server is killed, and takes all workers with it."""
_AT_ONCE: Final = 0.05
"""Seconds between the end of a process's line and its own."""
_TRACE: Final = 65536
"""Bytes of what faulthandler writes."""
_KILLS: Final = frozenset({-signal.SIGKILL, -signal.SIGTERM})
"""How a process ends that somebody else has ended."""
_CRASHES: Final = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT})
_LOST: Final = "the process that the team's workers come from has ended{}; send it again"


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
        self._server: _ForkServer | None = None
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
            raise _refused(error.strerror or str(error)) from error

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

    def _living(self) -> _ForkServer:
        if self._server is not None and not self._server.lost:
            return self._server
        if self._server is not None:
            self._later(self._server.close())
        self._server = _ForkServer(self._origin, self._name, self._model)
        return self._server

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._ended.add(task)
        task.add_done_callback(self._ended.discard)


def _refused(why: str) -> RunError:
    return RunError(f"no process can be started for the run: {why}; try again", code="interrupted", retryable=True)


class _ForkServer:
    """One life of the program in `program`, as its server sees it."""

    def __init__(self, origin: Origin, name: str, model: Endpoint | None) -> None:
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._begun = time.monotonic()
        self._lock = threading.Lock()
        self._buffer = b""
        self._watched: dict[int, Worker] = {}
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
            until = time.monotonic() + _PLACE
            while time.monotonic() < until:
                await asyncio.sleep(0.01)
                with suppress(BlockingIOError):
                    if place := dumped_place(os.read(self._trace, _TRACE).decode(errors="replace")):
                        return f"{place}, which is being loaded"
        return "the loading of the team's code" if not self._ready.done() else ""

    def watch(self, worker: Worker) -> None:
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
            until = time.monotonic() + _KILLED
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
            async with asyncio.timeout(_KILLED):
                await self._collected()
        except TimeoutError:
            self._process.kill()
            await self._collected()
        self._lose()
        self._sock.close()
        os.close(self._trace)
        _, late = await asyncio.wait({self._reading}, timeout=_PLACE)
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
            worker.ended(_refused(said["why"]))

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


class Worker:
    """The process of one run, with a channel for frames, a pipe for what it prints, and one for where it stood.

    Args:
        server: that it comes from.
        number: of the run, for the fork server.

    Attributes:
        number: as given.
        pid: of the process; 0 until it is known.
    """

    def __init__(self, server: _ForkServer, number: int) -> None:
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
            async with asyncio.timeout(_PLACE):
                if place := await self._asked:
                    return place
        return await self._sampled()

    async def _sampled(self) -> str:
        """Where it stands, though its loop stands still too."""
        self._read_trace()
        before = len(self._dump)
        with suppress(OSError):
            self._server.tell({"sample": self.number})
        until = time.monotonic() + _PLACE
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
            if (await asyncio.wait({self._end}, timeout=_KILLED))[1]:
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
        _, late = await asyncio.wait({self._output}, timeout=_PLACE)
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
            while self._trace >= 0 and len(self._dump) < _TRACE and (read := os.read(self._trace, 4096)):
                self._dump += read.decode(errors="replace")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
