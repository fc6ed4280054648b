"""Callers who speak A2A 0.3, answered by the SDK's compatibility layer on our operations.

The SDK and protobuf are loaded when the first of them comes: they take most of a second and 20 MB, which most servers
never need.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from elf_sdk.server.a2a.handler import Handler, Json
from elf_sdk.server.auth import Principal

__all__ = ["Compatible"]

_STORES: Final = (
    "a2a.server.cluster.database_event_stream",
    "a2a.server.cluster.database_task_store",
    "a2a.server.tasks.database_task_store",
    "a2a.server.tasks.database_push_notification_config_store",
)

Endpoint = Callable[[Request, Principal, bytes, Any], Awaitable[Response]]


class Compatible:
    """Answers JSON-RPC requests that name no later version than 0.3.

    Args:
        handler: the operations.
        extended_card: the extended card for a request.
    """

    def __init__(self, handler: Handler, extended_card: Callable[[Request], Json]) -> None:
        self._handler = handler
        self._extended_card = extended_card
        self._loading: asyncio.Task[Endpoint] | None = None

    async def __call__(self, request: Request, principal: Principal, body: bytes, parsed: Any) -> Response:
        """Answer a request whose caller is known and whose body was read."""
        if self._loading is None:
            self._loading = asyncio.create_task(asyncio.to_thread(self._load))
        endpoint = await asyncio.shield(self._loading)
        return await endpoint(request, principal, body, parsed)

    def _load(self) -> Endpoint:
        _load_without_stores()
        from elf_sdk.server.a2a.sdk import compatible_endpoint

        return compatible_endpoint(self._handler, self._extended_card)


def _load_without_stores() -> None:
    """Load the SDK's server without its own stores, which it knows how to do without.

    Nothing here uses them, and the SQLAlchemy that they load is half a second and 20 MB.
    """
    hidden = [name for name in _STORES if name not in sys.modules]
    # This is how the import system is told that there is no such module.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        import a2a.server.request_handlers  # noqa: F401 - loaded for its effect
    finally:
        for name in hidden:
            del sys.modules[name]
