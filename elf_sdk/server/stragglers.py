"""Threads of the team's code that do not end when the server does."""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import Final

from elf_sdk.runs.places import frame_place

__all__ = ["end_without_threads"]

log = logging.getLogger("elf.server")

_LATE: Final = 3.0
"""Seconds that threads get, when all runs have ended and nothing is served any more."""


def end_without_threads(code: int = 0) -> threading.Timer:
    """End this process in a moment, though threads go on that Python would wait for without end.

    Args:
        code: to end with.

    Returns:
        What does it, to be cancelled when there was nothing to wait for.
    """
    timer = threading.Timer(_LATE, _end, (code,))
    timer.daemon = True
    timer.start()
    return timer


def _end(code: int) -> None:
    own = {threading.get_ident(), threading.main_thread().ident}
    places = {frame_place(frame) for ident, frame in sys._current_frames().items() if ident not in own} - {""}
    log.warning(
        "the process ends without waiting for its threads, which the team's code has left at work%s",
        f" (at {', '.join(sorted(places))})" if places else "",
    )
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
