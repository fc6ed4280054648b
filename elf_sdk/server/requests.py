"""What a request says of itself: its id, and the trace that it is part of."""

from __future__ import annotations

import random
import re
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from elf_sdk.server.logs import RequestInfo, current_request

__all__ = ["REQUEST_ID", "IdentifiedRequests"]

REQUEST_ID: Final = b"x-request-id"
_TRACE_PARENT: Final = b"traceparent"
_LONGEST: Final = 128
_UNCLEAN: Final = re.compile(rb"[^A-Za-z0-9._~:/+=@-]")
_TRACE: Final = re.compile(rb"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class IdentifiedRequests:
    """ASGI middleware: each request has an id, which stands in its log lines and in its answer.

    The id is the caller's `X-Request-ID`, without characters that are unusual in one and cut to 128 characters, or else
    a new one. The trace is that of a `traceparent` (W3C Trace Context, section 3.2).

    Args:
        app: what serves the requests.
        team: in whose name.
    """

    def __init__(self, app: ASGIApp, team: str) -> None:
        self._app = app
        self._team = team

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        kind = scope["type"]
        if kind not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        given = trace = b""
        for name, value in scope["headers"]:
            if name == REQUEST_ID:
                given = _UNCLEAN.sub(b"", value)[:_LONGEST]
            elif name == _TRACE_PARENT and (parent := _TRACE.fullmatch(value)):
                trace = parent[1]
        request_id = given or b"%032x" % random.getrandbits(128)
        # Never set back: the server below gives each connection a context of its own, and logs there what went wrong.
        current_request.set(RequestInfo(request_id.decode(), self._team, trace.decode()))

        async def send_identified(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                message["headers"] = [*message.get("headers", ()), (REQUEST_ID, request_id)]
            await send(message)

        await self._app(scope, receive, send_identified)
