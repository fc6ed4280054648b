"""The example organisation, copied and served by `elf dev` in a process of its own, and a plain WebSocket client."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from elf_sdk.server.local import dev_issuer
from elf_sdk.settings import Settings
from elf_sdk.team.project import find_project

ROOT = Path(__file__).parents[2]
TEAMS = ("engineering-team", "executive-team", "marketing-brand-team", "marketing-team")


def copy_of_the_examples(place: Path) -> Path:
    """A project with the example teams, as they are but for the speed of their model."""
    project = place / "project"
    shutil.copytree(ROOT / "teams", project / "teams", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "elf.yaml", project)
    for script in project.glob("teams/*/offline.yaml"):
        edit(script, "delay: 12ms\n", "delay: 1ms\n")
    return project


def edit(file: Path, old: str, new: str) -> None:
    """Change a file in one place."""
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{file} holds {old!r} {text.count(old)} times"
    file.write_text(text.replace(old, new), encoding="utf-8")


def environment(home: Path, **variables: str) -> dict[str, str]:
    """The environment of a command that knows nothing of this machine's user."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ELF_", "JWT_", "CREWAI_")) and not name.endswith("_API_KEY")
    }
    return inherited | {"HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **variables}


@dataclass(frozen=True)
class Organisation:
    """Teams that `elf dev` serves."""

    project: Path
    address: str

    def url(self, team: str) -> str:
        return f"{self.address}/teams/{team}"

    def token(self, team: str, user: str = "ada") -> str:
        """What `elf token TEAM --user USER` prints, without the second that a process takes."""
        return dev_issuer(find_project(self.project), Settings()).user_token(user, team)

    def headers(self, team: str, user: str = "ada") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(team, user)}"}

    @asynccontextmanager
    async def chat(self, team: str, user: str = "ada") -> AsyncIterator[Chat]:
        """A session over a plain WebSocket, with the token in the address, as wscat has one."""
        address = f"{self.url(team).replace('http', 'ws', 1)}/chat?token={self.token(team, user)}"
        async with connect(address) as socket:
            chat = Chat(socket)
            chat.greeting = await chat.next()
            yield chat


@dataclass
class Turn:
    """What came back until an answer was complete."""

    text: str = ""
    pieces: int = 0
    tools: list[str] = field(default_factory=list)
    previews: list[Mapping[str, Any]] = field(default_factory=list)


class Chat:
    """Types, and reads frames."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.greeting: Mapping[str, Any] = {}

    async def next(self) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(await self._socket.recv())
        assert frame["type"] != "error", frame
        return frame

    async def type(self, text: str) -> None:
        await self._socket.send(text)

    async def say(self, text: str) -> Turn:
        await self.type(text)
        turn = Turn()
        while not (frame := await self.next()).get("done"):
            if frame["type"] == "message":
                turn.text += frame["delta"]
                turn.pieces += 1
            elif frame["type"] == "delegation_preview":
                turn.previews.append(frame)
            elif frame["type"] == "status" and frame["state"] == "tool":
                turn.tools.append(frame["detail"])
        return turn

    async def delegated(self) -> str:
        """The result of the delegation that was confirmed last."""
        while "result" not in (frame := await self.next()):
            assert frame["type"] == "delegation_update", frame
            assert frame["state"] not in {"failed", "cancelled"}, frame
        return str(frame["result"])


@contextmanager
def served(project: Path, **variables: str) -> Iterator[Organisation]:
    """`elf dev` of a project on a free port, for as long as the block runs."""
    command = [sys.executable, "-m", "elf_sdk", "dev", "--port", "0", "--no-reload"]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command,
            cwd=project,
            env=environment(project, **variables),
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if found := re.search(r"serves .* on (http://[\d.]+:\d+)", line):
                    yield Organisation(project, found[1])
                    break
            else:
                said.seek(0)
                raise AssertionError(f"elf dev did not serve: {said.read()}")
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
        said.seek(0)
        assert "Traceback" not in (told := said.read()), told
