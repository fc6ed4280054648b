"""Where a team's own code stands: the deepest of its author's lines, for people."""

from __future__ import annotations

import asyncio
import gc
import inspect
import itertools
import re
import sys
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any, Final

__all__ = ["chain", "dumped_place", "frame_place", "present_place", "raised_place", "task_place"]

_DUMPED: Final = re.compile(r'^  File "(.*)", line (\d+) in ', re.MULTILINE)
_DEPTH: Final = 1000
"""Frames, or awaits, that are looked through."""


def chain(error: BaseException) -> Iterator[BaseException]:
    """`error`, then the errors that it is a group of, then what it was raised from or meanwhile; each of them once."""
    seen: set[int] = set()
    left = [error]
    while left:
        link = left.pop()
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        if (behind := link.__cause__ or link.__context__) is not None:
            left.append(behind)
        if isinstance(link, BaseExceptionGroup):
            left.extend(reversed(link.exceptions))


def raised_place(error: BaseException) -> str:
    """Where `error` was raised or passed through: `crew.py, line 12`, or nothing.

    Of a group it is the place of its first error. What says nothing itself was raised from another error, which does.
    """
    members = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    places = (_traced_place(link) for link in itertools.chain(members, itertools.islice(chain(error), _DEPTH)))
    return next(filter(None, places), "")


def _traced_place(error: BaseException) -> str:
    found = ""
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if _is_authors(file):
            found = _written(file, trace.tb_lineno)
        trace = trace.tb_next
    return found


def frame_place(frame: FrameType | None) -> str:
    """The author's line that called what runs in `frame`, or nothing."""
    for _ in range(_DEPTH):
        if frame is None:
            break
        if _is_authors(frame.f_code.co_filename):
            return _written(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return ""


def present_place() -> str:
    """Where this process works at present: in a thread, or in a task of the running loop. To be called in the loop."""
    frames = sys._current_frames()
    loop_thread = threading.get_ident()
    for ident, frame in frames.items():
        if ident != loop_thread and (place := frame_place(frame)):
            return place
    here = asyncio.current_task()
    for task in asyncio.all_tasks():
        if task is not here and (place := task_place(task)):
            return place
    return ""


def task_place(task: asyncio.Task[Any]) -> str:
    """Where a task that waits was left, or nothing."""
    found = ""
    for frame, _ in zip(_awaits(task.get_coro()), range(_DEPTH), strict=False):
        if _is_authors(frame.f_code.co_filename):
            found = _written(frame.f_code.co_filename, frame.f_lineno)
    return found


def dumped_place(dump: str) -> str:
    """The first of the author's lines in what faulthandler wrote, or nothing."""
    for file, line in _DUMPED.findall(dump):
        if _is_authors(file):
            return _written(file, int(line))
    return ""


def _awaits(awaited: Any) -> Iterator[FrameType]:
    """The frames of what waits, and of what it waits for in turn, from the outside in."""
    while awaited is not None:
        if inspect.iscoroutine(awaited):
            frame, inner = awaited.cr_frame, awaited.cr_await
        elif inspect.isasyncgen(awaited):
            frame, inner = awaited.ag_frame, awaited.ag_await
        elif inspect.isgenerator(awaited):
            frame, inner = awaited.gi_frame, awaited.gi_yieldfrom
        else:
            # The step of an async generator does not say whose it is.
            awaited = next((each for each in gc.get_referents(awaited) if inspect.isasyncgen(each)), None)
            continue
        if frame is not None:
            yield frame
        awaited = inner


def _is_authors(file: str) -> bool:
    # Neither installed packages, nor Python's own, nor ELF.
    return (
        "site-packages" not in file
        and "/elf_sdk/" not in file
        and "/lib/python" not in file
        and not file.startswith("<")
    )


def _written(file: str, line: int) -> str:
    return f"{file.rpartition('/')[2]}, line {line}"
