"""What workers print and log, as log records of the server."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import Any, Final

import orjson

from elf_sdk.runs.worker.capture import RECORD

__all__ = ["read_output"]

log = logging.getLogger("elf.team")

_LINE: Final = 2000
"""Characters of a printed line."""
_LONGEST: Final = 64 * 1024
"""Bytes of a line before it is cut."""
_CHUNK: Final = 8192
_RATE: Final = 200
"""Lines in a second; what is more is counted, so that a team that prints without end does not keep the server busy."""


async def read_output(pipe: int) -> None:
    """Log what comes out of a pipe until its end, in the name of the run for which this is called. Closes it."""
    reader = asyncio.StreamReader(limit=_CHUNK)
    file = os.fdopen(pipe, "rb", 0)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
    lines = _Lines()
    try:
        while chunk := await reader.read(_CHUNK):
            lines.feed(chunk)
            # Also when there is always more to read.
            await asyncio.sleep(0)
    finally:
        lines.close()
        transport.close()


class _Lines:
    """Cuts what comes into lines, and logs them."""

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False
        self._second = 0
        self._written = 0
        self._dropped = 0

    def feed(self, chunk: bytes) -> None:
        """Take the next piece."""
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        for line in whole:
            if not self._skipping:
                self._take(line)
            self._skipping = False
        if len(self._rest) > _LONGEST:
            if not self._skipping:
                self._take(self._rest)
            self._rest, self._skipping = b"", True

    def close(self) -> None:
        """There is no more."""
        if self._rest and not self._skipping:
            self._take(self._rest)
        self._tell_dropped()

    def _take(self, line: bytes) -> None:
        if not line.strip():
            return
        second = int(time.monotonic())
        if second != self._second:
            self._tell_dropped()
            self._second, self._written = second, 0
        if self._written >= _RATE:
            self._dropped += 1
            return
        self._written += 1
        if line.startswith(RECORD):
            try:
                _log_record(orjson.loads(line[len(RECORD) :]))
            except (ValueError, TypeError, KeyError):
                pass  # mixed up with what another process of the run wrote; shown as it came
            else:
                return
        text = line.decode(errors="replace").rstrip("\r")
        log.info("%s", text if len(text) <= _LINE else f"{text[:_LINE]} …")

    def _tell_dropped(self) -> None:
        if self._dropped:
            log.warning("%d lines more were printed than the %d in a second that are written", self._dropped, _RATE)
            self._dropped = 0


def _log_record(said: dict[str, Any]) -> None:
    level, name, message = int(said["level"]), str(said["name"]), str(said["message"])
    if not log.isEnabledFor(level):
        return
    record = _record(name, level, message)
    if exception := said.get("exception"):
        # As a record of its own, because what makes records also takes secrets out of them.
        record.exc_text = _record(name, level, str(exception)).getMessage()
    log.handle(record)


def _record(name: str, level: int, text: str) -> logging.LogRecord:
    # A record of that name, but no logger: a name costs memory for ever.
    return logging.getLogRecordFactory()(name, level, "", 0, "%s", (text,), None)
