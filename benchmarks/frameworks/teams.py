"""The teams that are measured, the smallest of each framework. Each waits for its model most of the time."""

from __future__ import annotations

from typing import Any

from elf_sdk.adapters.crewai import CrewAIAdapter
from elf_sdk.adapters.function import FunctionAdapter, SyncFunctionContext
from elf_sdk.adapters.langgraph import LangGraphAdapter
from elf_sdk.server.team_server import TeamServer

__all__ = ["CrewTeam", "GraphTeam", "PlainTeam", "crew"]


def crew(llm: Any) -> Any:
    """One agent with one task."""
    from crewai import Agent, Crew, Task

    lead = Agent(role="the lead", goal="Answer", backstory="Brief.", llm=llm)
    return Crew(agents=[lead], tasks=[Task(description="{message}", expected_output="text", agent=lead)])


def graph(model: Any) -> Any:
    """One node, which asks the model."""
    from langgraph.graph import END, START, MessagesState, StateGraph

    def lead(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("lead", lead)
    builder.add_edge(START, "lead")
    builder.add_edge("lead", END)
    return builder


def plain(ctx: SyncFunctionContext) -> str:
    """No model; a plain function, so it blocks."""
    return ctx.text


class CrewTeam(TeamServer):
    """A crew."""

    adapter = CrewAIAdapter(crew)


class GraphTeam(TeamServer):
    """A graph with a synchronous node."""

    adapter = LangGraphAdapter(graph)


class PlainTeam(TeamServer):
    """A function."""

    adapter = FunctionAdapter(plain)
