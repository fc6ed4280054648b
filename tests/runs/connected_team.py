"""A team that opens a connection when it is loaded."""

from __future__ import annotations

import socket

from tests.runs.blocking_team import ECHO

LINE, _FAR = socket.socketpair()

__all__ = ["ECHO", "LINE"]
