"""A stream of events as server-sent events (WHATWG HTML, section 9.2), with a sign of life each 15 seconds."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Final

import orjson
from starlette.responses import Response

__all__ = ["event_stream"]

Json = dict[str, Any]

_GRACE: Final = 10.0
"""Seconds for which a stream goes on when the server stops: what is followed may go on elsewhere, and be over soon."""


async def event_stream(
    events: AsyncGenerator[Json, None], said: Callable[[Json], Json], failed: Callable[[Exception], Json]
) -> Response:
    """The answer that streams `events`. What goes wrong before the first of them is raised here.

    Args:
        events: what happens; closed when the caller goes.
        said: an event as the wire has it.
        failed: the same for an error; it is the last of the stream.
    """
    from sse_starlette.sse import EventSourceResponse  # with the first stream, and not at the start

    first = await anext(events)

    async def frames() -> AsyncGenerator[bytes, None]:
        async with aclosing(events):
            yield _frame(said(first))
            try:
                async for event in events:
                    yield _frame(said(event))
            except Exception as error:  # noqa: BLE001 - logged by `failed`, where it is nothing for the caller
                yield b"event: error\r\n" + _frame(failed(error))

    return EventSourceResponse(frames(), shutdown_grace_period=_GRACE)


def _frame(data: Json) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\r\n\r\n"
