"""A team's server as a process of its own, to be killed and started again."""

from __future__ import annotations

import os
import re
import secrets
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from elf_sdk.errors import BadInput, Failure
from elf_sdk.runs.events import Event, decode
from elf_sdk.server.auth import Issuer
from elf_sdk.server.team_server import TeamServer
from elf_sdk.settings import Settings
from elf_sdk.team.load import load_team

__all__ = ["TeamProcess", "alive", "family", "write_team"]

_ADDRESS: Final = re.compile(r"http://127\.0\.0\.1:\d+")


def write_team(team: type[TeamServer], spec: Mapping[str, Any], directory: Path) -> Path:
    """Write a team.yaml with `spec`, and a team.py with a subclass of `team`; the directory, which is made.

    Raises:
        BadInput: the class is not at the top level of a module, so no other process can import it.
    """
    if "." in team.__qualname__ or team.__module__ == "__main__":
        raise BadInput(f"{team.__qualname__} is not at the top level of a module; another process cannot import it")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "team.yaml").write_text(yaml.safe_dump(dict(spec), sort_keys=False), encoding="utf-8")
    (directory / "team.py").write_text(
        f"import {team.__module__}\n\n\nclass Team({team.__module__}.{team.__qualname__}):\n    pass\n",
        encoding="utf-8",
    )
    return directory


class TeamProcess:
    """One process that serves a team, as `elf serve` does in a container.

    Its standard input is a pipe that stays open and says nothing, as under a terminal that nobody types into.

    Args:
        team: the directory with team.yaml and team.py.
        place: the directory for the database and what the process prints.
        environ: further variables; those of ELF itself are not passed on from here.

    Attributes:
        name: of the team.
        url: its address since the last start, without a trailing slash.
    """

    def __init__(self, team: Path, place: Path, environ: Mapping[str, str] | None = None) -> None:
        self.name = load_team(team).name
        self.url = ""
        self._directory = team
        self._secret = secrets.token_urlsafe(48)
        own = {name: value for name, value in os.environ.items() if not name.startswith(("ELF_", "JWT_", "SUPABASE_"))}
        self._environ = {
            **own,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "ELF_STORE": str(place / "elf.db"),
            "JWT_SECRET_KEY": self._secret,
            **(environ or {}),
        }
        self._log = place / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process that was started last.

        Raises:
            Failure: none was.
        """
        if self._process is None:
            raise Failure(f"the process of {self.name} was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def output(self) -> str:
        """What it wrote so far, in all its lives."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    def token(self, user: str) -> str:
        """With which `user` may talk to the team."""
        settings = Settings()
        return Issuer(self._secret, settings.organisation, settings.environment).user_token(user, self.name)

    def start(self, within: float = 60) -> None:
        """Start it on a free port, and wait until it is ready.

        Raises:
            Failure: it did not get ready within so many seconds; the message holds what it wrote.
        """
        begin = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "elf_sdk", "serve", "--port", "0"],
                cwd=self._directory,
                env=self._environ,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        until = time.monotonic() + within
        while True:
            with self._log.open("rb") as log:
                log.seek(begin)
                found = _ADDRESS.search(log.read().decode(errors="replace"))
            if found and _answers(f"{found[0]}/readyz"):
                self.url = found[0]
                return
            if self._process.poll() is not None or time.monotonic() > until:
                self.close()
                raise Failure(f"the server of {self.name} did not get ready: {self.output}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End it at once, as a machine that loses its power does."""
        if self._process is not None:
            self._process.kill()
            self._ended()

    def stop(self, within: float = 30) -> int:
        """Ask it to stop, as a cluster does, and wait; its exit code.

        Raises:
            Failure: it went on for longer than so many seconds.
        """
        if self._process is None:
            raise Failure(f"the process of {self.name} was not started")
        self._process.terminate()
        try:
            return self._ended(within)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failure(f"the server of {self.name} did not stop within {within:g} s: {self.output}") from None

    def close(self) -> None:
        """End it if it is still there."""
        if self.running:
            self.kill()

    async def capabilities(self) -> Mapping[str, Any]:
        """What `/capabilities` says of the adapter."""
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"{self.url}/capabilities")
        found: Mapping[str, Any] = answer.raise_for_status().json()["adapter"]
        return found

    def events(self, run_id: str) -> list[Event]:
        """The log of a run as its database has it now, in order.

        Raises:
            Failure: there is a gap in its numbers.
        """
        query = "SELECT seq, kind, CAST(data AS TEXT) FROM events WHERE run_id = {} ORDER BY seq"
        url = self._environ.get("ELF_DATABASE_URL")
        if url:
            import psycopg  # an extra

            with psycopg.connect(url) as connection:
                rows = connection.execute(query.format("%s").encode(), (run_id,)).fetchall()
        else:
            with closing(sqlite3.connect(f"file:{self._environ['ELF_STORE']}?mode=ro", uri=True)) as file:
                rows = file.execute(query.format("?"), (run_id,)).fetchall()
        if [seq for seq, _, _ in rows] != list(range(1, len(rows) + 1)):
            raise Failure(f"the log of the run {run_id} has gaps: {[seq for seq, _, _ in rows]}")
        return [decode(kind, data) for _, kind, data in rows]

    def _ended(self, within: float | None = None) -> int:
        if self._process is None:
            return 0
        code = self._process.wait(within)
        if self._process.stdin is not None:
            self._process.stdin.close()
        return code


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def family(pid: int) -> set[int]:
    """The processes that descend from `pid`, as the system lists them now."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], check=True, capture_output=True, text=True)  # noqa: S607
    parents = {int(child): int(parent) for child, parent in map(str.split, listed.stdout.splitlines())}
    found: set[int] = set()
    last = {pid}
    while last:
        last = {child for child, parent in parents.items() if parent in last} - found
        found |= last
    return found


def alive(pids: set[int]) -> set[int]:
    """Those of the processes that still run; one that has ended and was not waited for does not."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,stat="], check=True, capture_output=True, text=True)  # noqa: S607
    states = {int(pid): state for pid, state in map(str.split, listed.stdout.splitlines())}
    return {pid for pid in pids if not states.get(pid, "Z").startswith("Z")}
