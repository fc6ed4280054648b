"""Attacks on a team that is really served, each once found to work."""

import asyncio
import sqlite3
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from elf_sdk.errors import BadInput
from elf_sdk.runs.events import InputRequired, TextDelta
from elf_sdk.server.chat.session import ChatSession
from elf_sdk.server.chat.terminal import Conversation
from elf_sdk.server.loading import load_server
from elf_sdk.server.preview import Preview
from elf_sdk.server.team_server import TeamServer
from elf_sdk.settings import Settings
from elf_sdk.testing import Served, serve
from tests.server.conftest import PROPOSAL, boss, chat, scripted, worker
from tests.server.test_processes import TEAM_YAML, elf, environment, get, project, running

__all__ = ["project"]


@pytest.mark.parametrize(
    "origin", ["null", "http://[", "file://{host}", "//{host}", "http://{host}/x", "http://{host}."]
)
async def test_an_origin_that_is_not_the_servers_own(settings: Settings, origin: str) -> None:
    async with serve(boss(), settings=settings) as served:
        host = served.address.removeprefix("http://")
        async with chat(served, origin=origin.format(host=host)) as client:
            assert (await client.closed())[0] == 4403


async def test_a_handshake_that_cannot_be_read_is_answered(settings: Settings) -> None:
    async with serve(boss(), settings=settings) as served:
        with pytest.raises(InvalidStatus) as refused:
            async with chat(served, query=f"?token={'x' * 20_000}"):
                pass
    assert refused.value.response.status_code == 431


