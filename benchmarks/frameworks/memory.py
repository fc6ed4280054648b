"""What processes hold in memory, as Linux counts it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from elf_sdk.testing.process import family

__all__ = ["Memory", "memory_of", "processes"]


@dataclass(frozen=True, slots=True)
class Memory:
    """Of one process, in MB.

    Attributes:
        rss: all that is resident, also what other processes have too.
        pss: what it has alone, and its share of what it has with others: the sum over processes is what they take.
        private: what it has alone.
    """

    rss: float
    pss: float
    private: float


def memory_of(pid: int) -> Memory | None:
    """Of one process; None where it is gone, or the system is not Linux."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return None
    kilobytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    private = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
    return Memory(*(1024 * value / 1e6 for value in (kilobytes["Rss"], kilobytes["Pss"], private)))


def processes(server: int) -> tuple[int, list[int]]:
    """The fork server of a team's server process, 0 where there is none, and the workers that came from it."""
    children = family(server)
    parents = {pid: _parent(pid) for pid in children}
    forks = [pid for pid, parent in parents.items() if parent == server]
    if not forks:
        return 0, []
    return forks[0], [pid for pid, parent in parents.items() if parent == forks[0]]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[1])
    except OSError:
        return os.getpid()
