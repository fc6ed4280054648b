"""A team that is a LangGraph graph: tokens of its answering node become the answer, everything else becomes steps.

LangGraph and LangChain are imported when a run begins, never before.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from elf_sdk.adapters.base import Bridge, bridged, call_factory, checked_factory, in_thread, need
from elf_sdk.adapters.langgraph.model import chat_model, connections
from elf_sdk.adapters.langgraph.tool import graph_place, graph_tool
from elf_sdk.adapters.langgraph.watcher import Answer, Steps, watcher
from elf_sdk.adapters.toolbox import open_tools
from elf_sdk.adapters.tools import Tool, offered
from elf_sdk.errors import BadInput
from elf_sdk.runs.adapter import AdapterCapabilities, RunContext, RunError
from elf_sdk.runs.events import Event

if TYPE_CHECKING:
    import httpx

__all__ = ["LangGraphAdapter"]

_OFFERED: Final = ("model", "tools", "context")

InputMapping = Callable[[RunContext, list[Any]], Any]
OutputMapping = Callable[[Any], str]


class LangGraphAdapter:
    """Runs a graph as a team.

    Args:
        graph: a compiled graph, or a factory of one, called for each run. A factory names what it wants among its
            parameters: `model` (LangChain's chat model for the team's `llm:`), `tools` (those of the team's MCP
            servers, and one for each team that work may be proposed to), `context` (the `RunContext`); or it names
            nothing. A graph that is not compiled yet is compiled. A node of a compiled graph gets the tools by
            `elf_sdk.team_tools()`.
        answer_node: the node whose tokens are the answer. By default every node with an edge to the end. The other
            nodes show as steps.
        input: the graph's input for a run and its messages (earlier ones, then what was asked); by default
            `{"messages": messages}`.
        output: the answer in the graph's last state; by default the text of the last AI message. Given without
            `answer_node`, the answer is this text alone, and no tokens are streamed.
    """

    name = "langgraph"

    def __init__(
        self,
        graph: Any,
        *,
        answer_node: str | None = None,
        input: InputMapping | None = None,  # noqa: A002 - LangGraph's own word for it
        output: OutputMapping | None = None,
    ) -> None:
        need("langgraph", "elf-sdk[langgraph]")
        self._is_graph = hasattr(graph, "astream") or hasattr(graph, "compile")
        if not self._is_graph:
            if not callable(graph):
                raise BadInput(f"LangGraphAdapter takes a graph or a function that builds one, not {graph!r}")
            checked_factory(graph, _OFFERED, self.name)
        self._graph = graph
        self._answer_node = answer_node
        self._input = input
        self._output = output
        self._streams = output is None or answer_node is not None
        # A node that is no coroutine runs on in its thread until its present call is done.
        self.capabilities = AdapterCapabilities(stream=self._streams, human=False, cancel="cooperative", recover=False)

    def run(self, ctx: RunContext) -> AsyncGenerator[Event, None]:
        """Do the work of one run; see `Adapter.run`."""
        return bridged(ctx, lambda bridge: self._work(ctx, bridge))

    async def _work(self, ctx: RunContext, bridge: Bridge) -> None:
        # The first import takes seconds; the server's loop goes on meanwhile.
        await in_thread(_load)
        async with (
            connections(ctx.endpoint) as client,
            open_tools(ctx, bridge.push, place=graph_place) as tools,
        ):
            await self._stream(ctx, bridge, client, tools)

    async def _stream(self, ctx: RunContext, bridge: Bridge, client: httpx.AsyncClient, tools: Sequence[Tool]) -> None:
        from langchain_core.messages import AIMessage, HumanMessage

        graph = self._built(ctx, client, tools)
        nodes = _final_nodes(graph) if self._answer_node is None else {self._answer_node}
        messages = [
            HumanMessage(turn.text) if turn.role == "user" else AIMessage(turn.text) for turn in await ctx.history()
        ] + [HumanMessage(ctx.text)]
        given = self._input(ctx, messages) if self._input else {"messages": messages}
        config = {
            "callbacks": [watcher(bridge, ctx.endpoint.model)],
            # The messages carry the conversation, so a graph's own checkpointer must not add it a second time.
            "configurable": {"thread_id": f"{ctx.owner.key}:{ctx.conversation}:{ctx.run_id}"},
        }
        answer = Answer(bridge)
        state: Any = None
        steps = Steps(bridge)
        modes = ["tasks", "messages", "custom", "values"]
        async with aclosing(graph.astream(given, config, stream_mode=modes, subgraphs=True)) as parts:
            async for namespace, mode, data in parts:
                if mode == "tasks":
                    await steps.task(namespace, data)
                elif mode == "messages" and self._streams:
                    chunk, metadata = data
                    if _top_node(metadata) in nodes and isinstance(chunk, AIMessage):
                        await answer.add(chunk)
                elif mode == "custom" and isinstance(data, Event):
                    await bridge.put(data)
                elif mode == "values" and not namespace:
                    state = data
        if not answer.begun:
            await answer.text(self._last(state))

    def _built(self, ctx: RunContext, client: httpx.AsyncClient, tools: Sequence[Tool]) -> Any:
        given = [graph_tool(tool) for tool in tools]
        offered.set(tuple(given))
        if self._is_graph:
            graph = self._graph
        else:
            graph = call_factory(
                self._graph,
                model=chat_model(ctx.endpoint, client),
                tools=given,
                context=ctx,
            )
        if hasattr(graph, "compile") and not hasattr(graph, "astream"):
            graph = graph.compile()
        if not hasattr(graph, "astream"):
            raise RunError(
                f"the graph's factory returned a {type(graph).__name__}; return a StateGraph, compiled or not"
            )
        return graph

    def _last(self, state: Any) -> str:
        if self._output is not None:
            return self._output(state)
        messages = state.get("messages") if isinstance(state, Mapping) else getattr(state, "messages", None)
        if not messages:
            raise RunError("the graph's last state holds no messages; give LangGraphAdapter an output= that reads it")
        last = messages[-1]
        if getattr(last, "type", "") != "ai":
            return ""
        if last.invalid_tool_calls and not last.text:
            names = ", ".join(str(call["name"]) for call in last.invalid_tool_calls)
            raise RunError(f"the model called {names} with arguments that are no JSON", code="model", retryable=True)
        return str(last.text)


def _load() -> None:
    importlib.import_module("langgraph.graph")
    if importlib.util.find_spec("langchain_openai") is not None:
        importlib.import_module("langchain_openai")


def _top_node(metadata: Mapping[str, Any]) -> str:
    namespace = str(metadata.get("langgraph_checkpoint_ns") or metadata.get("langgraph_node") or "")
    return namespace.partition("|")[0].partition(":")[0]


def _final_nodes(graph: Any) -> set[str]:
    drawn = graph.get_graph()
    return {edge.source for edge in drawn.edges if edge.target == "__end__"}
