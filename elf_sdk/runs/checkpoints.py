"""What an adapter keeps of a run, so that it can go on with it after a person has answered or a process has died."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

__all__ = ["Checkpoints", "MemoryCheckpoints"]


class Checkpoints(Protocol):
    """Bytes by key, for one run. What is saved is durable when `save` returns, and goes with the run.

    Only who holds the run may save: what a process saves that has lost the run is refused.
    """

    async def load(self, prefix: str = "") -> dict[str, bytes]:
        """All entries whose key begins with `prefix`, by key, in the keys' order."""
        ...

    async def save(self, entries: Mapping[str, bytes | None]) -> None:
        """Keep these entries, all or none, in the place of those with the same keys; None forgets what was there.

        Raises:
            Conflict: somebody else holds the run.
            Retryable: the database is away.
        """
        ...


class MemoryCheckpoints:
    """Checkpoints that are lost with their process."""

    def __init__(self) -> None:
        self._entries: dict[str, bytes] = {}

    async def load(self, prefix: str = "") -> dict[str, bytes]:
        """As `Checkpoints.load`."""
        return {key: self._entries[key] for key in sorted(self._entries) if key.startswith(prefix)}

    async def save(self, entries: Mapping[str, bytes | None]) -> None:
        """As `Checkpoints.save`."""
        for key, value in entries.items():
            if value is None:
                self._entries.pop(key, None)
            else:
                self._entries[key] = value
