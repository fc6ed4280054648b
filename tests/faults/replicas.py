"""Replicas of a team as processes of their own, to be killed, paused and started again."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt

from elf_sdk.server.auth import audience
from tests.faults.work import EFFECTS, TEAM, write_team

__all__ = ["Replica", "Site", "serving", "until", "user_token"]

ROOT = Path(__file__).parents[2]
SECRET = "only for these tests, and long enough for HS256"


def user_token(user: str = "ada", *, lifetime: float = 7200) -> str:
    """A token that is valid from an hour ago, whatever a replica's clock says."""
    now = int(time.time())
    claims = {
        "iss": "elf:elf:dev",
        "aud": audience("elf", "dev", TEAM),
        "team_id": TEAM,
        "sub": f"user:{user}",
        "user_id": user,
        "roles": ["user"],
        "iat": now - 3600,
        "exp": now + int(lifetime),
        "jti": user,
    }
    return jwt.encode(claims, SECRET, algorithm="HS256")


class Replica:
    """One process that serves the team, on the same port each time that it is started.

    Args:
        directory: of the team.
        environ: what it is told.
        log: where it writes.

    Attributes:
        url: its address.
        ready_at: monotonic seconds when it was last seen to become ready.
    """

    def __init__(self, directory: Path, environ: Mapping[str, str], log: Path) -> None:
        self._directory = directory
        self._environ = environ
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._port = _free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.ready_at = 0.0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "elf_sdk", "serve", "--port", str(self._port)],
                cwd=self._directory,
                env=dict(self._environ),
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    async def ready(self, within: float = 60) -> None:
        """Wait until it serves."""
        until = time.monotonic() + within
        async with httpx.AsyncClient() as client:
            while True:
                assert self._process is not None
                assert self._process.poll() is None, self.output
                try:
                    if (await client.get(f"{self.url}/readyz", timeout=5)).status_code == 200:
                        break
                except httpx.HTTPError:
                    pass
                assert time.monotonic() < until, self.output
                await asyncio.sleep(0.05)
        self.ready_at = time.monotonic()

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """As a machine that goes dark."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    async def stop(self, within: float = 60) -> int:
        """As a rollout does; its exit code."""
        self.send(signal.SIGTERM)
        assert self._process is not None
        return await asyncio.to_thread(self._process.wait, within)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    async def checks(self) -> dict[str, str]:
        """What `/health` says in detail."""
        async with httpx.AsyncClient() as client:
            body: dict[str, Any] = (await client.get(f"{self.url}/health", timeout=10)).json()
        checks: dict[str, str] = body["checks"]
        return checks

    @property
    def resident(self) -> int:
        """Bytes of memory."""
        fields = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    @property
    def output(self) -> str:
        """What it wrote so far."""
        return self._log.read_text(errors="replace")


class Site:
    """A team and its replicas.

    Attributes:
        replicas: all of them, started.
        effects: the file with the effects of their work.
        database: where their runs are.
    """

    def __init__(self, replicas: Sequence[Replica], effects: Path, database: str) -> None:
        self.replicas = replicas
        self.effects = effects
        self.database = database

    @property
    def urls(self) -> list[str]:
        return [replica.url for replica in self.replicas]

    @property
    def stood_still(self) -> bool:
        """Whether the machine was so busy that a replica came too late to renew its lease, which ends its work."""
        return any("was taken away" in replica.output for replica in self.replicas)

    async def ready(self) -> None:
        await asyncio.gather(*(replica.ready() for replica in self.replicas))


@asynccontextmanager
async def serving(
    directory: Path,
    *databases: str,
    recover: bool,
    paths: Sequence[Path | None] = (None, None),
    write: Callable[..., Path] = write_team,
) -> AsyncGenerator[Site, None]:
    """A team, served by as many replicas as there are `paths`, until the block ends.

    Args:
        directory: for all files.
        databases: URL of the database of each replica, or the one of all; none for a SQLite file.
        recover: whether its work can go on elsewhere.
        paths: what goes before all else on each replica's path to modules.
        write: makes the team of that name.
    """
    team = write(directory / "team", recover=recover)
    effects = directory / "effects"
    effects.touch()
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("ELF_", "JWT_", "SUPABASE_"))
    }
    replicas: list[Replica] = []
    for number, path in enumerate(paths):
        environ = {
            **inherited,
            "PYTHONPATH": os.pathsep.join(str(each) for each in (path, ROOT) if each),
            "HOME": str(directory),
            "ELF_STORE": str(directory / "elf.db"),
            "JWT_SECRET_KEY": SECRET,
            "ELF_DRAIN_SECONDS": "25",
            EFFECTS: str(effects),
        }
        if databases:
            environ["ELF_DATABASE_URL"] = databases[number % len(databases)]
        replicas.append(Replica(team, environ, directory / f"replica{number}.log"))
    site = Site(replicas, effects, databases[0] if databases else "")
    try:
        for replica in replicas:
            replica.start()
        await site.ready()
        yield site
    finally:
        for replica in replicas:
            replica.close()


async def until(done: Callable[[], bool], within: float = 20) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(within):
        while not done():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)


def _free_port() -> int:
    # Below those that the system gives to connections, one of which would keep a replica from coming back.
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
