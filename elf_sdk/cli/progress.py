"""What a command shows while it works."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Final

import click

__all__ = ["Progress"]

_SECONDS_BETWEEN_LINES: Final = 5


class Progress:
    """Shown only when the work takes over a second: a bar on a terminal, elsewhere a line now and then.

    Args:
        label: what is being done, such as `proving charts`.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._started = time.monotonic()
        self._said = self._started
        self._bar: Any = None
        self._done = 0
        self._close: Callable[[], None] = lambda: None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def __call__(self, done: int, total: int, about: str) -> None:
        """What is done, of how much, and what it is about."""
        now = time.monotonic()
        if now - self._started < 1:
            return
        if sys.stderr.isatty():
            if self._bar is None:
                self._bar = click.progressbar(length=total, label=self._label, file=sys.stderr)
                self._bar.__enter__()
                self._close = lambda: self._bar.__exit__(None, None, None)
            self._bar.update(done - self._done)
            self._done = done
        elif now - self._said >= _SECONDS_BETWEEN_LINES:
            self._said = now
            click.echo(f"{self._label}: {done} of {total}", err=True)
