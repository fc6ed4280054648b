"""What came of teams the last time, so that what stays as it is need not be made to be known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from elf_sdk.cache import Cache

__all__ = ["Memory", "Remembered"]


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a team came to in an environment.

    Attributes:
        key: a digest of all that it was made from.
        ids: the git id of each of its places.
        warnings: as of its directory.
    """

    key: str
    ids: Mapping[str, str]
    warnings: tuple[str, ...]


class Memory:
    """By place of the team's directory. It may be lost at any time, and is then made anew.

    Args:
        cache: where it is kept.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def recall(self, place: str, key: str) -> Remembered | None:
        """What came of it, if it was made from the same."""
        known = self._cache.get(place)
        if known is None or known["key"] != key:
            return None
        return Remembered(key, known["ids"], tuple(known["warnings"]))

    def remember(self, place: str, made: Remembered) -> None:
        """Keep what came of it."""
        self._cache.put(place, {"key": made.key, "ids": dict(made.ids), "warnings": list(made.warnings)})
