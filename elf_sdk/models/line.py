"""The line of one run to its models: HTTP clients that try again, go to fallbacks, and are cut when the run ends.

Every framework's own client is given one of the two, and tries nothing again by itself, so that tries do not multiply.
The clients differ only in how they wait and read; what is tried next is decided by `call`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self

import httpx
import orjson
from typing_extensions import override

from elf_sdk.models.call import Call, Setback
from elf_sdk.models.dialect import KEY_HEADERS, Dialect, address, credential, retold
from elf_sdk.models.llm import Endpoint

__all__ = ["LONGEST_ANSWER", "EndlessAnswer", "Line"]

log = logging.getLogger("elf.models")

LONGEST_ANSWER: Final = 64 * 1024 * 1024
"""Bytes of one answer on the wire. A token of a stream is some 300 of them, and models end at some 100,000 tokens."""
_CONNECT: Final = 10.0
"""Seconds to reach a model: one that is not there is not waited for like one that thinks."""
_ANY: Any = httpx.USE_CLIENT_DEFAULT


class EndlessAnswer(httpx.TransportError):
    """The model wrote more than `LONGEST_ANSWER` in one answer."""

    def __init__(self) -> None:
        super().__init__(f"the answer has more than {LONGEST_ANSWER} bytes")


@functools.cache
def _certificates() -> ssl.SSLContext:
    return httpx.create_ssl_context()  # costs tens of milliseconds, so once and not for each run


class Line:
    """One run's way to its models. Close it when the run ends.

    Args:
        endpoint: the team's model, with its fallbacks.
        deadline: of the run, by the monotonic clock; None where it has none.

    Example:
        async with Line(ctx.endpoint, ctx.deadline) as line:
            client = AsyncOpenAI(http_client=line.asynchronous(), max_retries=0, ...)
    """

    def __init__(self, endpoint: Endpoint, deadline: float | None = None) -> None:
        self.endpoint = endpoint
        self.deadline = deadline
        self._answered: list[Endpoint] = []
        self._last = threading.local()
        self._asynchronous: _AsyncClient | None = None
        self._synchronous: _Client | None = None
        self._cut = threading.Event()
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()

    def asynchronous(self, *, one_loop: bool = True) -> httpx.AsyncClient:
        """The client for event loops; the same one each time.

        Args:
            one_loop: whether all calls come from one loop, where who waits is cancelled; else no connection is kept for
                another call, and a cut ends them.
        """
        with self._lock:
            if self._asynchronous is None:
                self._asynchronous = _AsyncClient(self, one_loop=one_loop)
            return self._asynchronous

    def synchronous(self) -> httpx.Client:
        """The client for threads; the same one each time."""
        with self._lock:
            if self._synchronous is None:
                self._synchronous = _Client(self)
            return self._synchronous

    def answered(self, said: str = "") -> Endpoint:
        """The model that gave an answer: the team's own, or one of its fallbacks.

        Args:
            said: the name that stood in the answer, if it is known. Where several models have answered in this run, it
                tells them apart; else it is the last one that this thread has heard from.
        """
        with self._lock:
            known = tuple(self._answered)
        if len(known) > 1 and said:
            # Providers answer with a dated name, and routers without the owner before it: the longest that fits is it.
            name = said.rpartition("/")[2]
            bare = {model: model.model.rpartition("/")[2] for model in known}
            named = [model for model in known if model.model == said] or [
                model for model in known if name.startswith(bare[model])
            ]
            if named:
                return max(named, key=lambda model: len(bare[model]))
        if len(known) == 1:
            return known[0]
        last: Endpoint = getattr(self._last, "endpoint", known[-1] if known else self.endpoint)
        return last

    def named(self, said: str = "") -> tuple[str, str]:
        """What a `Usage` event calls the model that gave an answer: its name, and its provider where it is a fallback.

        Args:
            said: as for `answered`; where nobody has answered on this line, it is the team's code's own model.
        """
        if not self._answered:
            return said or self.endpoint.model, ""
        served = self.answered(said)
        return served.model, "" if served is self.endpoint else served.provider

    def cut(self) -> None:
        """End the connections and waits of threads at once, from any thread; who waits there gets an error."""
        self._cut.set()
        with self._lock:
            for line in self._sockets:
                # It is closed already; or the loop is uvloop's, whose sockets only look like some.
                with suppress(OSError, TypeError):
                    line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connections of threads."""
        self._cut.set()
        if self._synchronous is not None:
            self._synchronous.close()

    async def aclose(self) -> None:
        """Close all connections."""
        self.cut()
        self.close()
        if self._asynchronous is not None:
            await self._asynchronous.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def heard(self, endpoint: Endpoint) -> None:
        """Note who has answered."""
        self._last.endpoint = endpoint
        with self._lock:
            if endpoint not in self._answered:
                self._answered.append(endpoint)

    def pause(self, seconds: float) -> None:
        """Wait in a thread, unless the line is cut.

        Raises:
            httpx.ReadError: it is cut.
        """
        if self._cut.wait(seconds):
            raise httpx.ReadError("the run was closed")

    def traced(self, name: str, info: Mapping[str, Any]) -> None:
        """Follow a connection; an extension of httpx calls it."""
        if name in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            with self._lock:
                self._sockets.append(info["return_value"].get_extra_info("socket"))
            if self._cut.is_set():
                self.cut()


