"""Two teams that are really served, and a client that speaks plain WebSocket."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from elf_sdk.runs.adapter import Adapter
from elf_sdk.runs.events import DelegationProposed, TextDelta
from elf_sdk.server.team_server import TeamServer
from elf_sdk.settings import Settings
from elf_sdk.team.spec import TeamSpec
from elf_sdk.testing import ScriptedAdapter, Served

PROPOSAL = DelegationProposed(
    proposal_id="p1",
    target="worker",
    title="Write it",
    description="All of it.",
    requirements=("short",),
    deadline="Friday",
    success_criteria=("it is read",),
)


@pytest.fixture
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """SQLite, or what a test asks for by `both_stores`."""
    url = request.getfixturevalue("database") if getattr(request, "param", "") == "postgres" else ""
    return Settings(store=str(tmp_path / "elf.db"), database_url=url)


both_stores = pytest.mark.parametrize("settings", ["sqlite", "postgres"], indirect=True)


def team(name: str, adapter: Adapter, base: type[TeamServer] = TeamServer, **fields: Any) -> TeamServer:
    """A team with one member and an adapter."""
    members = [{"role": "Head", "is_manager": True}, {"role": "Hand"}]
    cls = type("Team", (base,), {"adapter": adapter})
    server: TeamServer = cls(TeamSpec(name=name, members=members, **fields))
    return server


def boss(scripts: dict[str, Any] | None = None, base: type[TeamServer] = TeamServer, **fields: Any) -> TeamServer:
    """The team that people talk to; `delegate` makes it propose work to `worker`."""
    script = {"delegate": (TextDelta("I propose."), PROPOSAL), **(scripts or {})}
    return team("boss", ScriptedAdapter(script), base, manages=["worker"], **fields)


def worker(scripts: dict[str, Any] | None = None) -> TeamServer:
    """The team that does it."""
    adapter = ScriptedAdapter(scripts or {"*": (TextDelta("Here "), TextDelta("it is."))})
    return team("worker", adapter, display_name="The Worker", reports_to="boss")


def scripted(server: TeamServer) -> ScriptedAdapter:
    """The adapter of a team of this file."""
    assert isinstance(server.adapter, ScriptedAdapter)
    return server.adapter


class Client:
    """A plain WebSocket client of the simple frames."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.seen: list[dict[str, Any]] = []

    async def send(self, frame: dict[str, Any] | str) -> None:
        await self.socket.send(frame if isinstance(frame, str) else json.dumps(frame))

    async def receive(self) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(await self.socket.recv())
        self.seen.append(frame)
        return frame

    async def until(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The next frame of a kind with these fields; what comes before stays in `seen`."""
        while True:
            frame = await self.receive()
            if frame["type"] == kind and all(frame.get(name) == value for name, value in fields.items()):
                return frame

    async def ask(self, text: str) -> str:
        """Send a message; the whole answer to it."""
        await self.send(text)
        start = len(self.seen)
        await self.until("message", done=True)
        return "".join(frame["delta"] for frame in self.seen[start:] if frame["type"] == "message")

    async def closed(self) -> tuple[int, str]:
        """Closing code and reason, once the server has closed."""
        with suppress(ConnectionClosed):
            while True:
                await self.receive()
        frame = self.socket.protocol.close_rcvd
        assert frame is not None, "the server closed the connection without a word"
        return frame.code, frame.reason


@asynccontextmanager
async def chat(
    served: Served, name: str = "boss", user: str = "ada", *, query: str = "", **options: Any
) -> AsyncIterator[Client]:
    """A chat of `user` with a team; `query` replaces the Authorization header."""
    headers = {} if query or "subprotocols" in options else served.headers(user, name)
    headers |= options.pop("headers", {})
    url = f"{served.url(name).replace('http', 'ws', 1)}/chat{query}"
    async with connect(url, additional_headers=headers, compression=None, **options) as socket:
        yield Client(socket)
