"""Programs: run with every line told, asked something short, or read from."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Final, NoReturn

from elf_sdk.errors import Failure

__all__ = ["Done", "Tell", "asked", "last_line", "output", "run"]

Tell = Callable[[str], None]
"""Called with every line that a program prints."""

_HOUR: Final = 3600
_KEPT_LINES: Final = 15


@dataclass(frozen=True, slots=True)
class Done:
    """How a program ended.

    Attributes:
        code: its exit code; 127 where it did not start.
        lines: the last ones that it printed.
    """

    code: int
    lines: tuple[str, ...]


def run(command: Sequence[str], tell: Tell, environment: Mapping[str, str]) -> Done:
    """Run `command` to its end, within an hour; `environment` is added to this process's own.

    SIGTERM, with which pipelines stop a job, ends it too: a builder has no parent to miss, and would build on.
    """
    lines: deque[str] = deque(maxlen=_KEPT_LINES)
    try:
        process = subprocess.Popen(  # noqa: S603 - the builder that was chosen, the arguments are ours
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, **environment},
        )
    except OSError as error:
        return Done(127, (f"{command[0]}: {error.strerror}",))
    late = threading.Timer(_HOUR, process.kill)
    late.start()
    try:
        with process, _ended_with_this(process):
            for line in process.stdout or ():
                if line.strip():
                    lines.append(line.rstrip())
                    tell(line.rstrip())
    finally:
        late.cancel()
    return Done(process.returncode, tuple(lines))


@contextmanager
def _ended_with_this(process: subprocess.Popen[str]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main one may ask for signals
        return

    def end(number: int, _: FrameType | None) -> NoReturn:
        process.terminate()
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def asked(command: Sequence[str]) -> str | None:
    """What a program answers to a short question; None where it is not there, fails, or takes over two minutes."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed questions to a builder, git or pip
            command, capture_output=True, text=True, timeout=120, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def output(command: Sequence[str]) -> bytes:
    """What a program writes to its standard output.

    Raises:
        Failure: it fails; the message has its last line.
    """
    try:
        done = subprocess.run(  # noqa: S603 - as above
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=300, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure(f"{command[0]} does not answer: {error}") from None
    if done.returncode:
        raise Failure(f"{' '.join(command[:2])} failed: {last_line(done.stderr.decode(errors='replace').splitlines())}")
    return done.stdout


def last_line(lines: Sequence[str]) -> str:
    """The last line that says something; empty where none does."""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
