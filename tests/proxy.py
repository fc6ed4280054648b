"""A proxy between a store and its PostgreSQL that loses the answers to COMMIT, as often as told."""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.postgres import Server

__all__ = ["Proxy", "proxied"]


class Proxy:
    """Cuts a connection when the answer to a COMMIT comes back, as often as told.

    Args:
        path: of the socket to listen on.
        upstream: of the server's.

    Attributes:
        cuts: how many connections are to be cut, all in all.
        cut: how many were.
    """

    def __init__(self, path: Path, upstream: Path) -> None:
        self.cuts = 0
        self.cut = 0
        self._upstream = upstream
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._open: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self._upstream))
            self._open += [client, server]
            threading.Thread(target=self._pipe, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pipe, args=(server, client, True), daemon=True).start()

    def _pipe(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                if answers and b"COMMIT\x00" in data and self.cut < self.cuts:
                    self.cut += 1
                    break
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop listening, and cut what is connected."""
        for each in self._open:
            each.close()


@contextmanager
def proxied(directory: Path, server: Server) -> Generator[Proxy, None, None]:
    """A proxy in front of a server: its host is `directory`, whose path has to be short."""
    proxy = Proxy(directory / ".s.PGSQL.5432", server.socket)
    try:
        yield proxy
    finally:
        proxy.close()
