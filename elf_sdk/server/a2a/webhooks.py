"""The requests by which push notifications arrive (A2A 1.0, sections 4.3.3 and 13.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import orjson

from elf_sdk.errors import BadInput
from elf_sdk.server.egress import Egress
from elf_sdk.store.push import PushConfig

if TYPE_CHECKING:
    import httpx

    from elf_sdk.server.transport import EgressTransport

__all__ = ["Sign", "Undelivered", "Webhooks", "unsigned"]

Sign = Callable[[bytes, str], Mapping[str, str]]
"""Headers that prove who sends a body to a URL. What the receiver's own config says goes before them."""

_BODY: Final = 16 * 1024
"""Bytes of an answer that are read, so that the connection can be used again; what it says is not looked at."""


def unsigned(body: bytes, url: str) -> Mapping[str, str]:
    """Nothing proves who sends it but the receiver's own token and credentials."""
    return {}


class Undelivered(Exception):
    """A receiver did not take it. The text ends a sentence, and holds neither the URL's path nor a secret.

    Attributes:
        final: it never will.
        after: seconds for which it asks to be left alone.
    """

    def __init__(self, why: str, *, final: bool = False, after: float = 0.0) -> None:
        super().__init__(why)
        self.final = final
        self.after = after


class Webhooks:
    """Posts to receivers that may be anywhere; see `Egress`.

    Args:
        egress: where requests may go.
        sign: proves who sends.
        timeout: seconds for a request, from the connection to the end of its answer.
        connections: at most so many at once.
    """

    def __init__(self, egress: Egress, sign: Sign, *, timeout: float, connections: int) -> None:
        self._egress = egress
        self._sign = sign
        self._timeout = timeout
        self._connections = connections
        self._transport: EgressTransport | None = None

    async def aclose(self) -> None:
        """Close the connections."""
        if self._transport is not None:
            await self._transport.aclose()

    async def post(self, config: PushConfig, update: Mapping[str, Any], key: str) -> None:
        """Send one StreamResponse.

        Args:
            config: to whom.
            update: the StreamResponse.
            key: tells a repeat from news.

        Raises:
            Undelivered: no status of the 200s came back in time.
        """
        if self._transport is None:
            # In a thread: the HTTP client takes a tenth of a second to load, and most servers never need it.
            await asyncio.to_thread(import_module, "elf_sdk.server.transport")
        import httpx

        try:
            async with asyncio.timeout(self._timeout):
                response = await self._answer(self._request(config, orjson.dumps(update), key))
        except TimeoutError:
            why = f"there was no answer within {self._timeout:g} s"
        except BadInput as error:
            why = str(error)
        except httpx.TransportError as error:
            why = f"the connection failed ({type(error).__name__})"
        else:
            if response.is_success:
                return
            status = response.status_code
            after = _seconds(response.headers.get("retry-after", ""))
            raise Undelivered(f"it answered with HTTP {status}", final=status == httpx.codes.GONE, after=after)
        raise Undelivered(why)

    def _request(self, config: PushConfig, body: bytes, key: str) -> httpx.Request:
        import httpx

        headers = httpx.Headers(dict(self._sign(body, config.url)))
        headers["Content-Type"] = "application/a2a+json"
        headers["A2A-Version"] = "1.0"
        headers["Idempotency-Key"] = f'"{key}"'
        headers["User-Agent"] = "elf"
        if config.token:
            headers["X-A2A-Notification-Token"] = config.token
        if config.scheme and config.credentials:
            headers["Authorization"] = f"{config.scheme} {config.credentials}"
        extensions = {"timeout": httpx.Timeout(self._timeout).as_dict()}
        return httpx.Request("POST", config.url, headers=headers, content=body, extensions=extensions)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        """The answer, of which the body is not kept."""
        if self._transport is None:
            from elf_sdk.server.transport import EgressTransport

            self._transport = EgressTransport(self._egress, connections=self._connections)
        # Not through a client, which logs each URL; and a URL may hold a secret.
        response = await self._transport.handle_async_request(request)
        try:
            size = 0
            async for piece in response.aiter_raw():
                size += len(piece)
                if size > _BODY:
                    break
        finally:
            await response.aclose()
        return response


def _seconds(retry_after: str) -> float:
    """The seconds of a Retry-After header; 0 where it holds a date or nothing."""
    return float(retry_after) if retry_after.isascii() and retry_after.isdecimal() and len(retry_after) < 7 else 0.0
