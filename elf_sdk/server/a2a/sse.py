"""A stream of events as server-sent events (WHATWG HTML, section 9.2), with a sign of life each 15 seconds."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Final

import orjson
from sse_starlette.sse import EventSourceResponse, SendTimeoutError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from typing_extensions import override

__all__ = ["event_stream"]

log = logging.getLogger("elf.a2a")

Json = dict[str, Any]

_STALLED: Final = 10.0
"""Seconds that a caller may take no byte, before its stream is given up. What it misses stays in the run's log."""


async def event_stream(
    events: AsyncGenerator[tuple[int | None, Json], None],
    said: Callable[[Json], Json],
    failed: Callable[[Exception], Json],
) -> Response:
    """The answer that streams `events`. What goes wrong before the first of them is raised here.

    Args:
        events: what happens, each with its id or None; closed when the caller goes. At least one; an empty one only
            begins the answer.
        said: an event as the wire has it.
        failed: the same for an error; it is the last of the stream.
    """
    number, first = await anext(events)
    begin = _frame(number, said(first)) if first else b":\r\n\r\n"

    async def frames() -> AsyncGenerator[bytes, None]:
        async with aclosing(events):
            yield begin
            try:
                async for number, event in events:
                    yield _frame(number, said(event))
            except Exception as error:  # noqa: BLE001 - logged by `failed`, where it is nothing for the caller
                yield b"event: error\r\n" + _frame(None, failed(error))

    return _Bounded(frames(), send_timeout=_STALLED)


class _Bounded(EventSourceResponse):
    """Ends where its caller does not read."""

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except* SendTimeoutError:
            log.info("a stream was given up: its caller took nothing for %g s", _STALLED)


def _frame(number: int | None, data: Json) -> bytes:
    event_id = b"" if number is None else b"id: %d\r\n" % number
    return event_id + b"data: " + orjson.dumps(data) + b"\r\n\r\n"
