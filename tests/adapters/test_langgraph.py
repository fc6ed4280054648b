from typing import Any, TypedDict

import pytest

from elf_sdk.adapters.langgraph import LangGraphAdapter
from elf_sdk.errors import BadInput
from elf_sdk.models.offline import OfflineModel
from elf_sdk.runs.adapter import RunError
from elf_sdk.runs.events import Artifact, Step, ToolCall, ToolResult
from tests.adapters.support import answer, context, events_of, scripted


class _Plan(TypedDict):
    topic: str
    plan: str


def _own_state() -> Any:
    from langgraph.config import get_stream_writer
    from langgraph.graph import END, START, StateGraph

    async def planner(state: _Plan) -> dict[str, str]:
        get_stream_writer()(Artifact("a1", "notes", text="n"))
        return {"plan": f"A plan for {state['topic']}."}

    graph = StateGraph(_Plan)
    graph.add_node("planner", planner)
    graph.add_edge(START, "planner")
    graph.add_edge("planner", END)
    return graph.compile()


async def test_a_state_of_ones_own_is_mapped_in_and_out(model: OfflineModel) -> None:
    adapter = LangGraphAdapter(
        _own_state(), input=lambda ctx, messages: {"topic": ctx.text}, output=lambda state: str(state["plan"])
    )
    assert not adapter.capabilities.stream
    events = await events_of(adapter, context(model, "bicycles"))
    assert answer(events) == "A plan for bicycles."
    assert Artifact("a1", "notes", text="n") in events


async def test_a_state_of_ones_own_without_a_mapping_is_one_sentence(model: OfflineModel) -> None:
    class Two(_Plan):
        draft: str

    def build() -> Any:
        from langgraph.graph import END, START, StateGraph

        graph = StateGraph(Two)
        graph.add_node("plan", lambda state: {"plan": "a plan", "draft": "a draft"})
        graph.add_edge(START, "plan")
        graph.add_edge("plan", END)
        return graph

    adapter = LangGraphAdapter(build, input=lambda ctx, messages: {"topic": "x"})
    with pytest.raises(RunError, match=r"which of its fields \(.*plan.*\) is the answer cannot be guessed; give"):
        await events_of(adapter, context(model))


async def test_an_agent_as_a_subgraph_with_a_tool_of_ones_own(model: OfflineModel) -> None:
    scripted(
        model,
        {"when": {"user": "price"}, "call": {"tool": "price_of", "arguments": {"thing": "lamp"}}},
        {"when": {"after_tool": "price_of", "result": "(?P<price>\\d+)"}, "say": "It costs ${price}."},
    )

    def build(model: Any) -> Any:
        from langchain_core.tools import tool
        from langgraph.graph import END, START, MessagesState, StateGraph
        from langgraph.prebuilt import ToolNode, tools_condition

        @tool
        def price_of(thing: str) -> str:
            """Look up a price."""
            return f"{len(thing)}9"

        inner = StateGraph(MessagesState)
        inner.add_node("agent", lambda state: {"messages": [model.bind_tools([price_of]).invoke(state["messages"])]})
        inner.add_node("tools", ToolNode([price_of]))
        inner.add_edge(START, "agent")
        inner.add_conditional_edges("agent", tools_condition, {"tools": "tools", END: END})
        inner.add_edge("tools", "agent")
        outer = StateGraph(MessagesState)
        outer.add_node("seller", inner.compile())
        outer.add_edge(START, "seller")
        outer.add_edge("seller", END)
        return outer

    events = await events_of(LangGraphAdapter(build), context(model, "What is the price?"))
    assert answer(events) == "It costs 49."
    [call] = [event for event in events if isinstance(event, ToolCall)]
    assert (call.name, call.arguments) == ("price_of", {"thing": "lamp"})
    assert ToolResult(call.call_id, "49") in events
    assert Step("seller/tools") in events


async def test_a_factory_that_returns_something_else(model: OfflineModel) -> None:
    with pytest.raises(RunError, match="returned a int; return a StateGraph"):
        await events_of(LangGraphAdapter(lambda: 5), context(model))


def test_what_is_no_graph_is_refused() -> None:
    with pytest.raises(BadInput, match="takes a graph or a function that builds one"):
        LangGraphAdapter(5)
