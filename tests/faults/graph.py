"""A graph that is killed in the middle: three nodes that say something, each with an effect; and one that asks."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from elf_sdk.adapters.langgraph import LangGraphAdapter
from tests.faults.work import EFFECTS, Watched, write_team

__all__ = ["NODES", "Graph", "write_graph"]

NODES = ("one", "two", "three")

_TEAM_PY = """\
from tests.faults.graph import Graph


class Faulty(Graph):
    pass
"""


def write_graph(directory: Path, *, recover: bool) -> Path:
    """The team of the fault tests, as a graph; its directory."""
    write_team(directory, recover=recover)
    (directory / "team.py").write_text(_TEAM_PY)
    spec = directory / "team.yaml"
    spec.write_text(spec.read_text().replace("framework: function", "framework: langgraph"))
    return directory


def _effect(node: str) -> int:
    """Write down that a node runs; how often it has, in whatever process."""
    path = Path(os.environ[EFFECTS])
    with path.open("a") as effects:
        effects.write(f"{node} {os.getpid()}\n")
    return path.read_text().split().count(node)


def build() -> Any:
    """The graph."""
    from langchain_core.messages import AIMessage
    from langgraph.config import get_stream_writer
    from langgraph.graph import END, START, MessagesState, StateGraph
    from langgraph.types import interrupt

    def node(name: str) -> Any:
        async def run(state: MessagesState) -> Any:
            times = _effect(name)
            write = get_stream_writer()
            if name == "two" and "ask" in str(state["messages"][0].text):
                return {"messages": [AIMessage(f"{name}: {interrupt('Which one?')}.")]}
            write({"text": f"{name} begins"})
            if name == "two" and times == 1:
                # Killed here.
                await asyncio.sleep(60)
            return {"messages": [AIMessage(f"{name} ends.")]}

        return run

    graph = StateGraph(MessagesState)
    for name in NODES:
        graph.add_node(name, node(name))
    graph.add_edge(START, "one")
    for name, following in (("one", "two"), ("two", "three")):
        # Each of them answers.
        graph.add_conditional_edges(name, lambda state, following=following: following, [following, END])
    graph.add_edge("three", END)
    return graph.compile()


class Graph(Watched):
    """The team."""

    adapter = LangGraphAdapter(build)
