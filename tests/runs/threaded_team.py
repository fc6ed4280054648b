"""A team that leaves a thread and its lock behind when it is loaded, which no fork survives."""

from __future__ import annotations

import threading
import time

from elf_sdk.runs.adapter import RunContext
from tests.runs.blocking_team import SLEEPS, Calling

__all__ = ["LOCKS", "SLEEPS"]

_HELD = threading.Lock()
_BEGUN = threading.Event()


def _hold() -> None:
    while True:
        with _HELD:
            _BEGUN.set()
            time.sleep(0.05)
        time.sleep(0.001)


threading.Thread(target=_hold, daemon=True).start()
_BEGUN.wait()


def locks(ctx: RunContext) -> str:
    # In a copy of this process the thread that gives it back would not be there.
    with _HELD:
        return ctx.text


LOCKS = Calling(locks)
