"""What a worker says: all that it prints, and its log records, go into one pipe that the server reads."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import orjson
from typing_extensions import override

__all__ = ["RECORD", "PipeHandler", "capture", "levels"]

RECORD: Final = b"\x1e"
"""Begins a line that is a log record as JSON (RFC 7464 has this character for it); other lines are what was printed."""
_MESSAGE: Final = 8000
"""Characters of a message, and of the end of a traceback."""


class PipeHandler(logging.Handler):
    """Writes each record as one line of JSON to a pipe.

    Args:
        pipe: its descriptor.
    """

    def __init__(self, pipe: int) -> None:
        super().__init__()
        self.pipe = pipe
        self._formatter = logging.Formatter()

    @override
    def emit(self, record: logging.LogRecord) -> None:
        try:
            line: dict[str, Any] = {
                "level": record.levelno,
                "name": record.name[:200],
                "message": record.getMessage()[:_MESSAGE],
            }
            if record.exc_info and record.exc_info[0] is not None:
                line["exception"] = self._formatter.formatException(record.exc_info)[-_MESSAGE:]
            os.write(self.pipe, RECORD + orjson.dumps(line) + b"\n")
        except Exception:  # noqa: BLE001 - logging says what is wrong with a record, and goes on
            self.handleError(record)


def levels() -> dict[str, int]:
    """From which level up this process hears each logger that says so; the root's name is empty."""
    known = logging.root.manager.loggerDict
    named = {name: each.level for name, each in known.items() if isinstance(each, logging.Logger) and each.level}
    return {"": logging.root.level, **named}


def capture(pipe: int, heard: Mapping[str, int] | None = None) -> None:
    """From now on everything that this process says goes to `pipe`.

    Args:
        pipe: its descriptor, which stays open.
        heard: as `levels` of the process that reads it; None where it is set up already.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os.dup2(pipe, 1)
    os.dup2(pipe, 2)
    for stream in (sys.stdout, sys.stderr):
        # Line by line, or what was printed would be lost with the process.
        with suppress(AttributeError, ValueError):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    for handler in logging.root.handlers:
        if isinstance(handler, PipeHandler):
            handler.pipe = pipe
            break
    else:
        logging.root.addHandler(PipeHandler(pipe))
    for name, level in (heard or {}).items():
        logging.getLogger(name or None).setLevel(level)