@pytest.mark.parametrize(
    "request_",
    [
        "HTTP/1.0\r\nHost: localhost",
        "HTTP/1.0",
        "HTTP/1.1\r\nHost: evil.example",
        "HTTP/1.1\r\nHost: localhost.",
        "HTTP/1.1\r\nHost: [",
        "HTTP/1.1\r\nHost: localhost:80@evil.example",
        "HTTP/1.1\r\nHost: ",
        *(
            f"HTTP/1.1\r\nHost: localhost\r\n{name}: x"
            for name in ("Origin", "Via", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP")
        ),
    ],
)
async def test_who_is_not_on_this_machine_sees_no_more_than_the_public(settings: Settings, request_: str) -> None:
    async with serve(boss(), settings=settings) as served:
        answers = {path: await _raw(served, path, request_) for path in ("/status", "/capabilities", "/health")}
    assert " 401 " in answers["/status"].splitlines()[0]
    assert " 401 " in answers["/capabilities"].splitlines()[0]
    assert "checks" not in answers["/health"]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:1", "[::1]:8000"])
async def test_who_is_on_this_machine_sees_all(settings: Settings, host: str) -> None:
    async with serve(boss(), settings=settings) as served:
        assert " 200 " in (await _raw(served, "/status", f"HTTP/1.1\r\nHost: {host}")).splitlines()[0]


async def _raw(served: Served, path: str, rest: str) -> str:
    host, port = served.address.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET /teams/boss{path} {rest}\r\nConnection: close\r\n\r\n".encode())
    try:
        return (await reader.read()).decode()
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_hook_that_fails_ends_the_answer_and_not_the_session(settings: Settings) -> None:
    class Failing(TeamServer):
        async def on_delegate(self, preview: Preview) -> Preview:
            raise ValueError("no")

    async with serve(boss(base=Failing), worker(), settings=settings) as served, chat(served) as client:
        assert await client.ask("delegate") == "I propose."
        assert [frame["code"] for frame in client.seen if frame["type"] == "error"] == ["Failure"]
        assert await client.ask("hello") == "you said: hello"


async def test_a_greeting_that_fails_closes_with_a_reason(settings: Settings) -> None:
    class Failing(TeamServer):
        async def on_chat_open(self, session: ChatSession) -> str:
            raise ValueError("no")

    async with serve(boss(base=Failing, chat={"max_connections_per_user": 1}), settings=settings) as served:
        for _ in range(3):
            async with chat(served) as client:
                expected = (1011, "the team could not begin the session; the server's log says why")
                assert await client.closed() == expected


async def test_a_hook_cannot_take_the_question_away(settings: Settings) -> None:
    class Hasty(TeamServer):
        async def on_delegate(self, preview: Preview) -> Preview:
            return replace(preview, approval="none", user="user:root", route=("boss",), title="Changed")

    hands = worker()
    async with serve(boss(base=Hasty), hands, settings=settings) as served, chat(served) as client:
        await client.ask("delegate")
        preview = next(frame for frame in client.seen if frame["type"] == "delegation_preview")
        assert (preview["approval"], preview["route"]) == ("confirmation", ["boss", "worker"])
        assert preview["title"] == "Changed"
        assert scripted(hands).contexts == []


async def test_a_hook_cannot_send_work_to_a_stranger(settings: Settings) -> None:
    class Lost(TeamServer):
        async def on_delegate(self, preview: Preview) -> Preview:
            return replace(preview, target="stranger")

    async with serve(boss(base=Lost), worker(), settings=settings) as served, chat(served) as client:
        await client.ask("delegate")
        assert [frame["code"] for frame in client.seen if frame["type"] == "error"] == ["Forbidden"]
        assert not [frame for frame in client.seen if frame["type"] == "delegation_preview"]


async def test_a_thousand_proposals_are_not_all_kept(settings: Settings) -> None:
    proposals = tuple(replace(PROPOSAL, proposal_id=f"p{number}") for number in range(1000))
    async with serve(boss({"delegate": proposals}), worker(), settings=settings) as served, chat(served) as client:
        await client.ask("delegate")
        assert sum(frame["type"] == "delegation_preview" for frame in client.seen) == 200
        assert [frame["code"] for frame in client.seen if frame["type"] == "error"] == ["Conflict"]


@pytest.mark.parametrize("frame", ['{"', "/stop", "/confirm ffffffff"])
async def test_a_flood_is_cut_off(settings: Settings, frame: str) -> None:
    async with serve(boss(), settings=settings) as served, chat(served) as client:
        for _ in range(601):
            await client.send(frame)
        assert (await client.closed())[0] == 4429


async def test_a_confirmation_whose_connection_breaks_is_sent_all_the_same(settings: Settings) -> None:
    hands = worker()
    manager = boss({"delegate": (PROPOSAL, *(TextDelta("y" * 8000) for _ in range(100)))})
    async with serve(manager, hands, settings=settings) as served:
        for number in range(8):
            async with chat(served, user=f"user-{number}") as client:
                await client.send("delegate")
                preview = await client.until("delegation_preview")
                await client.send(preview["confirm_with"])
                client.socket.transport.abort()
        confirmed = -1
        async with asyncio.timeout(20):
            while confirmed != len(scripted(hands).contexts) or _open(settings):
                await asyncio.sleep(0.3)
                confirmed = _count(settings, "1")
    assert confirmed == len(scripted(hands).contexts)


def _count(settings: Settings, where: str) -> int:
    with sqlite3.connect(settings.store) as database:
        (number,) = database.execute(f"SELECT count(*) FROM delegations WHERE {where}").fetchone()  # noqa: S608
    database.close()
    return int(number)


def _open(settings: Settings) -> int:
    return _count(settings, "state NOT IN ('finished', 'failed')")


async def test_who_never_reads_is_cut_off_and_holds_nobody_up(settings: Settings) -> None:
    long = tuple(TextDelta("x" * 16_000) for _ in range(1500))
    hands = worker({"*": tuple(TextDelta("z" * 300) for _ in range(600))})
    async with serve(boss({"long": long}), hands, settings=settings) as served:
        async with chat(served, max_queue=1) as lazy:
            await lazy.ask("delegate")
            preview = next(frame for frame in lazy.seen if frame["type"] == "delegation_preview")
            await lazy.send("long")
            await lazy.send(preview["confirm_with"])
            async with chat(served, user="bob") as other:
                assert await other.ask("hello") == "you said: hello"
            async with asyncio.timeout(30):
                while not _count(settings, "state = 'finished'"):  # noqa: ASYNC110 - a database tells nobody
                    await asyncio.sleep(0.5)
            lazy.socket.transport.abort()


async def test_an_answer_without_end_is_not_read_to_its_end(settings: Settings) -> None:
    hands = worker({"*": tuple(TextDelta("z" * 16_000) for _ in range(50))})
    async with serve(boss(), hands, settings=settings) as served, chat(served) as client:
        await client.ask("delegate")
        preview = next(frame for frame in client.seen if frame["type"] == "delegation_preview")
        await client.send(preview["confirm_with"])
        failed = await client.until("delegation_update", state="failed")
        assert failed["detail"] == "worker answered with more than 200,000 characters, and was not read on"


async def test_a_team_cannot_redraw_the_screen(settings: Settings) -> None:
    hidden = replace(PROPOSAL, title="Write\x1b[2J it", description="of \u202eit", target="worker")
    screen: list[str] = []

    async def decide(preview: object) -> bool:
        return False

    messages = iter(["delegate", None])

    async def next_message() -> str | None:
        return next(messages)

    async def answer() -> str | None:
        return "no"

    asked = InputRequired("q1", "Send\x1b[1A it?")
    manager = boss({"delegate": (TextDelta("\x1b[1A\x9b2Jhello\x07"), asked, hidden)})
    async with serve(manager, worker(), settings=settings) as served:
        conversation = Conversation(
            f"{served.url('boss').replace('http', 'ws', 1)}/chat",
            served.issuer.user_token("ada", "boss"),
            write=screen.append,
            style=lambda text, role: text,
            decide=decide,
            answer=answer,
        )
        await conversation.run(next_message)
    shown = "".join(screen)
    assert "hello" in shown
    assert "? Send\N{REPLACEMENT CHARACTER}[1A it?" in shown
    assert "Write\N{REPLACEMENT CHARACTER}[2J it" in shown
    assert not set(shown) & set("\x1b\x9b\x07\u202e")


async def test_a_forged_chain_is_refused(settings: Settings) -> None:
    async with serve(boss(), worker(), settings=settings) as served, httpx.AsyncClient() as http:
        for chain, accepted in ((["boss"], True), (["executive", "boss"], True), (["executive"], False)):
            answer = await http.post(
                f"{served.url('worker')}/a2a/v1/message:send",
                headers={"Authorization": f"Bearer {served.issuer.team_token('boss', 'worker')}", "A2A-Version": "1.0"},
                json={
                    "message": {
                        "messageId": "-".join(chain),
                        "role": "ROLE_USER",
                        "parts": [{"text": "x"}],
                        "metadata": {"urn:elf:a2a:delegation:v1": {"chain": chain}},
                    }
                },
            )
            assert (answer.status_code == 200) is accepted, answer.text


GRAPH_PY = """\
from __future__ import annotations

from typing import Annotated, TypedDict


class State(TypedDict):
    words: Annotated[list, "all"]
"""


def test_annotations_are_resolved_long_after_the_import(tmp_path: Path) -> None:
    """LangGraph does so with a graph's state when the graph is built, which is at its first run."""
    from typing import get_type_hints

    servers = []
    for name, kind in (("one", "list"), ("two", "dict")):
        directory = tmp_path / name
        directory.mkdir()
        (directory / "team.yaml").write_text(TEAM_YAML.format(name=name))
        (directory / "graph.py").write_text(GRAPH_PY.replace("[list", f"[{kind}"))
        (directory / "team.py").write_text(
            "from elf_sdk import FunctionAdapter, TeamServer\nfrom graph import State\n"
            "class T(TeamServer):\n    adapter = FunctionAdapter(lambda ctx: '')\n    state = State\n"
        )
        servers.append(load_server(directory))
    hints = [get_type_hints(type(server).__dict__["state"]) for server in servers]
    assert hints == [{"words": list}, {"words": dict}]


def test_a_team_that_exits_at_import_does_not_end_the_process(tmp_path: Path) -> None:
    (tmp_path / "team.py").write_text("raise SystemExit(0)\n")
    with pytest.raises(BadInput, match="importing the team ended the process"):
        load_server(tmp_path)


SLOW_PY = """\
import asyncio
from elf_sdk import FunctionAdapter, TeamServer


async def answer(ctx):
    yield "begun"
    await asyncio.sleep(60)


class Slow(TeamServer):
    adapter = FunctionAdapter(answer)


app = Slow()
"""


@pytest.mark.parametrize("reload", ["--reload", "--no-reload"])
@pytest.mark.parametrize("kill", ["SIGTERM", "SIGINT", "SIGKILL"])
def test_a_signal_ends_every_run(project: Path, kill: str, reload: str) -> None:
    import json
    import signal
    import time

    from websockets.sync.client import connect

    for name in ("alpha", "beta"):
        (project / "teams" / name / "team.py").write_text(SLOW_PY)
    with running(["-m", "elf_sdk", "dev", "--port", "0", reload], project, environment(project)) as server:
        server.wait_for("Ctrl-C stops")
        address = server.wait_for(r"serves acme on (http://127\.0\.0\.1:\d+)")[1]
        token = elf(project, "token", "alpha").stdout.strip()
        with connect(f"{address.replace('http', 'ws', 1)}/teams/alpha/chat?token={token}", close_timeout=1) as socket_:
            socket_.send("go")
            while json.loads(socket_.recv()).get("delta") != "begun":
                pass
            server.process.send_signal(signal.Signals[kill])
            code = server.process.wait(20)
        assert code == (-9 if kill == "SIGKILL" else 0)
        assert "Traceback" not in server.output
    deadline = time.monotonic() + 20
    if kill == "SIGKILL":
        # Whatever served is gone with it, and the next one marks what was cut off.
        while True:
            try:
                get(f"{address}/teams/alpha/health")
            except OSError:
                break
            assert time.monotonic() < deadline, "the served process outlives its supervisor"
            time.sleep(0.3)
        with running(["-m", "elf_sdk", "dev", "--port", "0", "--no-reload"], project, environment(project)) as again:
            again.wait_for("Ctrl-C stops")
    with sqlite3.connect(project / ".elf" / "elf.db") as database:
        states = database.execute("SELECT state FROM runs").fetchall()
    database.close()
    assert states == [("failed",)]
