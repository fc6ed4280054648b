"""The frames between a server and a worker: a header in JSON, and bytes that belong to it.

What a worker sends is never more than JSON and bytes, so that a team's code cannot make the server execute anything.
Both are bounded; who exceeds that is not listened to any longer.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping
from typing import Any, Final

import orjson

__all__ = ["BUFFER", "MAX_BODY", "MAX_TOLD", "Garbled", "frame", "read_frame"]

BUFFER: Final = 64 * 1024
"""Bytes that are read ahead; twice as much stops the reading, and so the one who writes."""
MAX_BODY: Final = 32 * 1024 * 1024
"""Bytes that belong to one frame of a worker: an event, or checkpoints that are saved at once."""
MAX_TOLD: Final = 1024 * 1024 * 1024
"""The same for a server, which hands over all that was saved one by one, and a whole log."""
_MAX_HEADER: Final = BUFFER
_HEAD: Final = struct.Struct("!II")


class Garbled(Exception):
    """What was read is no frame, or too large a one."""


def frame(header: Mapping[str, Any], body: bytes = b"", *, limit: int = MAX_BODY) -> bytes:
    """A frame, with at most `limit` bytes in its body.

    Raises:
        ValueError: it is too large.
        TypeError: JSON cannot hold the header.
    """
    head = orjson.dumps(dict(header))
    if len(head) > _MAX_HEADER or len(body) > limit:
        raise ValueError(
            f"{len(head)} and {len(body)} bytes are too much for one message of a worker process; "
            f"at most {_MAX_HEADER} and {limit} go over"
        )
    return b"".join((_HEAD.pack(len(head), len(body)), head, body))


async def read_frame(reader: asyncio.StreamReader, *, limit: int = MAX_BODY) -> tuple[dict[str, Any], bytes] | None:
    """The next frame's header and body, of at most `limit` bytes; None at the end, also in the middle of a frame.

    Raises:
        Garbled: this is no frame.
    """
    try:
        head, body = _HEAD.unpack(await reader.readexactly(_HEAD.size))
        if head > _MAX_HEADER or body > limit:
            raise Garbled(f"a frame of {head} and {body} bytes")
        header = orjson.loads(await reader.readexactly(head))
        content = await reader.readexactly(body) if body else b""
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    except orjson.JSONDecodeError as error:
        raise Garbled(f"a header that is no JSON: {error}") from None
    if not isinstance(header, dict):
        raise Garbled("a header that is no object")
    return header, content
