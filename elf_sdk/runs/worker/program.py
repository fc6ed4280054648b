"""The fork server: loads a team once, and gives each run a process of its own.

It is one plain loop in one thread, with no event loop and no connection to anything but the server that started it. The
server's requests come as lines of JSON over a Unix socket, with the descriptors that a run needs beside them; ends of
processes go back the same way. It is the parent of all workers, so it can kill them without ever meeting a number that
the system has given to somebody else, and it ends all of them when the server is gone.

A process with threads must not be forked, because what they hold at that moment stays held for ever, and a connection
that two processes share is no connection. Where the team's code has left either behind, or the system is not Linux, the
program starts itself anew, loads nothing, and starts a fresh interpreter for each run; one is kept loaded beforehand.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import logging
import os
import select
import signal
import socket
import stat
import sys
import tempfile
import time
import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

from typing_extensions import override

from elf_sdk.models.variables import lend
from elf_sdk.runs.adapter import Adapter
from elf_sdk.runs.places import frame_place, raised_place
from elf_sdk.runs.worker.capture import capture
from elf_sdk.runs.worker.child import failure, work
from elf_sdk.runs.worker.origin import Origin
from elf_sdk.runs.worker.wire import frame

__all__ = ["SAMPLE", "command", "main"]

SAMPLE: Final = signal.SIGUSR2
"""Makes a worker write down where its threads stand."""
_LINUX: Final = sys.platform == "linux"
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_INTERRUPTED: Final = 128 + signal.SIGINT
"""Exit code of what was interrupted, as shells have it."""
_END: Final = 2.0
"""Seconds for killed processes to be gone."""


def command(descriptor: int, *mode: str) -> list[str]:
    """How this program is started. -P: the path to modules is told, and not what the directory implies."""
    return [sys.executable, "-P", "-m", "elf_sdk.runs.worker", str(descriptor), *mode]


def main(descriptor: int, mode: str = "fork", told: str = "") -> None:
    """Serve on a socket that the process was started with.

    Args:
        descriptor: of the socket.
        mode: `fork`; `spawn`, after it turned out that forking is not sound; `fresh`, for one run.
        told: with `spawn`, the descriptor of a file that holds what the server told; with `fork`, that of a pipe for
            where the team's code stands while it is loaded.
    """
    os.set_inheritable(descriptor, False)
    faulthandler.enable()
    parent = os.getppid()
    _die_with(parent, signal.SIGKILL)
    server = _Lines(socket.socket(fileno=descriptor))
    if mode == "spawn":
        with os.fdopen(int(told), "rb") as file:
            hello = json.load(file)
        _die_with(parent, 0)
        _Spawning(server, hello).serve()
    first = server.line()
    if first is None:
        return
    hello = first[0]
    sys.path[:] = hello["path"]
    with suppress(OSError):
        os.chdir(hello["cwd"])
    capture(1, hello["levels"])
    lent = lend(hello["variables"], os.environ)
    if mode == "fresh":
        _fresh(server, hello, lent)
    trace = int(told)
    os.set_inheritable(trace, False)
    faulthandler.register(SAMPLE, file=trace, all_threads=False)
    server.tell(loading=True)
    try:
        adapter = _loaded(hello)
    except BaseException as error:  # noqa: BLE001 - told to who asked for it
        server.tell(broken=failure(error)["message"])
        return
    server.tell(loading=False)
    why = _unsound(descriptor)
    if why:
        for name in lent:
            # Each process is lent them anew.
            os.environ.pop(name, None)
        server.tell(spawns=why)
        _start_anew(descriptor, hello)
    # From here on the end of the socket says it, and what is below is ended first.
    _die_with(parent, 0)
    _Forking(server, adapter, lent).serve()


def _loaded(hello: Mapping[str, Any]) -> Adapter:
    adapter = Origin(hello["loader"], hello["arguments"]).load()
    warm = getattr(adapter, "warm", None)
    if callable(warm):
        warm()
    return adapter


def _unsound(descriptor: int) -> str:
    """Why this process must not be forked, or nothing."""
    if not _LINUX:
        return f"{sys.platform} does not fork safely"
    threads = len(sys._current_frames()) - 1
    if threads:
        return f"{threads} thread{'s were' if threads > 1 else ' was'} started while the team was loaded"
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - by number
        with suppress(OSError):
            if int(name) != descriptor and stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                return "a connection was opened while the team was loaded"
    return ""


def _start_anew(descriptor: int, hello: Mapping[str, Any]) -> NoReturn:
    # In memory where that can be, for a container's disk may be read-only.
    if sys.platform == "linux":
        told = os.memfd_create("hello")
    else:
        with tempfile.TemporaryFile() as file:
            told = os.dup(file.fileno())
    with os.fdopen(told, "wb", closefd=False) as hold:
        hold.write(json.dumps(dict(hello)).encode())
    os.lseek(told, 0, os.SEEK_SET)
    for inherited in (descriptor, told):
        os.set_inheritable(inherited, True)
    os.execv(sys.executable, command(descriptor, "spawn", str(told)))  # noqa: S606 - this program


class _Lines:
    """Lines of JSON over a socket, with descriptors beside them."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = b""
        self._descriptors: deque[int] = deque()

    def line(self) -> tuple[dict[str, Any], list[int]] | None:
        """The next line, and as many descriptors as it says belong to it; None at the end."""
        while b"\n" not in self._buffer:
            try:
                received, descriptors, _, _ = socket.recv_fds(self.sock, 65536, 32)
            except ConnectionError:
                return None
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)
            self._descriptors.extend(descriptors)
            if not received:
                return None
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\n")
        said: dict[str, Any] = json.loads(line)
        return said, [self._descriptors.popleft() for _ in range(said.get("descriptors", 0))]

    @property
    def waiting(self) -> bool:
        """Whether another line is here already."""
        return b"\n" in self._buffer

    def tell(self, **what: Any) -> None:
        """Send a line; who does not listen any more is not told."""
        with suppress(ConnectionError):
            self.sock.sendall(json.dumps(what).encode() + b"\n")


