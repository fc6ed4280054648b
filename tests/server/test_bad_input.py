"""Teams whose code leaves, hangs, or gives what is no answer: what users are told, and that the server goes on."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from elf_sdk.runs.log import RunState
from elf_sdk.server.a2a.client import TeamClient
from elf_sdk.server.remote import RemoteUpdate
from elf_sdk.testing.process import TeamProcess
from tests.server.test_processes import TEAM_YAML

DEADLINE = "runs:\n  deadline: 5s\n"

GRAPH = """\
import asyncio
import concurrent.futures
import sys
import time
from typing import TypedDict

from elf_sdk import LangGraphAdapter, TeamServer
from langgraph.graph import END, START, StateGraph


class State(TypedDict):
    question: str
    answer: str


async def fails():
    raise ValueError("the shelf is empty")


async def node(state):
    match state["question"]:
        case "exit":
            sys.exit("out of here")
        case "interrupt":
            raise KeyboardInterrupt
        case "group":
            async with asyncio.TaskGroup() as group:
                group.create_task(fails())
        case "thread":
            concurrent.futures.ThreadPoolExecutor().submit(time.sleep, 600)
    return {"answer": state["question"]}


graph = StateGraph(State).add_node("node", node).add_edge(START, "node").add_edge("node", END)


class Graph(TeamServer):
    adapter = LangGraphAdapter(graph.compile())
"""

FUNCTION = """\
import sys
import time

from elf_sdk import FunctionAdapter, TeamServer

if (fault := FAULT) and "elf_sdk.runs.worker" in open("/proc/self/cmdline").read():
    exec(fault)


def answer(ctx):
    match ctx.text:
        case "zero":
            return 0
        case "bytes":
            return b""
        case "surrogate":
            raise ValueError("half of \\ud800 is missing")
        case "exit":
            sys.exit(3)
    return ctx.text


class Plain(TeamServer):
    adapter = FunctionAdapter(answer)
"""


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamProcess]:
    yield from _served(tmp_path_factory.mktemp("graph"), GRAPH, framework="langgraph")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamProcess]:
    yield from _served(tmp_path_factory.mktemp("plain"), FUNCTION.replace("FAULT", "''"))


def _served(place: Path, source: str, framework: str = "function") -> Iterator[TeamProcess]:
    process = _team(place, source, framework)
    process.start()
    try:
        yield process
    finally:
        process.close()


def _team(place: Path, source: str, framework: str = "function", more: str = "") -> TeamProcess:
    directory = place / "odd"
    directory.mkdir()
    spec = TEAM_YAML.format(name="odd").replace("framework: function", f"framework: {framework}")
    (directory / "team.yaml").write_text(spec + more)
    (directory / "team.py").write_text(source)
    return TeamProcess(directory, place)


@asynccontextmanager
async def _calling(process: TeamProcess) -> AsyncGenerator[TeamClient, None]:
    async with httpx.AsyncClient() as http:
        yield TeamClient(process.url, lambda: process.token("ada"), http, retries=0)


async def _last(process: TeamProcess, text: str, message_id: str = "") -> RemoteUpdate:
    async with _calling(process) as client:
        return [update async for update in client.send(text, message_id=message_id or text)][-1]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("exit", "the team's code ended with SystemExit: out of here (team.py, line 23)"),
        ("interrupt", "the team's code ended with KeyboardInterrupt (team.py, line 25)"),
        ("group", "ValueError: the shelf is empty (team.py, line 17)"),
    ],
)
async def test_what_leaves_a_node_in_the_servers_loop_ends_its_run_alone(
    graph: TeamProcess, text: str, sentence: str
) -> None:
    last = await _last(graph, text)
    assert (last.state, last.error) == (RunState.FAILED, sentence)
    assert (await _last(graph, "go on", f"after {text}")).state is RunState.FINISHED
    assert graph.running


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("zero", "the team's function gave a int; give text (str) or an event"),
        ("bytes", "the team's function gave a bytes; give text (str) or an event"),
        ("surrogate", "ValueError: half of \ufffd is missing (team.py, line 17)"),
        ("exit", "the team's code ended with SystemExit: 3 (team.py, line 19)"),
    ],
)
async def test_what_a_function_does_wrong_is_one_sentence(plain: TeamProcess, text: str, sentence: str) -> None:
    last = await _last(plain, text)
    assert (last.state, last.error) == (RunState.FAILED, sentence)


async def test_a_thread_that_never_ends_does_not_hold_a_server_that_stops(tmp_path: Path) -> None:
    process = _team(tmp_path, GRAPH, "langgraph")
    process.start()
    try:
        assert (await _last(process, "thread")).state is RunState.FINISHED
        assert process.stop() == 0
        assert "the process ends without waiting for its threads" in process.output
    finally:
        process.close()


@pytest.mark.parametrize(
    ("fault", "sentence", "health"),
    [
        (
            "time.sleep(600)",
            "it took longer than 5s; it was at team.py, line 7, which is being loaded",
            "process: loading",
        ),
        (
            "import os; os._exit(5)",
            "the team's code cannot be loaded in a process of its own: its process ended with exit code 5 meanwhile",
            "process: not loaded (its process ended with exit code 5 meanwhile)",
        ),
    ],
)
async def test_code_that_cannot_be_loaded_says_so_until_it_is_mended(
    tmp_path: Path, fault: str, sentence: str, health: str
) -> None:
    process = _team(tmp_path, FUNCTION.replace("FAULT", repr(fault)), more=DEADLINE)
    process.start()
    try:
        last = await _last(process, "hello")
        assert (last.state, last.error) == (RunState.FAILED, sentence)
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"{process.url}/health")).json()["checks"]["isolation"] == health
        if "exit" in fault:
            team = tmp_path / "odd" / "team.py"
            team.write_text(FUNCTION.replace("FAULT", "''"))
            assert await _loaded(process)
    finally:
        process.close()


async def _loaded(process: TeamProcess) -> bool:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if (await _last(process, "hello", f"at {time.monotonic()}")).state is RunState.FINISHED:
            return True
    return False