class _Course:
    """The tries of one request."""

    def __init__(self, line: Line, request: httpx.Request) -> None:
        self._line = line
        self._request = request
        self._dialect = Dialect.of(request.url.path)
        first = line.endpoint
        # A client that the team's code has pointed elsewhere gets no key of ours, and no fallback.
        self._ours = str(request.url).startswith(f"{str(httpx.URL(first.base_url)).rstrip('/')}/")
        models = list(first.chain()) if self._ours else [first]
        self._call = Call([first, *(model for model in models[1:] if self._dialect.suits(model))], line.deadline)

    @property
    def streams(self) -> bool:
        """Whether the answer is wanted piece by piece."""
        try:
            return bool(orjson.loads(self._request.content).get("stream"))
        except (orjson.JSONDecodeError, AttributeError):
            return False

    def request(self) -> httpx.Request:
        """The request for the next try."""
        asked, endpoint, first = self._request, self._call.endpoint, self._line.endpoint
        url, body, headers = asked.url, asked.content, asked.headers.copy()
        if endpoint is not first:
            url = httpx.URL(address(endpoint, self._dialect))
            body = retold(body, first, endpoint)
            for name in ("host", "content-length"):
                headers.pop(name, None)
        if self._ours:
            for name, value in credential(endpoint, self._dialect).items():
                headers.pop(name, None)
                if value:
                    headers[name] = value
        left = self._call.left(time.monotonic())
        given = asked.extensions.get("timeout") or {}
        # Of the client's own timeouts only those count that are not the team's: the team's code has set them.
        own = {kind: seconds for kind, seconds in given.items() if seconds and seconds < first.timeout}
        timeout = {
            kind: max(min(endpoint.timeout, left, own.get(kind, left), _CONNECT if kind == "connect" else left), 0.001)
            for kind in ("connect", "read", "write", "pool")
        }
        return httpx.Request(
            asked.method,
            url,
            headers=headers,
            content=body,
            extensions={**asked.extensions, "timeout": timeout, _ASKED: httpx.URL(url)},
        )

    def after(self, outcome: httpx.Response | httpx.TransportError) -> float | None:
        """Seconds until the next try; None when this was the last one, and its outcome is to be handed on."""
        endpoint = self._call.endpoint
        if isinstance(outcome, httpx.TransportError):
            if isinstance(outcome, _FINAL):
                return None
            setback, reason = Setback(), f"{type(outcome).__name__}: {outcome}"
        elif not outcome.is_error:
            self._line.heard(endpoint)
            return None
        else:
            setback = Setback.of(outcome.status_code, outcome.headers, outcome.content, datetime.now(UTC))
            reason = f"HTTP {outcome.status_code}"
        wait = self._call.again(setback, time.monotonic(), random.random())  # noqa: S311 - spreads, guards nothing
        if wait is None:
            return None
        other = self._call.endpoint
        if other is endpoint:
            log.info("the model %r at %s failed (%s); it is asked again in %.1f s", *_named(endpoint), reason, wait)
        else:
            log.warning(
                "the model %r at %s failed (%s); its fallback %r at %s is asked",
                *_named(endpoint),
                reason,
                *_named(other),
            )
        return wait


def _named(endpoint: Endpoint) -> tuple[str, str]:
    return endpoint.model, httpx.URL(endpoint.base_url).netloc.decode()


_FINAL: Final = (EndlessAnswer, httpx.UnsupportedProtocol, httpx.LocalProtocolError)
"""Errors after which nobody is asked again: what was asked, or what comes of it, is the trouble."""


_ASKED: Final = "elf.asked"
"""The extension of a request that says where it went first; a redirect keeps it."""


def _guard_keys(request: httpx.Request) -> None:
    """Take keys out of a request that a redirect leads elsewhere. httpx does so with `authorization` alone."""
    url, asked = request.url, request.extensions[_ASKED]
    if url.host != asked.host or url.port != asked.port or url.scheme not in (asked.scheme, "https"):
        for name in KEY_HEADERS:
            request.headers.pop(name, None)


async def _guard_keys_in_loop(request: httpx.Request) -> None:
    _guard_keys(request)


