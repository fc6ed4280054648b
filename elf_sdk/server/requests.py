"""What a request says of itself: its id, and the trace that it is part of."""

from __future__ import annotations

import itertools
import re
import secrets
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from elf_sdk.server.logs import RequestInfo, current_request
from elf_sdk.server.metrics.team import TeamMetrics

__all__ = ["REQUEST_ID", "IdentifiedRequests"]

REQUEST_ID: Final = b"x-request-id"
_LAST: Final = (b"connection", b"close")
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

    Attributes:
        metrics: where answers are counted, once somebody wants that.
        leaving: the server is about to stop, so each answer is the last one on its connection (RFC 9112, section 9.6).
    """

    def __init__(self, app: ASGIApp, team: str) -> None:
        self.metrics: TeamMetrics | None = None
        self.leaving = False
        self._app = app
        self._team = team
        self._series = secrets.token_hex(12)
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        kind = scope["type"]
        if kind not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request_id = trace = ""
        for name, value in scope["headers"]:
            if name == REQUEST_ID:
                request_id = _UNCLEAN.sub(b"", value)[:_LONGEST].decode()
            elif name == _TRACE_PARENT and (parent := _TRACE.fullmatch(value)):
                trace = parent[1].decode()
        if not request_id:
            # Tells requests apart, also those of two processes, and guards nothing.
            request_id = f"{self._series}{next(self._numbers):08x}"
        # Never set back: the server below gives each connection a context of its own, and logs there what went wrong.
        current_request.set(RequestInfo(request_id, self._team, trace))

        metrics = self.metrics

        async def send_identified(message: Message) -> None:
            said = message["type"]
            if said == "http.response.start" or said == "websocket.accept":
                message["headers"] = [*message.get("headers", ()), (REQUEST_ID, request_id.encode())]
                if self.leaving and said == "http.response.start":
                    message["headers"].append(_LAST)
                if metrics is not None and said == "http.response.start":
                    metrics.responded(message["status"])
            await send(message)

        await self._app(scope, receive, send_identified)
