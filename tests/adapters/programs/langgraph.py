"""The suite's programs as LangGraph graphs."""

from __future__ import annotations

from typing import Any

from elf_sdk.adapters.langgraph import LangGraphAdapter
from elf_sdk.runs.adapter import RunContext
from elf_sdk.server.team_server import TeamServer
from elf_sdk.testing.tools import TOOLS


def agent(model: Any, tools: list[Any]) -> Any:
    """A model and its tools, one asking the other until there is an answer."""
    from langchain_core.tools import StructuredTool
    from langgraph.graph import END, START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode, tools_condition

    own = [*tools, *map(StructuredTool.from_function, TOOLS)]
    asking = model.bind_tools(own)

    async def lead(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await asking.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("lead", lead)
    graph.add_node("tools", ToolNode(own))
    graph.add_edge(START, "lead")
    graph.add_conditional_edges("lead", tools_condition, {"tools": "tools", END: END})
    graph.add_edge("tools", "lead")
    return graph


def asking(model: Any) -> Any:
    """A node that interrupts, then one that asks the model."""
    from langgraph.graph import END, START, MessagesState, StateGraph
    from langgraph.types import interrupt

    async def person(state: MessagesState) -> dict[str, Any]:
        return {"messages": [("user", f"It shall be {interrupt('Which colour?')}.")]}

    async def painter(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("person", person)
    graph.add_node("painter", painter)
    graph.add_edge(START, "person")
    graph.add_edge("person", "painter")
    graph.add_edge("painter", END)
    return graph


def recovering(model: Any) -> Any:
    """Two nodes, each with a call to the model."""
    from langgraph.graph import END, START, MessagesState, StateGraph

    async def first(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke([("system", "You are the first."), *state["messages"]])]}

    async def second(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke([("system", "You are the second."), *state["messages"]])]}

    graph = StateGraph(MessagesState)
    graph.add_node("first", first)
    graph.add_node("second", second)
    graph.add_edge(START, "first")
    graph.add_edge("first", "second")
    graph.add_edge("second", END)
    return graph


def endless(context: RunContext) -> Any:
    """A node that leads to itself, and never waits."""
    from langgraph.graph import START, MessagesState, StateGraph

    while context.text == "In the factory.":
        sum(range(1000))

    async def circle(state: MessagesState) -> dict[str, Any]:
        return {}

    graph = StateGraph(MessagesState)
    graph.add_node("circle", circle)
    graph.add_edge(START, "circle")
    graph.add_edge("circle", "circle")
    return graph.compile().with_config(recursion_limit=10**9)


def failing() -> Any:
    raise ValueError("no such thing")


def mistaken() -> Any:
    return 5


class Agent(TeamServer):
    adapter = LangGraphAdapter(agent)


class Asking(TeamServer):
    adapter = LangGraphAdapter(asking)


class Recovering(TeamServer):
    adapter = LangGraphAdapter(recovering)


class Failing(TeamServer):
    adapter = LangGraphAdapter(failing)


class Mistaken(TeamServer):
    adapter = LangGraphAdapter(mistaken)


class Endless(TeamServer):
    adapter = LangGraphAdapter(endless)
