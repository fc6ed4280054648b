"""A stream of events as server-sent events (WHATWG HTML, section 9.2), with a sign of life each 15 seconds."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Final

import orjson
from starlette.responses import Response

__all__ = ["event_stream"]

Json = dict[str, Any]

_STALLED: Final = 10.0
"""Seconds that a caller may take no byte, before its stream is given up. What it misses stays in the run's log."""
_GRACE: Final = 10.0
"""Seconds for which a stream goes on when the server stops: what is followed may go on elsewhere, and be over soon."""


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
    from elf_sdk.server.a2a.bounded import BoundedStream  # with the first stream, and not at the start

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

    return BoundedStream(frames(), send_timeout=_STALLED, shutdown_grace_period=_GRACE)


def _frame(number: int | None, data: Json) -> bytes:
    event_id = b"" if number is None else b"id: %d\r\n" % number
    return event_id + b"data: " + orjson.dumps(data) + b"\r\n\r\n"
