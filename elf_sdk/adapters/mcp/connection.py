"""One MCP server in one run: connected with, asked, and connected with again where the connection broke."""

from __future__ import annotations

import asyncio
import functools
import logging
import shutil
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import anyio
import httpx
from mcp.client.session import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import McpError
from mcp.types import CONNECTION_CLOSED, CallToolResult, Implementation, PaginatedRequestParams
from mcp.types import Tool as ServerTool

from elf_sdk.adapters.mcp.program import LONGEST, running
from elf_sdk.adapters.tools import ToolError
from elf_sdk.errors import BadInput, ElfError, Missing
from elf_sdk.settings import variable
from elf_sdk.team.kinds import duration_seconds
from elf_sdk.team.work import McpServer

if TYPE_CHECKING:
    from elf_sdk.adapters.mcp.program import Streams

__all__ = ["Connection"]

log = logging.getLogger("elf_sdk.mcp")

_REACH: Final = 10.0
"""Seconds for a server at a URL to say which tools it has."""
_START: Final = 30.0
"""The same for a program, many of which may be starting at once."""
_CLOSE: Final = 1.0
"""Seconds for a server at a URL to take note that a session ends."""
_STOP: Final = 2.5
"""Seconds for a program to end: it is asked to, and killed, long before."""
_AGAIN: Final = 3
"""How often a run connects again with a server whose connection broke."""
_PAGES: Final = 100
_SESSION_GONE: Final = 32600
"""What the SDK makes of HTTP 404, which a server answers when it does not know the session."""
_INHERITED: Final = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER")
"""Variables that a program gets without being named: none of them is a secret."""


@functools.cache
def _certificates() -> ssl.SSLContext:
    return httpx.create_ssl_context()  # costs tens of milliseconds, so once and not for each run


