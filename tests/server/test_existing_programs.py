"""Programs as people have them, served by `elf dev` with a team.yaml and two lines beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from elf_sdk.errors import Missing
from elf_sdk.server.loading import load_server
from tests.server.test_processes import Process, ask, environment, running

TEAM_YAML = """\
name: {name}
framework: {framework}
members:
  - role: Head
    is_manager: true
"""

GRAPH_PY = """\
import os
from dataclasses import dataclass

from langchain.chat_models import init_chat_model
from langgraph.graph import MessagesState, StateGraph
from langgraph.runtime import Runtime

from shop.parts.words import GREETING


@dataclass
class Context:
    model: str = "openai:a-model-of-the-author"


# Made with the import, as in many an example: without a key that fails.
model = init_chat_model(Context().model)


async def answer(state: MessagesState, runtime: Runtime[Context]):
    from shop.parts.late import NAME

    said = await model.ainvoke([("system", f"You are the {NAME} for {runtime.context.model}"), *state["messages"]])
    other = await init_chat_model("a-claude", model_provider="anthropic").ainvoke([("user", GREETING)])
    return {"messages": [said, other]}


builder = StateGraph(MessagesState, context_schema=Context)
builder.add_node(answer)
builder.add_edge("__start__", "answer")
graph = builder.compile()
"""

CREW_PY = """\
from crewai import Agent, Crew, Task

# Built with the import, before there is a run, and with no model named.
clerk = Agent(role="Clerk", goal="Answer", backstory="Brief")
crew = Crew(agents=[clerk], tasks=[Task(description="{topic}", expected_output="Two sentences", agent=clerk)])
"""

OFFLINE = """\
rules:
  - when: {system: 'the late clerk for openai:a-model-of-the-author'}
    say: From the first.
  - when: {user: 'good day'}
    say: From the second.
  - when: {system: 'Clerk', user: 'bicycles'}
    say: Bicycles have two wheels.
"""


def program(directory: Path, framework: str, line: str, files: Mapping[str, str]) -> Path:
    """A program in the layout that packaging tools make, and the team's files beside it."""
    directory.mkdir(parents=True)
    (directory / "team.yaml").write_text(TEAM_YAML.format(name=directory.name, framework=framework))
    adapter = {"langgraph": "LangGraphAdapter", "crewai": "CrewAIAdapter"}[framework]
    (directory / "team.py").write_text(
        f"from elf_sdk import {adapter}, TeamServer\nclass Team(TeamServer): adapter = {adapter}({line})\n"
    )
    (directory / "offline.yaml").write_text(OFFLINE)
    for name, text in files.items():
        file = directory / "src" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return directory


@contextmanager
def served(directory: Path, **variables: str) -> Iterator[tuple[Process, str, str]]:
    """`elf dev` without any key in its environment; its address, and a token."""
    env = {
        name: value
        for name, value in environment(directory).items()
        if not name.startswith(("OPENAI_", "ANTHROPIC_")) and "MODEL" not in name
    }
    with running(["-m", "elf_sdk", "dev", "--port", "0", "--no-reload"], directory, {**env, **variables}) as server:
        server.wait_for("Ctrl-C stops")
        yield (
            server,
            server.wait_for(rf"(http://127\.0\.0\.1:\d+/teams/{directory.name})")[1],
            server.wait_for(r"\n  (eyJ\S+)\n")[1],
        )


def shop(tmp_path: Path, line: str = '"shop.graph:graph"') -> Path:
    # `parts` has no __init__.py.
    files = {
        "shop/__init__.py": "",
        "shop/graph.py": GRAPH_PY,
        "shop/parts/words.py": "GREETING = 'good day'\n",
        "shop/parts/late.py": "NAME = 'late clerk'\n",
    }
    return program(tmp_path / "shop-team", "langgraph", line, files)


def test_a_graph_with_clients_of_its_own_finds_the_teams_model(tmp_path: Path) -> None:
    pytest.importorskip("langchain_anthropic")
    with served(shop(tmp_path)) as (_, address, token):
        assert ask(address, token, "hello") == "From the first.\n\nFrom the second."


def test_one_that_is_imported_and_finds_no_key_is_to_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = shop(tmp_path)
    (directory / "team.py").write_text("from shop.graph import graph\n")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(
        Missing, match=r"graph\.py:\d+: a client that the code makes by itself found no key; .* name the"
    ):
        load_server(directory)


def test_the_authors_own_key_and_address_stay(tmp_path: Path) -> None:
    own = {"OPENAI_API_KEY": "of-the-author", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
    with served(shop(tmp_path), **own) as (server, address, token):
        assert ask(address, token, "hello") == ""
        server.wait_for(r"the connection to the model .* at 127\.0\.0\.1:9 broke")


def test_a_crew_that_is_built_when_it_is_imported_finds_the_teams_model(tmp_path: Path) -> None:
    files = {"trade/__init__.py": "", "trade/crew.py": CREW_PY}
    with served(program(tmp_path / "trade-team", "crewai", '"trade.crew:crew"', files)) as (_, address, token):
        assert ask(address, token, "bicycles") == "Bicycles have two wheels."


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('"shop.nothing:graph"', "'shop.nothing:graph' names the module shop.nothing, and there is none on the path"),
        ('"shop.graph:chart"', r"'shop.graph:chart': there is no 'chart' in shop\.graph"),
    ],
)
def test_a_name_that_leads_nowhere_is_told(tmp_path: Path, line: str, sentence: str) -> None:
    with served(shop(tmp_path, line)) as (server, _, _):
        server.wait_for(f"cannot load its code: .*{sentence}")
