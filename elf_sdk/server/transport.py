"""A transport of httpx that connects to checked addresses only; see `server/egress.py`.

The name in TLS and in the Host header stays, and whatever follows a redirect is checked like the first request.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpcore
import httpx
from typing_extensions import override

from elf_sdk.server.egress import Egress

__all__ = ["EgressTransport"]

_TRIES: Final = 4
"""Addresses of one host to which a connection is tried."""
_KEEP: Final = 5.0
"""Seconds for which a connection is kept for the next request."""


class _Checked(httpcore.AsyncNetworkBackend):
    """Connects to the addresses that an `Egress` gives, and to no other."""

    def __init__(self, egress: Egress, scheme: str) -> None:
        self._egress = egress
        self._scheme = scheme
        self._network = httpcore.AnyIOBackend()

    @override
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        problem: Exception = httpcore.ConnectError("the host has no address")
        for address in (await self._egress.addresses(self._scheme, host.lower().removesuffix(".")))[:_TRIES]:
            try:
                return await self._network.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                problem = error
        raise problem

    @override
    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)


class EgressTransport(httpx.AsyncBaseTransport):
    """A transport of httpx whose every request and every connection is checked by an `Egress`.

    Args:
        egress: checks.
        connections: at most so many at once for each scheme.
        tls: whom to trust; by default the authorities that httpx trusts.

    `BadInput` comes from a request that may not be sent.
    """

    def __init__(self, egress: Egress, *, connections: int = 100, tls: ssl.SSLContext | None = None) -> None:
        self._egress = egress
        self._connections = connections
        self._tls = tls
        self._pools: dict[str, httpcore.AsyncConnectionPool] = {}

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        scheme, _ = self._egress.target(str(request.url))
        assert isinstance(request.stream, AsyncIterable)  # noqa: S101 - an async transport gets no other
        with _as_httpx():
            response = await self._pool(scheme).handle_async_request(
                httpcore.Request(
                    request.method,
                    httpcore.URL(
                        scheme=request.url.raw_scheme,
                        host=request.url.raw_host,
                        port=request.url.port,
                        target=request.url.raw_path,
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        assert isinstance(response.stream, AsyncIterable)  # noqa: S101 - nor does an async pool give another
        return httpx.Response(
            response.status, headers=response.headers, stream=_Body(response), extensions=response.extensions
        )

    def _pool(self, scheme: str) -> httpcore.AsyncConnectionPool:
        if scheme not in self._pools:
            if scheme == "https" and self._tls is None:
                # 10 ms and a megabyte, for whoever needs it.
                self._tls = httpx.create_ssl_context()
            self._pools[scheme] = httpcore.AsyncConnectionPool(
                ssl_context=self._tls,
                max_connections=self._connections,
                keepalive_expiry=_KEEP,
                network_backend=_Checked(self._egress, scheme),
            )
        return self._pools[scheme]

    @override
    async def aclose(self) -> None:
        for pool in self._pools.values():
            await pool.aclose()
        self._pools.clear()


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx():
            async for piece in self._response.aiter_stream():
                yield piece

    @override
    async def aclose(self) -> None:
        await self._response.aclose()


@contextmanager
def _as_httpx() -> Iterator[None]:
    """Turn httpcore's errors into httpx's, which have the same names."""
    try:
        yield
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
        kind: type[httpx.TransportError] = getattr(httpx, type(error).__name__, httpx.TransportError)
        raise kind(str(error)) from error