class Connection:
    """A connection with one server.

    A task of its own holds it, because the SDK's scopes have to be left by the task that entered them.

    Args:
        server: as the team's spec says.
    """

    def __init__(self, server: McpServer) -> None:
        self.server = server
        self._timeout = duration_seconds(server.timeout)
        self._session: ClientSession | None = None
        self._task: asyncio.Task[None] | None = None
        self._end: asyncio.Future[str] | None = None
        self._opened = 0
        self._opening = asyncio.Lock()

    @property
    def where(self) -> str:
        """The server's name and place, for messages; an address without what may be secret in it."""
        if not self.server.url:
            return f"the MCP server {self.server.name!r} ({self.server.command[0]})"
        url = httpx.URL(self.server.url).copy_with(username=None, password=None, query=None, fragment=None)
        return f"the MCP server {self.server.name!r} ({url})"

    async def open(self) -> list[ServerTool]:
        """Connect, and ask for its tools.

        Raises:
            ToolError: it is out of reach; the message says why.
            Missing: the program, or a variable that the spec names, is not there.
        """
        self._opened += 1
        loop = asyncio.get_running_loop()
        self._end = loop.create_future()
        ready: asyncio.Future[list[ServerTool]] = loop.create_future()
        bound = _REACH if self.server.url else _START
        task = self._task = asyncio.create_task(self._hold(self._end, ready))
        try:
            first: set[asyncio.Future[Any]] = {task, ready, self._end}
            await asyncio.wait(first, timeout=bound, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self.close()
            raise
        if ready.done():
            return ready.result()
        # What the task died of says more than that the other side is gone.
        reason = f"it did not say within {bound:g} s which tools it has"
        if self._end.done():
            reason = self._end.result()
        await self.close()
        error = None if task.cancelled() else task.exception()
        if isinstance(error, ElfError):
            raise error
        raise ToolError(f"{self.where} is out of reach: {_reason(error) if error else reason}")

    async def call(self, name: str, arguments: Mapping[str, Any]) -> CallToolResult:
        """Call one of its tools, connecting again first where the connection broke.

        Raises:
            ToolError: the server says so, is gone, or does not answer within its timeout.
        """
        async with self._opening:
            if self._session is None or self._task is None or self._task.done() or self._over():
                if self._opened > _AGAIN:
                    raise ToolError(f"{self.where} was lost, and tried again {_AGAIN} times in this run")
                await self.close()
                try:
                    await self.open()
                except (BadInput, Missing) as error:
                    raise ToolError(str(error)) from None
        session, task = self._session, self._task
        assert session is not None  # noqa: S101 - open() has made both, or raised
        assert task is not None  # noqa: S101
        work = asyncio.ensure_future(session.call_tool(name, dict(arguments), timedelta(seconds=self._timeout)))
        try:
            await asyncio.wait({work, task}, timeout=self._timeout, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            if not task.done():
                raise ToolError(f"{self.where} did not answer within {self.server.timeout}")
        except McpError as error:
            if error.error.code == httpx.codes.REQUEST_TIMEOUT:
                raise ToolError(f"{self.where} did not answer within {self.server.timeout}") from None
            if error.error.code == _SESSION_GONE:
                self._lost("it does not know the session any more")
            elif error.error.code != CONNECTION_CLOSED:
                raise ToolError(f"{self.where} refused: {error.error.message}") from None
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            pass  # as a connection that closes
        except (RuntimeError, ValueError) as error:  # structured content, or a whole answer, of another shape
            raise ToolError(f"{self.where} answered what it should not: {_reason(error)}") from None
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        raise ToolError(f"{self.where} was lost while it worked: {await self._why(task)}")

    async def close(self) -> None:
        """Disconnect; a program is not running any more afterwards."""
        task = self._task
        if task is None:
            return
        self._lost("closed")
        if self._session is None:
            task.cancel()  # not yet connected, so nothing to leave in good order
        bound = _CLOSE if self.server.url else _STOP
        await asyncio.wait({task}, timeout=bound)
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=bound)
        if task.done() and not task.cancelled() and (error := task.exception()):
            log.debug("%s: %s", self.where, _reason(error))
        self._session = None

    def _lost(self, reason: str) -> None:
        if self._end is not None and not self._end.done():
            self._end.set_result(reason)

    def _over(self) -> bool:
        return self._end is None or self._end.done()

    async def _why(self, task: asyncio.Task[None]) -> str:
        """Why the connection ended; who reads the program's output, or the HTTP stream, may be about to say it."""
        end = self._end
        either: set[asyncio.Future[Any]] = {task} if end is None else {task, end}
        await asyncio.wait(either, timeout=1.5, return_when=asyncio.FIRST_COMPLETED)
        if task.done() and not task.cancelled() and (error := task.exception()):
            return _reason(error)
        reason = end.result() if end is not None and end.done() else "the connection ended"
        self._lost(reason)
        return reason

    async def _hold(self, end: asyncio.Future[str], ready: asyncio.Future[list[ServerTool]]) -> None:
        from elf_sdk import __version__

        async with (
            self._streams() as (read, write),
            ClientSession(
                read,
                write,
                message_handler=self._heard,
                client_info=Implementation(name="elf", version=__version__),
            ) as session,
        ):
            await session.initialize()
            tools = [tool async for tool in _listed(session)]
            self._session = session
            if not ready.done():
                ready.set_result(tools)
            await end

    async def _heard(self, message: object) -> None:
        if isinstance(message, Exception):
            log.debug("%s: %s", self.where, message)
            if isinstance(message, ValueError):  # no JSON, or no JSON at all: nobody would ever be told
                self._lost(" ".join(str(message).split())[:200])

    @asynccontextmanager
    async def _streams(self) -> AsyncGenerator[Streams, None]:
        if not self.server.url:
            environment = {name: value for name in _INHERITED if (value := variable(name))}
            environment |= {name: self._named(name) for name in self.server.env}
            if shutil.which(self.server.command[0], path=environment.get("PATH")) is None:
                raise Missing(
                    f"{self.where} cannot be started: there is no such program; install it, or correct mcp[].command"
                )
            async with running(self.server.name, self.server.command, environment, self._lost) as streams:
                yield streams
            return
        token = self._named(self.server.token_env) if self.server.token_env else ""
        async with (
            httpx.AsyncClient(
                verify=_certificates(),
                headers={"Authorization": f"Bearer {token}"} if token else None,
                timeout=httpx.Timeout(_REACH, read=self._timeout + _REACH),
                event_hooks={"response": [self._bounded]},
            ) as client,
            streamable_http_client(self.server.url, http_client=client) as (read, write, _),
        ):
            yield read, write

    def _named(self, name: str) -> str:
        value = variable(name)
        if not value:
            raise Missing(f"{self.where} needs {name}, which is not set; set it, or mount a file and set {name}_FILE")
        return value

    async def _bounded(self, response: httpx.Response) -> None:
        response.stream = _Watched(response.stream, self._lost)


class _Watched(httpx.AsyncByteStream):
    """A response that is not read without end, and whose breaking off is told: the SDK would wait on."""

    def __init__(self, stream: Any, lost: Any) -> None:
        self._stream = stream
        self._lost = lost

    async def __aiter__(self) -> AsyncIterator[bytes]:
        read = 0
        try:
            async for piece in self._stream:
                read += len(piece)
                if read > LONGEST:
                    self._lost(f"it sent over {LONGEST >> 20} MB")
                    return
                yield piece
        except httpx.TransportError:
            self._lost("the connection broke")
            raise

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _listed(session: ClientSession) -> AsyncIterator[ServerTool]:
    cursor = None
    for _ in range(_PAGES):
        page = await session.list_tools(params=PaginatedRequestParams(cursor=cursor))
        for tool in page.tools:
            yield tool
        cursor = page.nextCursor
        if not cursor:
            return


def _reason(error: BaseException) -> str:
    """In a few words, and without what a client says for its developers."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        hint = "; check the token that token_env names" if status in (401, 403) else ""
        return f"it answered HTTP {status}{hint}"
    if isinstance(error, httpx.TimeoutException):
        return "it does not answer"
    if isinstance(error, httpx.TransportError):
        return "the connection could not be made, or broke"
    if isinstance(error, McpError):
        gone = error.error.code == _SESSION_GONE
        return "it answered HTTP 404; check its url" if gone else error.error.message[:300]
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
