"""Tools for an agent under test: what well-behaved ones do, and what others do.

Plain functions with a docstring and annotations, which any framework makes a tool of. The suite's model calls one of
them when it is told to `use` it: `use lookup {"topic": "lamps"}`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

__all__ = ["ASYNC_TOOLS", "TOOLS", "asked_for", "request"]

_LONGEST: Final = 60.0
_BEAT: Final = 0.02


def lookup(topic: str) -> str:
    """Look up how much is known about a topic."""
    return f"{topic}: 42"


def beat(file: str) -> str:
    """Write to a file over and over, for a minute or until it is taken away."""
    until = time.monotonic() + _LONGEST
    while time.monotonic() < until and _beaten(file):
        time.sleep(_BEAT)
    return "done"


def fail(reason: str) -> str:
    """Fail for a reason."""
    raise ValueError(reason)


def talk(text: str) -> str:
    """Print a text to where the process prints."""
    print(text, flush=True)  # noqa: T201 - what it is for
    print(text, file=sys.stderr, flush=True)  # noqa: T201
    return "printed"


def listen(prompt: str) -> str:
    """Read a line from the standard input."""
    return f"{prompt}: {sys.stdin.readline()!r}"


def leave(code: int) -> str:
    """Exit, as a script does at its end."""
    sys.exit(code)


def vanish(code: int) -> str:
    """End the process at once, as a crash in native code does."""
    os._exit(code)


def fork(file: str) -> str:
    """Leave a process behind that writes to a file over and over."""
    if os.fork() == 0:
        beat(file)
        os._exit(0)
    return "forked"


class _Coroutines:
    """The same, for programs without synchronous code."""

    @staticmethod
    async def lookup(topic: str) -> str:
        """Look up how much is known about a topic."""
        return lookup(topic)

    @staticmethod
    async def beat(file: str) -> str:
        """Write to a file over and over, for a minute or until it is taken away."""
        until = time.monotonic() + _LONGEST
        while time.monotonic() < until and _beaten(file):  # noqa: ASYNC110 - it works
            await asyncio.sleep(_BEAT)
        return "done"

    @staticmethod
    async def fail(reason: str) -> str:
        """Fail for a reason."""
        return fail(reason)


def _beaten(file: str) -> bool:
    """Add a line with the process's id, unless the file was taken away."""
    path = Path(file)
    if not path.exists():
        return False
    with path.open("a", encoding="ascii") as lines:
        lines.write(f"{os.getpid()}\n")
    return True


TOOLS: Final[tuple[Callable[..., str], ...]] = (lookup, beat, fail, talk, listen, leave, vanish, fork)
"""The tools as plain functions."""

ASYNC_TOOLS: Final[tuple[Callable[..., Any], ...]] = (
    _Coroutines.lookup,
    _Coroutines.beat,
    _Coroutines.fail,
)
"""Some of them as coroutines."""


def request(name: str, **arguments: Any) -> str:
    """What to say so that the tool `name` is used."""
    return f"use {name} {json.dumps(arguments)}"


def asked_for(text: str) -> tuple[str, dict[str, Any]] | None:
    """The tool and the arguments that a text asks for, for programs whose model calls no tools; or None."""
    found = re.search(r"\buse (\w+) (\{.*\})", text)
    return (found[1], json.loads(found[2])) if found else None
