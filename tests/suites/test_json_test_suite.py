"""JSONTestSuite's documents on every entry that takes JSON: as the whole of what is sent, and as data in a message."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from elf_sdk.server.team_server import TeamServer
from elf_sdk.settings import Settings
from elf_sdk.team.spec import TeamSpec
from elf_sdk.team.work import Chat, Member
from elf_sdk.testing import ScriptedAdapter, Served, serve
from tests.suites.support import suite

SUITE = "JSONTestSuite"
SOURCE = "https://github.com/nst/JSONTestSuite"

PLACE = suite(SUITE, SOURCE)
DOCUMENTS = sorted((PLACE / "test_parsing").glob("*.json"))


class EchoTeam(TeamServer):
    adapter = ScriptedAdapter()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    spec = TeamSpec(name="echo", members=(Member(role="Echo", is_manager=True),), chat=Chat(enabled=True))
    async with serve(EchoTeam(spec), settings=Settings(store=":memory:")) as one:
        yield one


def wrapped(number: int, document: bytes) -> bytes:
    """A request that is well formed where the document is."""
    message = b'{"messageId":"%d","role":"ROLE_USER","parts":[{"text":"x"},{"data":%s}]}' % (number, document)
    return b'{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":%s}}' % message


def test_all_documents_are_there() -> None:
    assert len(DOCUMENTS) == 318


@pytest.mark.parametrize("entry", ["JSON-RPC", "JSON-RPC of 0.3", "HTTP+JSON"])
async def test_each_document_alone_is_refused_and_nothing_breaks(
    served: Served, entry: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    url = f"{served.url('echo')}/a2a/v1" + ("/message:send" if entry == "HTTP+JSON" else "")
    version = {} if entry.endswith("0.3") else {"A2A-Version": "1.0"}
    headers = {**served.headers("ada", "echo"), **version, "Content-Type": "application/json"}
    async with httpx.AsyncClient() as http:
        for document in DOCUMENTS:
            answer = await http.post(url, content=document.read_bytes(), headers=headers)
            error = answer.json()["error"]
            assert answer.status_code == (400 if entry == "HTTP+JSON" else 200), document.name
            if document.name.startswith("n_") and entry == "JSON-RPC":
                assert error["code"] == -32700, document.name
    assert noise(caplog) == []


async def test_each_document_as_data_is_taken_where_it_is_json(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    headers = {**served.headers("ada", "echo"), "A2A-Version": "1.0", "Content-Type": "application/json"}
    outcomes: Counter[tuple[str, bool]] = Counter()
    async with httpx.AsyncClient() as http:
        for number, document in enumerate(DOCUMENTS):
            content = wrapped(number, document.read_bytes())
            answer = await http.post(f"{served.url('echo')}/a2a/v1", content=content, headers=headers)
            assert answer.status_code == 200, document.name
            outcomes[document.name[0], "result" in answer.json()] += 1
            if document.name.startswith("y_"):
                assert "result" in answer.json(), (document.name, answer.text)
            if document.name.startswith("n_") and closes(document.read_bytes()):
                assert answer.json()["error"]["code"] == -32700, document.name
    assert outcomes["y", True] == 95
    assert noise(caplog) == []


def closes(document: bytes) -> bool:
    """Whether a document is still wrong inside another: some only end too late, or are nothing."""
    try:
        json.loads(b"[" + document + b"]")
    except (ValueError, RecursionError):
        return True
    return False


async def test_each_document_as_a_frame_is_answered(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    url = f"{served.url('echo').replace('http', 'ws', 1)}/chat"
    for document in DOCUMENTS:
        content: str | bytes = document.read_bytes()
        try:
            content = content.decode() if isinstance(content, bytes) else content
        except UnicodeDecodeError:
            # Text that is none closes the connection (RFC 6455, section 8.1), before we see it.
            continue
        async with connect(url, additional_headers=served.headers("ada", "echo"), compression=None) as socket:
            await socket.recv()
            await socket.send(content)
            frame: dict[str, Any] = json.loads(await socket.recv())
            ended = frame["type"] == "session_ended" and frame["reason"].startswith("a message may have at most")
            assert ended == (len(content) > 65_536), document.name
            assert ended or frame["type"] in ("error", "message", "status", "pong"), (document.name, frame)
    assert noise(caplog) == []


def noise(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the server logged of it that is more than information."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING or record.exc_info]
