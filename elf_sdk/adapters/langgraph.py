"""A team that is a LangGraph graph: tokens of its answering node become the answer, everything else becomes steps.

LangGraph and LangChain are imported when a run begins, never before.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import orjson

from elf_sdk.adapters.base import Bridge, bridged, call_factory, checked_factory, in_thread, need
from elf_sdk.adapters.delegation import DelegateArguments, DelegateTool, delegate_tools
from elf_sdk.errors import BadInput
from elf_sdk.models.llm import Endpoint
from elf_sdk.runs.adapter import AdapterCapabilities, RunContext, RunError
from elf_sdk.runs.events import Event, Step, TextDelta, ToolCall, ToolResult, Usage

if TYPE_CHECKING:
    import httpx
    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages.ai import UsageMetadata
    from langchain_core.outputs import LLMResult
    from langchain_core.tools import BaseTool

__all__ = ["LangGraphAdapter", "chat_model"]

_OFFERED: Final = ("model", "tools", "context")

InputMapping = Callable[[RunContext, list[Any]], Any]
OutputMapping = Callable[[Any], str]


class LangGraphAdapter:
    """Runs a graph as a team.

    Args:
        graph: a compiled graph, or a factory of one, called for each run. A factory names what it wants among its
            parameters: `model` (LangChain's chat model for the team's `llm:`), `tools` (a tool for each team that
            work may be proposed to), `context` (the `RunContext`); or it names nothing. A graph that is not compiled
            yet is compiled.
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
        async with _connections(ctx.endpoint) as client:
            await self._stream(ctx, bridge, client)

    async def _stream(self, ctx: RunContext, bridge: Bridge, client: httpx.AsyncClient) -> None:
        from langchain_core.messages import AIMessage, HumanMessage

        graph = self._built(ctx, bridge, client)
        nodes = _final_nodes(graph) if self._answer_node is None else {self._answer_node}
        messages = [
            HumanMessage(turn.text) if turn.role == "user" else AIMessage(turn.text) for turn in await ctx.history()
        ] + [HumanMessage(ctx.text)]
        given = self._input(ctx, messages) if self._input else {"messages": messages}
        config = {
            "callbacks": [_watcher(bridge, ctx.endpoint.model)],
            # The messages carry the conversation, so a graph's own checkpointer must not add it a second time.
            "configurable": {"thread_id": f"{ctx.owner.key}:{ctx.conversation}:{ctx.run_id}"},
        }
        answer = _Answer(bridge)
        state: Any = None
        steps = _Steps(bridge)
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

    def _built(self, ctx: RunContext, bridge: Bridge, client: httpx.AsyncClient) -> Any:
        if self._is_graph:
            graph = self._graph
        else:
            graph = call_factory(
                self._graph,
                model=chat_model(ctx.endpoint, client),
                tools=[_tool(tool) for tool in delegate_tools(ctx, bridge.push)],
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
        return str(last.text) if getattr(last, "type", "") == "ai" else ""


def _load() -> None:
    importlib.import_module("langgraph.graph")
    if importlib.util.find_spec("langchain_openai") is not None:
        importlib.import_module("langchain_openai")


class _Answer:
    """The answer as it grows; a blank line separates what different messages said."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._message: str | None = None
        self.begun = False

    async def add(self, message: Any) -> None:
        text = str(message.text)
        if not text:
            return
        if self.begun and message.id != self._message:
            await self._bridge.put(TextDelta("\n\n"))
        self._message = message.id
        await self.text(text)

    async def text(self, text: str) -> None:
        if text:
            self.begun = True
            await self._bridge.put(TextDelta(text))


class _Steps:
    """Nodes of the graph itself, and of its subgraphs under their parents' names, as steps."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    async def task(self, namespace: tuple[str, ...], data: Mapping[str, Any]) -> None:
        name = "/".join([*(part.partition(":")[0] for part in namespace), str(data["name"])])
        # A task is announced with its input, and reported with its result.
        await self._bridge.put(Step(name, "start" if "input" in data else "end"))


def _top_node(metadata: Mapping[str, Any]) -> str:
    namespace = str(metadata.get("langgraph_checkpoint_ns") or metadata.get("langgraph_node") or "")
    return namespace.partition("|")[0].partition(":")[0]


def _final_nodes(graph: Any) -> set[str]:
    drawn = graph.get_graph()
    return {edge.source for edge in drawn.edges if edge.target == "__end__"}


def _usage(model: str, usage: UsageMetadata) -> Usage:
    took, gave = usage.get("input_token_details") or {}, usage.get("output_token_details") or {}
    return Usage(
        model,
        usage["input_tokens"],
        usage["output_tokens"],
        cached_tokens=took.get("cache_read") or 0,
        reasoning_tokens=gave.get("reasoning") or 0,
    )


def _watcher(bridge: Bridge, model: str) -> BaseCallbackHandler:
    """LangChain's callbacks as events: every model call and tool call, in whatever node, subgraph or thread."""
    from langchain_core.callbacks import BaseCallbackHandler

    class Watcher(BaseCallbackHandler):
        run_inline = True  # in order, and not on another thread
        raise_error = True  # so that a closed run ends

        def on_llm_end(self, response: LLMResult, **_: Any) -> None:
            for generation in (one for several in response.generations for one in several):
                usage = getattr(getattr(generation, "message", None), "usage_metadata", None)
                if usage:
                    bridge.push(_usage(model, usage))

        def on_tool_start(
            self,
            serialized: dict[str, Any],
            input_str: str,
            *,
            run_id: UUID,
            inputs: dict[str, Any] | None = None,
            **_: Any,
        ) -> None:
            given = inputs or {"input": input_str}
            arguments = orjson.loads(orjson.dumps(given, default=str, option=orjson.OPT_NON_STR_KEYS))
            bridge.push(ToolCall(str(run_id), str((serialized or {}).get("name", "tool")), arguments))

        def on_tool_end(self, output: Any, *, run_id: UUID, **_: Any) -> None:
            failed = getattr(output, "status", "") == "error"
            bridge.push(ToolResult(str(run_id), str(getattr(output, "content", output)), failed))

        def on_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
            bridge.push(ToolResult(str(run_id), f"{type(error).__name__}: {error}", is_error=True))

    return Watcher()


@functools.cache
def _certificates() -> ssl.SSLContext:
    import httpx

    return httpx.create_ssl_context()  # costs tens of milliseconds, so once and not for each run


def _connections(endpoint: Endpoint) -> httpx.AsyncClient:
    """The connections of one run, closed with it; LangChain's own are never closed, and outlive their event loop."""
    import httpx

    return httpx.AsyncClient(verify=_certificates(), timeout=endpoint.timeout, follow_redirects=True)


def chat_model(endpoint: Endpoint, client: httpx.AsyncClient | None = None) -> BaseChatModel:
    """LangChain's own client for the team's model.

    Args:
        endpoint: the model.
        client: carries the asynchronous calls; by default LangChain's shared one.

    Raises:
        Missing: the provider's LangChain package is not installed.
    """
    if endpoint.provider == "anthropic":
        need("langchain_anthropic", "langchain-anthropic")
        # Not among the extras, so there is nothing to type-check against.
        model: BaseChatModel = importlib.import_module("langchain_anthropic").ChatAnthropic(
            model_name=endpoint.model,
            base_url=endpoint.base_url,
            api_key=endpoint.api_key,
            temperature=endpoint.temperature,
            timeout=endpoint.timeout,
            max_retries=endpoint.retries,
        )
        return model
    need("langchain_openai", "elf-sdk[langgraph]")
    from langchain_openai import ChatOpenAI
    from pydantic import SecretStr

    return ChatOpenAI(
        model=endpoint.model,
        base_url=endpoint.base_url,
        api_key=SecretStr(endpoint.api_key),
        temperature=endpoint.temperature,
        timeout=endpoint.timeout,
        max_retries=endpoint.retries,
        streaming=True,
        http_async_client=client,
        # LangChain leaves usage off for any address but OpenAI's own.
        stream_usage=True,
        use_responses_api=False,
    )


def _tool(tool: DelegateTool) -> BaseTool:
    from langchain_core.tools import StructuredTool

    return StructuredTool.from_function(
        func=tool.call, name=tool.name, description=tool.description, args_schema=DelegateArguments
    )
