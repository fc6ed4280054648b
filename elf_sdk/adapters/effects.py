"""Keys for what a run does to the world, the same when the work is repeated after a crash."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

from elf_sdk.errors import BadInput

__all__ = ["Effects", "Place", "current_effects", "effect_key"]

Place = Callable[[], tuple[str, int]]
"""Where in the work the caller is, the same after a crash, and in which attempt at it, from 1."""


def _nowhere() -> tuple[str, int]:
    return "", 1


class Effects:
    """Counts the effects of one run, at each place of the work apart.

    Args:
        run: its id.
        place: as the framework knows it, such as a graph's node at a checkpoint; by default the run is one place.
    """

    def __init__(self, run: str, place: Place = _nowhere) -> None:
        self._run = run
        self._place = place
        self._lock = threading.Lock()
        self._counted: Counter[tuple[str, int]] = Counter()

    def key(self) -> str:
        """The key of the next effect: the run, the place and the effect's number there."""
        place, attempt = self._place()
        with self._lock:
            self._counted[place, attempt] += 1
            number = self._counted[place, attempt]
        if not place:
            return f"{self._run}-{number}"
        return f"{self._run}-{hashlib.sha256(place.encode()).hexdigest()[:12]}-{number}"


current_effects: Final[ContextVar[Effects | None]] = ContextVar("current_effects", default=None)
"""Of the run that the code which executes now works for."""


def effect_key() -> str:
    """A key for the next thing that a tool does to the world, such as an `Idempotency-Key` of a payment.

    When a run goes on after a crash, what is repeated gets the keys that it had: the key is made of the run, the
    graph's node and checkpoint, and the number of the effect there. Call it once for each effect, in a fixed order.

    Raises:
        BadInput: no run of a team is under way here.
    """
    effects = current_effects.get()
    if effects is None:
        raise BadInput("effect_key() was called outside of a run; call it in a tool, a node or the team's function")
    return effects.key()