class _Nursery(ABC):
    """Starts processes for runs, tells of their ends, and ends them."""

    def __init__(self, server: _Lines) -> None:
        self._server = server
        self._running: dict[int, int] = {}
        """Number of the run by the id of its process, which is also that of its process group."""
        self._own: frozenset[int] = frozenset()
        """Processes that loading the team has started."""

    @abstractmethod
    def _start(self, descriptors: list[int]) -> int:
        """A process for a run; its id."""

    def _spare(self) -> frozenset[int]:
        """Processes that wait for a run."""
        return frozenset()

    def _collected(self, pid: int) -> None:  # noqa: B027 - nothing to do for most
        """A process has ended."""

    def serve(self) -> NoReturn:
        """Do what the server asks for, until it is gone; then this process has nothing more to do."""
        woken, wake = os.pipe()
        for descriptor in (woken, wake):
            os.set_blocking(descriptor, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._wake = (woken, wake)
        # What leaves a worker's process group, and then its parent, becomes this process's child and can be found.
        _control_process(_PR_SET_CHILD_SUBREAPER, 1)
        self._own = _children()
        poll = select.poll()
        poll.register(self._server.sock, select.POLLIN)
        poll.register(woken, select.POLLIN)
        self._server.tell(ready=True)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == woken:
                    with suppress(BlockingIOError):
                        os.read(woken, 4096)
                    self._reap()
                elif not self._obey():
                    self._end_all()
                    for child in _children():
                        _kill(child, signal.SIGKILL, group=False)
                    # At once: what frameworks do at the exit of an interpreter takes seconds.
                    os._exit(0)

    def _obey(self) -> bool:
        while True:
            received = self._server.line()
            if received is None:
                return False
            said, descriptors = received
            if "run" in said:
                self._begin(said["run"], descriptors)
            elif "end" in said:
                self._send(said["end"], signal.SIGKILL, group=True)
            elif "sample" in said:
                self._send(said["sample"], SAMPLE, group=False)
            elif "end_all" in said:
                self._end_all()
            for descriptor in descriptors:
                with suppress(OSError):
                    os.close(descriptor)
            if not self._server.waiting:
                return True

    def _begin(self, number: int, descriptors: list[int]) -> None:
        try:
            pid = self._start(descriptors)
        except OSError as error:
            self._server.tell(refused=number, why=error.strerror)
            return
        self._running[pid] = number
        self._server.tell(begun=number, pid=pid)

    def _send(self, number: int, what: int, *, group: bool) -> None:
        for pid, running in self._running.items():
            if running == number:
                _kill(pid, what, group=group)

    def _reap(self) -> None:
        """Tell of the processes that have ended, and end what they have left behind."""
        while (ended := self._ended()) is not None:
            pid, status = ended
            number = self._running.pop(pid, None)
            if number is not None:
                # While one is left in the group, or this one is not collected, nobody else can have the number.
                _kill(pid, signal.SIGKILL, group=True)
            if status is None:
                _, status = os.waitpid(pid, 0)
            self._collected(pid)
            if number is not None:
                self._server.tell(exit=number, status=status)
        if not self._running:
            for stray in _children() - self._own - self._spare():
                _kill(stray, signal.SIGKILL, group=False)

    def _ended(self) -> tuple[int, int | None] | None:
        """A process that has ended, with its status where the system cannot tell without collecting it."""
        with suppress(ChildProcessError):
            if sys.platform == "linux":
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                return (found.si_pid, None) if found is not None else None
            else:  # noqa: RET505 - for the type checker, which sees one system only
                pid, status = os.waitpid(-1, os.WNOHANG)
                return (pid, status) if pid else None
        return None

    def _end_all(self) -> None:
        until = time.monotonic() + _END
        for pid in self._running:
            _kill(pid, signal.SIGKILL, group=True)
        while self._running and time.monotonic() < until:
            self._reap()
            if self._running:
                time.sleep(0.002)


class _Forking(_Nursery):
    """Forks this process, which has the team loaded, for each run."""

    def __init__(self, server: _Lines, adapter: Adapter, lent: frozenset[str]) -> None:
        super().__init__(server)
        self._adapter = adapter
        self._lent = lent
        # What is there now is left alone by the collector, and so stays shared between the processes.
        gc.collect()
        gc.freeze()

    @override
    def _start(self, descriptors: list[int]) -> int:
        parent = os.getpid()
        with warnings.catch_warnings():
            # Of threads that are not Python's, which numerical libraries keep, and which hold nothing of ours.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid:
            with suppress(OSError):
                os.setpgid(pid, pid)
            return pid
        try:
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._server.sock.close()
            for descriptor in self._wake:
                os.close(descriptor)
            _die_with(parent, signal.SIGKILL)
            _run(self._adapter, descriptors, self._lent)
        finally:
            # Whatever it was: this process has no business in the loop below.
            os._exit(1)


class _Spawning(_Nursery):
    """Starts a fresh interpreter for each run; the next one loads the team already."""

    def __init__(self, server: _Lines, hello: Mapping[str, Any]) -> None:
        super().__init__(server)
        self._hello = hello
        self._next: tuple[int, _Lines] | None = None

    @override
    def serve(self) -> NoReturn:
        self._next = self._loading()
        super().serve()

    @override
    def _spare(self) -> frozenset[int]:
        return frozenset({self._next[0]} if self._next else ())

    @override
    def _collected(self, pid: int) -> None:
        if self._next is not None and self._next[0] == pid:
            self._next[1].sock.close()
            self._next = None

    @override
    def _start(self, descriptors: list[int]) -> int:
        pid, process = self._next or self._loading()
        self._next = None
        try:
            socket.send_fds(process.sock, [b'{"run": 1, "descriptors": 3}\n'], descriptors)
        except ConnectionError:
            # It died before it was needed; its end is told as that of the run.
            pass
        finally:
            process.sock.close()
        with suppress(OSError):
            # Where the system has no room for it now, the next run waits for its own.
            self._next = self._loading()
        return pid

    def _loading(self) -> tuple[int, _Lines]:
        ours, theirs = socket.socketpair()
        with theirs:
            os.set_inheritable(theirs.fileno(), True)
            arguments = command(theirs.fileno(), "fresh")
            pid = os.posix_spawn(sys.executable, arguments, os.environ, setpgroup=0)
        process = _Lines(ours)
        process.tell(**self._hello)
        return pid, process


def _fresh(server: _Lines, hello: Mapping[str, Any], lent: frozenset[str]) -> NoReturn:
    adapter: Adapter | BaseException
    try:
        adapter = _loaded(hello)
    except BaseException as error:  # noqa: BLE001 - told in the run
        adapter = error
    received = server.line()
    if received is None:
        os._exit(0)
    server.sock.close()
    _run(adapter, received[1], lent)


def _run(adapter: Adapter | BaseException, descriptors: list[int], lent: frozenset[str]) -> NoReturn:
    """Do one run in this process, and end it."""
    leave = os._exit
    channel, output, trace = descriptors
    capture(output)
    faulthandler.enable(file=trace, all_threads=False)
    faulthandler.register(SAMPLE, file=trace, all_threads=True)
    _tell_exits(trace)
    if (numpy := sys.modules.get("numpy")) is not None:
        # Python's own generators begin anew after a fork; this one would give each run the same numbers.
        numpy.random.seed()
    try:
        sock = socket.socket(fileno=channel)
        if isinstance(adapter, BaseException):
            sock.sendall(frame({"failed": failure(adapter)}))
        else:
            work(adapter, sock, lent)
    except (SystemExit, KeyboardInterrupt) as error:
        _write_exit(trace, raised_place(error))
        code = getattr(error, "code", _INTERRUPTED)
        leave(code if isinstance(code, int) else 1)
    except BaseException:
        logging.getLogger("elf.runs").exception("the worker process broke")
        leave(1)
    # At once: nothing that a framework does at the exit of an interpreter is of use to the run.
    leave(0)


def _tell_exits(trace: int) -> None:
    """Have the place written down at which the team's code ends the process on the spot."""
    worker, leave = os.getpid(), os._exit

    def exit_now(status: int) -> NoReturn:
        if os.getpid() == worker:
            _write_exit(trace, frame_place(sys._getframe(1)))
        leave(status)

    os._exit = exit_now


def _write_exit(trace: int, place: str) -> None:
    with suppress(OSError):
        os.write(trace, f"exit {place}\n".encode())


def _kill(pid: int, what: int, *, group: bool) -> None:
    with suppress(ProcessLookupError, PermissionError):
        if group:
            os.killpg(pid, what)
        else:
            os.kill(pid, what)


def _children() -> frozenset[int]:
    """The processes whose parent this one is, as far as the system tells."""
    try:
        return frozenset(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))
    except OSError:
        return frozenset()


def _die_with(parent: int, what: int) -> None:
    """Have this process get a signal when `parent`, or its thread that started this one, is gone; 0 takes it back."""
    _control_process(_PR_SET_PDEATHSIG, what)
    if what and _LINUX and os.getppid() != parent:
        os._exit(1)


def _control_process(option: int, value: int) -> None:
    if _LINUX:
        import ctypes  # nothing else of Python's reaches prctl(2)

        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
