"""Requests to one A2A server: JSON-RPC over HTTP, answers and streams, and what goes wrong in plain words.

The protocol is read by hand and not by the SDK, which would cost a process most of a second and 20 MB at the first
call, and hides what a client that goes on needs: the ids of events, `Retry-After`, and whether a request may have
arrived.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx
import orjson

from elf_sdk.errors import (
    BadInput,
    Conflict,
    ElfError,
    Failure,
    Forbidden,
    NotFound,
    Retryable,
    Unauthenticated,
)

__all__ = ["Connection", "EventReader", "Interrupted", "Item", "retry_after"]

Json = dict[str, Any]

_CONNECT: Final = 10.0
"""Seconds for a connection to be made."""
_LONGEST_ANSWER: Final = 16 * 1024 * 1024
"""Bytes of an answer, or of one event of a stream."""
_SAID: Final = 300
"""Characters of what a server says that reach an error message."""
_LINE: Final = re.compile(rb"\r\n|\n|\r")


class Interrupted(Retryable):
    """A request did not get its answer.

    Attributes:
        arrived: whether the server may have got it and acted on it; False where it certainly has not.
        wait: seconds that the server asks to wait before the next request; 0 where it asks nothing.
    """

    def __init__(self, message: str, *, arrived: bool, wait: float = 0) -> None:
        super().__init__(message)
        self.arrived = arrived
        self.wait = wait


class Item:
    """One item of a stream.

    Attributes:
        event_id: with which the stream can be taken up behind it; empty where the server gives none.
        result: the StreamResponse.
    """

    __slots__ = ("event_id", "result")

    def __init__(self, event_id: str, result: Json) -> None:
        self.event_id = event_id
        self.result = result


class Connection:
    """Requests to one server. All of them raise `Interrupted`, or the `ElfError` that fits the refusal.

    Args:
        http: the connections, shared and closed by whoever made them.
        token_provider: a bearer token for the server; asked before each request, and sent nowhere else.
        where: what the server is called in messages to people.
        silence: seconds without a byte after which a connection counts as dropped.
    """

    def __init__(self, http: httpx.AsyncClient, token_provider: Callable[[], str], where: str, silence: float) -> None:
        self._http = http
        self._token = token_provider
        self._where = where
        self._timeout = httpx.Timeout(silence, connect=min(silence, _CONNECT))

    async def document(self, url: str, headers: Mapping[str, str]) -> httpx.Response:
        """GET without a token: status 200 with its body read, or 304."""
        async with self._request("GET", url, headers=headers) as response:
            if response.status_code == 304:
                return response
            if response.status_code != 200:
                raise await self._refused(response)
            return httpx.Response(200, headers=response.headers, content=await self._body(response))

    async def call(self, url: str, method: str, params: Json, headers: Mapping[str, str]) -> Json:
        """The result of a method."""
        async with self._method(url, method, params, headers) as response:
            return self._result(_parsed(await self._body(response), self._where))

    async def stream(
        self, url: str, method: str, params: Json, headers: Mapping[str, str]
    ) -> AsyncGenerator[Item, None]:
        """The results of a method that streams, until the server closes the stream."""
        accepting = {"Accept": "text/event-stream", "Cache-Control": "no-store", **headers}
        async with self._method(url, method, params, accepting) as response:
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                # An error before there was a stream.
                yield Item("", self._result(_parsed(await self._body(response), self._where)))
                return
            events = EventReader()
            async for chunk in response.aiter_bytes():
                for event_id, data in events.feed(chunk):
                    yield Item(event_id, self._result(_parsed(data, self._where)))
                if events.held > _LONGEST_ANSWER:
                    raise self._too_long()

    @asynccontextmanager
    async def _method(
        self, url: str, method: str, params: Json, headers: Mapping[str, str]
    ) -> AsyncIterator[httpx.Response]:
        body = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        given = {"Content-Type": "application/json", "Authorization": f"Bearer {self._token()}", **headers}
        async with self._request("POST", url, content=body, headers=given) as response:
            if response.status_code != 200:
                raise await self._refused(response)
            yield response

    @asynccontextmanager
    async def _request(
        self, method: str, url: str, *, headers: Mapping[str, str], content: bytes | None = None
    ) -> AsyncIterator[httpx.Response]:
        try:
            async with self._http.stream(
                method, url, headers=headers, content=content, timeout=self._timeout, follow_redirects=False
            ) as response:
                yield response
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            message = f"{self._where} cannot be reached; check the address, and that it runs"
            raise Interrupted(message, arrived=False) from error
        except httpx.TransportError as error:
            message = f"the connection to {self._where} broke ({type(error).__name__})"
            raise Interrupted(message, arrived=True) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Failure(f"{self._where} gave an answer that is not A2A: {str(error)[:_SAID]}") from error

    async def _body(self, response: httpx.Response) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > _LONGEST_ANSWER:
                raise self._too_long()
        return bytes(body)

    def _too_long(self) -> Failure:
        return Failure(f"{self._where} answered with more than {_LONGEST_ANSWER:,} bytes, and was not read on")

    def _result(self, answer: Json) -> Json:
        """The result of a JSON-RPC answer."""
        if isinstance(answer.get("error"), dict):
            raise self._error(answer["error"])
        result = answer.get("result")
        if not isinstance(result, dict):
            raise Failure(f"{self._where} gave an answer that is not A2A: it holds neither result nor error")
        return result

    def _error(self, error: Json) -> ElfError:
        """An A2A error (section 5.4) by what its receiver does about it."""
        said = str(error.get("message", ""))[:_SAID]
        match error.get("code"):
            case -32001:
                return NotFound(f"{self._where} has no such task of ours")
            case -32002 | -32004:
                return Conflict(f"{self._where} refused: {said}")
            case -32602 | -32005:
                return BadInput(f"{self._where} refused the message: {said}")
            case -32603 if _is_retryable(error.get("data")):
                return Interrupted(f"{self._where} cannot take it now: {said}", arrived=False)
            case _:
                return Failure(f"{self._where} failed: {said}")

    async def _refused(self, response: httpx.Response) -> ElfError:
        said = _said(await self._body(response))
        wait = retry_after(response.headers.get("retry-after", ""))
        match response.status_code:
            case 401:
                return Unauthenticated(f"{self._where} does not accept our token (401){said}")
            case 403:
                return Forbidden(f"{self._where} does not let us call it (403){said}")
            case 413:
                return BadInput(f"{self._where} refused the message (413){said}")
            case 429 | 503 as status:
                # A proxy that lost the server in the middle says 503 too, but it does not say when to come again.
                arrived = status == 503 and not response.headers.get("retry-after")
                return Interrupted(f"{self._where} cannot answer now (HTTP {status})", arrived=arrived, wait=wait)
            case 502 | 504 as status:
                return Interrupted(f"{self._where} cannot answer now (HTTP {status})", arrived=True, wait=wait)
            case status:
                return Failure(f"{self._where} answered with HTTP {status}{said}")


class EventReader:
    """Server-sent events out of bytes (WHATWG HTML, section 9.2.6), however the network cuts them."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._id = ""
        self._next_id = ""

    @property
    def held(self) -> int:
        """Bytes of what is not complete yet."""
        return len(self._pending) + self._size

    def feed(self, chunk: bytes) -> Iterator[tuple[str, bytes]]:
        """The id and the data of each event that `chunk` completes."""
        self._pending += chunk
        if b"\n" not in chunk and b"\r" not in self._pending[-len(chunk) - 1 :]:
            # Long data comes in many chunks; it is looked through once.
            return
        start = 0
        for end in _LINE.finditer(self._pending):
            if end.group() == b"\r" and end.end() == len(self._pending):
                # Its other half may be on the way.
                break
            line = bytes(self._pending[start : end.start()])
            start = end.end()
            if line:
                self._field(line)
            elif self._data:
                self._id = self._next_id
                yield self._id, b"\n".join(self._data)
                self._data, self._size = [], 0
            else:
                self._id = self._next_id
        del self._pending[:start]

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._size += len(value)
        elif name == b"id" and b"\0" not in value:
            self._next_id = value.decode("utf-8", "replace")


def _parsed(body: bytes, where: str) -> Json:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = None
    if not isinstance(answer, dict):
        raise Failure(f"{where} gave an answer that is not A2A: it is no JSON object")
    return answer


def _is_retryable(data: Any) -> bool:
    """Whether an error's details say `retryable: "true"`, as an ELF server's do."""
    details = data if isinstance(data, list) else []
    return any(
        isinstance(detail, dict)
        and isinstance(detail.get("metadata"), dict)
        and detail["metadata"].get("retryable") == "true"
        for detail in details
    )


def retry_after(value: str) -> float:
    """Seconds of a Retry-After header (RFC 9110, section 10.2.3); 0 where it says nothing that can be read."""
    if value.isascii() and value.isdecimal():
        return float(value[:9])
    try:
        moment = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return 0.0
    return max(0.0, (moment.astimezone(UTC) - datetime.now(UTC)).total_seconds())


def _said(body: bytes) -> str:
    """The sentence in a refusal, where there is one."""
    try:
        answer = orjson.loads(body)
        said = answer["error"]["message"] if isinstance(answer.get("error"), dict) else answer["message"]
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return ""
    return f": {said[:_SAID]}" if isinstance(said, str) else ""