class _AsyncClient(httpx.AsyncClient):
    def __init__(self, line: Line, *, one_loop: bool) -> None:
        super().__init__(
            verify=_certificates(),
            timeout=line.endpoint.timeout,
            follow_redirects=True,
            event_hooks={"request": [_guard_keys_in_loop]},
            limits=httpx.Limits(max_connections=100, max_keepalive_connections=20 if one_loop else 0),
        )
        self._line = line
        self._extensions = {} if one_loop else {"trace": self._traced}

    async def _traced(self, name: str, info: Mapping[str, Any]) -> None:
        self._line.traced(name, info)

    @override
    async def send(
        self, request: httpx.Request, *, stream: bool = False, auth: Any = _ANY, follow_redirects: Any = _ANY
    ) -> httpx.Response:
        await request.aread()
        course = _Course(self._line, request)
        wait: float | None = 0.0
        while wait is not None:
            await asyncio.sleep(wait)
            outcome: httpx.Response | httpx.TransportError
            asked = course.request()
            asked.extensions = {**asked.extensions, **self._extensions}
            try:
                outcome = await super().send(asked, stream=True, auth=auth, follow_redirects=follow_redirects)
                await _begin(outcome, streams=course.streams)
            except httpx.TransportError as error:
                error.request, outcome = asked, error
            wait = course.after(outcome)
        if isinstance(outcome, httpx.TransportError):
            raise outcome
        if not stream:
            await outcome.aread()
        return outcome


class _Client(httpx.Client):
    def __init__(self, line: Line) -> None:
        super().__init__(
            verify=_certificates(),
            timeout=line.endpoint.timeout,
            follow_redirects=True,
            event_hooks={"request": [_guard_keys]},
        )
        self._line = line

    @override
    def send(
        self, request: httpx.Request, *, stream: bool = False, auth: Any = _ANY, follow_redirects: Any = _ANY
    ) -> httpx.Response:
        request.read()
        course = _Course(self._line, request)
        wait: float | None = 0.0
        while wait is not None:
            self._line.pause(wait)
            outcome: httpx.Response | httpx.TransportError
            asked = course.request()
            asked.extensions = {**asked.extensions, "trace": self._line.traced}
            try:
                outcome = super().send(asked, stream=True, auth=auth, follow_redirects=follow_redirects)
                _begin_in_thread(outcome, streams=course.streams)
            except httpx.TransportError as error:
                error.request, outcome = asked, error
            wait = course.after(outcome)
        if isinstance(outcome, httpx.TransportError):
            raise outcome
        if not stream:
            outcome.read()
        return outcome


def _is_whole(response: httpx.Response, *, streams: bool) -> bool:
    """Whether all of an answer is read before any of it is handed on, so that it can be asked for again until then."""
    return response.is_error or not (
        streams or response.headers.get("content-type", "").startswith("text/event-stream")
    )


def _enough(head: bytearray, *, whole: bool) -> bool:
    if len(head) > LONGEST_ANSWER:
        raise EndlessAnswer
    return bool(head) and not whole


def _begun(head: bytearray) -> bytes:
    if not head:
        raise httpx.RemoteProtocolError("the answer has no content")
    return bytes(head)


async def _begin(response: httpx.Response, *, streams: bool) -> None:
    """Read the beginning of an answer: the first piece of a stream, and all of anything else."""
    whole, head = _is_whole(response, streams=streams), bytearray()
    stream = response.stream
    if not isinstance(stream, httpx.AsyncByteStream):
        raise TypeError("an asynchronous client has an asynchronous answer")
    pieces = aiter(stream)
    try:
        async for piece in pieces:
            head += piece
            if _enough(head, whole=whole):
                break
        response.stream = _AsyncRest(b"" if response.is_error and not head else _begun(head), pieces, stream)
        if whole:
            await response.aread()
    except BaseException:
        await response.aclose()
        raise


def _begin_in_thread(response: httpx.Response, *, streams: bool) -> None:
    whole, head = _is_whole(response, streams=streams), bytearray()
    stream = response.stream
    if not isinstance(stream, httpx.SyncByteStream):
        raise TypeError("a synchronous client has a synchronous answer")
    pieces = iter(stream)
    try:
        for piece in pieces:
            head += piece
            if _enough(head, whole=whole):
                break
        response.stream = _Rest(b"" if response.is_error and not head else _begun(head), pieces, stream)
        if whole:
            response.read()
    except BaseException:
        response.close()
        raise


class _AsyncRest(httpx.AsyncByteStream):
    """An answer whose beginning was read already."""

    def __init__(self, head: bytes, pieces: AsyncIterator[bytes], stream: httpx.AsyncByteStream) -> None:
        self._head, self._pieces, self._stream = head, pieces, stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._head
        size = len(self._head)
        async for piece in self._pieces:
            size += len(piece)
            if size > LONGEST_ANSWER:
                raise EndlessAnswer
            yield piece

    @override
    async def aclose(self) -> None:
        await self._stream.aclose()


class _Rest(httpx.SyncByteStream):
    """The same for threads."""

    def __init__(self, head: bytes, pieces: Iterator[bytes], stream: httpx.SyncByteStream) -> None:
        self._head, self._pieces, self._stream = head, pieces, stream

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        size = len(self._head)
        for piece in self._pieces:
            size += len(piece)
            if size > LONGEST_ANSWER:
                raise EndlessAnswer
            yield piece

    @override
    def close(self) -> None:
        self._stream.close()
