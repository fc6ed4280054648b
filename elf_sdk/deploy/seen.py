"""Whether charts are still as they were written, without making them anew and without reading them.

For each team a cache holds the key of what its chart was made from, the digest of its files, and how their directory
entries looked while their content was known: size, times of content and of status, inode. The time of status (ctime)
is the kernel's own: whoever writes a file, or puts another in its place, moves it on, and no call sets it back. What
it cannot tell apart are two writes within one tick of the file system's clock, so an entry counts only if its times
were past by more than that; a younger one is read the next time. Git's index works the same way ("racy git").
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from elf_sdk.cache import Cache, digest_of
from elf_sdk.deploy.manifest import Charted
from elf_sdk.files import read_file

__all__ = ["Entries", "Seen", "file_clock"]

_SECOND: Final = 1_000_000_000
_FINE_TICK: Final = _SECOND // 10
"""Of a file system that counts parts of a second: ten times what kernels take."""
_COARSE_TICK: Final = 3 * _SECOND
"""Of one that counts whole seconds, or every second one."""


def file_clock(directory: Path) -> int:
    """Now, in nanoseconds, as the file system of `directory` writes it; 0 where that cannot be asked."""
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            return os.fstat(file.fileno()).st_ctime_ns
    except OSError:
        return 0


@dataclass(frozen=True, slots=True)
class Entries:
    """What is in a directory of charts.

    Attributes:
        status: of every entry that is no directory, by path.
        by_team: paths by team.
        at: when it was looked at, by `file_clock`.
    """

    status: Mapping[str, os.stat_result]
    by_team: Mapping[str, Sequence[str]]
    at: int

    def looks(self, team: str, known_at: int) -> str:
        """A digest of how the team's entries look; empty where one is too young for that to prove anything.

        Args:
            team: whose entries.
            known_at: until when, by `file_clock`, their content was certain.
        """
        parts: list[str] = []
        for path in sorted(self.by_team.get(team, ())):
            it = self.status[path]
            tick = _FINE_TICK if it.st_ctime_ns % _SECOND else _COARSE_TICK
            if it.st_ctime_ns + tick > self.at or it.st_mtime_ns + tick > known_at:
                return ""
            parts.append(f"{path}\0{it.st_size} {it.st_mtime_ns} {it.st_ctime_ns} {it.st_ino} {it.st_mode}")
        return digest_of(*parts)


class Seen:
    """What is remembered of the charts in one directory.

    Args:
        output: the directory.
        cache: where it is remembered, by team.
        entries: what is there.
    """

    def __init__(self, output: Path, cache: Cache, entries: Entries) -> None:
        self._output, self._cache, self._entries = output, cache, entries
        self._made: dict[str, tuple[str, str, Sequence[str]]] = {}

    def unchanged(self, team: str, key: str, written: Charted) -> tuple[str, ...] | None:
        """The warnings of the team's chart, if what would be made is what is there; otherwise None.

        Args:
            team: whose chart.
            key: of what the chart would be made from.
            written: what the list in the directory says of it.
        """
        known = self._cache.get(team)
        if known is None or known["key"] != key or known["sha256"] != written.sha256:
            return None
        looks = self._entries.looks(team, self._entries.at)
        if not (looks and looks == known["looks"]) and not self._holds(team, written):
            return None
        self._made[team] = (key, written.sha256, known["warnings"])
        return tuple(known["warnings"])

    def _holds(self, team: str, written: Charted) -> bool:
        if set(written.files) != set(self._entries.by_team.get(team, ())):
            return False
        digest = hashlib.sha256()
        for path in written.files:
            content = read_file(self._output, path)
            if content is None:
                return False
            digest.update(f"{path}\0{len(content)}\0".encode())
            digest.update(content)
        return digest.hexdigest() == written.sha256

    def made(self, team: str, key: str, sha256: str, warnings: Sequence[str]) -> None:
        """Note that from `key` comes a chart with this digest and these warnings, and that it is there."""
        self._made[team] = (key, sha256, warnings)

    def remember(self, now: Entries | None = None, fresh: Collection[str] = (), swapped_at: int = 0) -> None:
        """Remember how the charts look.

        Args:
            now: what is there after a swap; without one, what was there all the time.
            fresh: the teams whose charts were written.
            swapped_at: until when their content was certain, by `file_clock`.
        """
        for team, (key, sha256, warnings) in self._made.items():
            if now is None:
                looks = self._entries.looks(team, self._entries.at)
            elif team in fresh:
                looks = now.looks(team, swapped_at)
            else:
                # Links were made and taken away, which moves the time of status; the rest has to be as it was.
                looks = now.looks(team, self._entries.at) if self._same(team, now) else ""
            self._cache.put(team, {"key": key, "sha256": sha256, "looks": looks, "warnings": list(warnings)})

    def _same(self, team: str, now: Entries) -> bool:
        def identity(entries: Entries) -> list[tuple[str, int, int, int]]:
            paths = sorted(entries.by_team.get(team, ()))
            status = entries.status
            return [(path, status[path].st_size, status[path].st_mtime_ns, status[path].st_ino) for path in paths]

        return identity(self._entries) == identity(now)
