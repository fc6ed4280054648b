"""A stream of server-sent events that ends where its caller does not read; loaded with the first stream."""

from __future__ import annotations

import logging

from sse_starlette.sse import EventSourceResponse, SendTimeoutError
from starlette.types import Receive, Scope, Send
from typing_extensions import override

__all__ = ["BoundedStream"]

log = logging.getLogger("elf.a2a")


class BoundedStream(EventSourceResponse):
    """A stream that is given up when its caller takes nothing for `send_timeout` seconds."""

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        except* SendTimeoutError:
            log.info("a stream was given up: its caller took nothing for %g s", self.send_timeout)
