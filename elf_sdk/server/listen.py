"""Listening: a socket that is ours before anything is promised, and the ASGI server on it."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import signal
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import FrameType
from typing import Final, Literal

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp
from typing_extensions import override

from elf_sdk.errors import BadInput
from elf_sdk.server.logs import configure_logs
from elf_sdk.server.stragglers import end_without_threads

__all__ = ["GRACE", "bind", "calm_garbage_collection", "serve", "server_for", "serving_beside"]

log = logging.getLogger("elf.server")

_PING: Final = 20.0
"""Seconds between WebSocket pings, and for their answer."""
_MAX_FRAME: Final = 1024 * 1024 + 1
"""Bytes of one WebSocket message that the server below takes; teams set a smaller limit of their own."""

_YOUNG: Final = 10_000
"""New objects after which Python looks for garbage in cycles; its own 700 are a few requests."""
_LINGER: Final = 2.0
"""Seconds at most for clients to learn that the connections they keep come to an end."""
_LOOK: Final = 0.05
"""Seconds between two looks whether they have."""
GRACE: Final = 30
"""Seconds for open connections and calls to end after SIGTERM."""


def bind(host: str, port: int, setting: str = "--port") -> socket.socket:
    """A listening socket; port 0 takes any that is free.

    Args:
        host: address.
        port: number.
        setting: where the number comes from; messages say to change it there.

    Raises:
        BadInput: the address is taken or not ours; the message says what to do.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(2048)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise BadInput(
                f"port {port} of {host} is taken; stop what listens there, or use {setting} {port + 1}"
            ) from None
        if error.errno == errno.EACCES:
            raise BadInput(
                f"port {port} needs more rights than you have; use {setting} with a number from 1024 up"
            ) from None
        raise BadInput(f"cannot listen on {host}:{port}: {error.strerror}; use another --host") from None
    return sock


class _Server(uvicorn.Server):
    """On SIGTERM it first goes on serving until `drain` is done: what comes meanwhile is answered, not refused."""

    def __init__(self, config: uvicorn.Config, drain: Callable[[], Awaitable[None]] | None) -> None:
        super().__init__(config)
        self._drain = drain
        self._draining: asyncio.Task[None] | None = None

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig == signal.SIGTERM and self._drain is not None and self._draining is None:
            self._draining = asyncio.get_running_loop().create_task(self._leave(self._drain, sig, frame))
        else:
            super().handle_exit(sig, frame)

    async def _leave(self, drain: Callable[[], Awaitable[None]], sig: int, frame: FrameType | None) -> None:
        try:
            await drain()
            # Whoever sends on a connection that it kept, while that is being closed, gets no answer. Each answer now
            # says that it is the last one, so connections that are in use end by themselves.
            end = time.monotonic() + _LINGER
            while self.server_state.connections and time.monotonic() < end:  # noqa: ASYNC110 - nobody is told of it
                await asyncio.sleep(_LOOK)
        finally:
            super().handle_exit(sig, frame)


def server_for(
    app: ASGIApp, *, lifespan: Literal["on", "off"] = "on", drain: Callable[[], Awaitable[None]] | None = None
) -> uvicorn.Server:
    """The ASGI server, set up for what a team does.

    Compression of WebSockets is off: it costs more time and memory than it saves for text in small pieces.

    Args:
        app: what to serve.
        lifespan: whether the server enters the application's lifespan.
        drain: awaited after SIGTERM, before the server stops to listen.
    """
    config = uvicorn.Config(
        app,
        lifespan=lifespan,
        log_config=None,
        access_log=False,
        server_header=False,
        # Who may say by headers what was asked for is a setting of ours.
        proxy_headers=False,
        ws="elf_sdk.server.websocket:WebSocketProtocol",
        ws_per_message_deflate=False,
        ws_ping_interval=_PING,
        ws_ping_timeout=_PING,
        ws_max_size=_MAX_FRAME,
        timeout_graceful_shutdown=GRACE,
    )
    return _Server(config, drain)


class _Beside(uvicorn.Server):
    """A server that leaves the process's signals to another one."""

    @contextmanager
    @override
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving_beside(app: ASGIApp, sock: socket.socket) -> AsyncGenerator[None, None]:
    """Serve `app` on a socket of its own, in a process that serves another one, for as long as the block runs."""
    server = _Beside(server_for(app, lifespan="off").config)
    task = asyncio.create_task(server.serve(sockets=[sock]), name="server beside")
    try:
        yield
    finally:
        server.should_exit = True
        await task
        sock.close()


def calm_garbage_collection() -> None:
    """For a process that is ours alone, once it has started: modules and all that lives as long are left alone.

    Otherwise a fifth of the time of a busy server goes into looking through them again and again.
    """
    # The old ones were looked through while modules were loaded; once more finds nothing, and is a 25th of a start.
    gc.collect(1)
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 20)


def serve(
    app: Starlette,
    sock: socket.socket,
    *,
    log_level: str,
    log_format: str = "",
    drain: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM.

    The application's lifespan is entered here and not by the server, which would turn what goes wrong there into a
    traceback.

    Args:
        app: whose lifespan is entered and left.
        sock: to serve on.
        log_level: from which level up logs are written.
        log_format: as in `Settings.log_format`.
        drain: awaited after SIGTERM, while what still comes is answered.

    Raises:
        ElfError: the application cannot start; the message says why.
    """
    configure_logs(log_level, log_format)
    server = server_for(app, lifespan="off", drain=drain)
    serving: asyncio.Task[None] | None = None

    async def lifelong() -> None:
        nonlocal serving
        async with app.router.lifespan_context(app):
            calm_garbage_collection()
            # The server raises what stopped it once more when it is done. By default SIGTERM would then end the process
            # right here, and SIGINT cancel what follows, before the lifespan has ended its runs.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: None)
            serving = asyncio.current_task()
            await server.serve(sockets=[sock])

    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        left: BaseException | None = None
        try:
            runner.run(lifelong())
        except (SystemExit, KeyboardInterrupt) as error:
            if serving is None and isinstance(error, KeyboardInterrupt):
                # Nothing was served yet.
                return
            if serving is None or serving.done():
                raise
            left = error
        if serving is not None and left is not None:
            # Not above, where everything that is raised from now on would seem to come from that error.
            _go_on(runner.get_loop(), serving, left)
        # Leaving the loop waits for the threads of its executor.
        ending = end_without_threads()
    ending.cancel()


def _go_on(loop: asyncio.AbstractEventLoop, serving: asyncio.Task[None], error: BaseException) -> None:
    """Go on with what a task has ended that is not the server's own: a framework's, in which the team's code left.

    Such a task hands the error on to who waits for it, so its run fails by it, and to the loop, which stops.
    """
    while not serving.done():
        log.warning("a task of the team's code raised %s; its run ends, and the server goes on", type(error).__name__)
        try:
            loop.run_until_complete(serving)
        except (SystemExit, KeyboardInterrupt) as another:
            if serving.done():
                raise
            error = another
