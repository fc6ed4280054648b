"""The WebSocket protocol below the server, with one thing mended."""

from __future__ import annotations

from typing import Final

from typing_extensions import override
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

__all__ = ["WebSocketProtocol"]

_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Answers a handshake that cannot be read, such as one with a token of more than 8 KB in its address.

    The class above leaves such a connection open and says nothing, and the client waits.
    """

    @override
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.handshake_initiated = True
            self.transport.write(_TOO_LARGE)
            self.transport.close()
