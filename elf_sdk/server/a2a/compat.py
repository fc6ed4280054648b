"""Callers who speak A2A 0.3, answered by the SDK's compatibility layer on our operations.

The SDK and protobuf are loaded when the first of them comes: they take a second and 40 MB, which most servers never
need.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from elf_sdk.server.a2a.handler import Handler
from elf_sdk.server.auth import Principal

__all__ = ["Compatible"]

Endpoint = Callable[[Request, Principal, bytes, Any], Awaitable[Response]]


class Compatible:
    """Answers JSON-RPC requests that name no later version than 0.3."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._loading: asyncio.Task[Endpoint] | None = None

    async def __call__(self, request: Request, principal: Principal, body: bytes, parsed: Any) -> Response:
        """Answer a request whose caller is known and whose body was read."""
        if self._loading is None:
            self._loading = asyncio.create_task(asyncio.to_thread(self._load))
        endpoint = await asyncio.shield(self._loading)
        return await endpoint(request, principal, body, parsed)

    def _load(self) -> Endpoint:
        from elf_sdk.server.a2a.sdk import compatible_endpoint

        return compatible_endpoint(self._handler)
