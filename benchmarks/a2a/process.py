"""Servers as processes, each on one core, and what they spend."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from elf_sdk.server.auth import Issuer

__all__ = ["SECRET", "cores", "cpu_seconds", "served", "token"]

SECRET: Final = "only-for-this-benchmark-" + "x" * 16
_ROOT: Final = Path(__file__).parents[2]


def cores() -> tuple[int, int]:
    """The server's, and everybody else's; the same where there is only one. This process goes to the second."""
    if not hasattr(os, "sched_setaffinity"):
        return -1, -1
    found = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {found[-1]})
    return found[0], found[-1]


def token(team: str) -> str:
    """With which a person may talk to the team."""
    return Issuer(SECRET, "elf", "dev").user_token("bench", team)


@contextmanager
def served(
    name: str, core: int, environ: Mapping[str, str] | None = None, profile: str = ""
) -> Iterator[tuple[int, int]]:
    """Port and process id of a server, for as long as the block runs.

    Args:
        name: one of `servers.SERVERS`.
        core: to run on; -1 for any.
        environ: beside the secret, all that it is told; by default that it keeps runs in memory.
        profile: where to write what cProfile saw; empty for nowhere.
    """
    command = [sys.executable, "-m", "benchmarks.a2a.servers", name, "--core", str(core), "--profile", profile]
    told = {
        "PATH": os.environ["PATH"],
        "JWT_SECRET_KEY": SECRET,
        "ELF_STORE": ":memory:",
        # No model is asked anything.
        "ELF_OFFLINE_URL": "http://127.0.0.1:9",
        **(environ or {}),
    }
    with subprocess.Popen(
        command, cwd=_ROOT, env=told, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        try:
            port = server.stdout.readline()
            if not port:
                raise SystemExit(f"{' '.join(command)} did not start")
            yield int(port), server.pid
        finally:
            server.stdin.close()
            server.wait(30)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far; not a number where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
