"""A team that is a LangGraph graph: tokens of its answering node become the answer, everything else becomes steps.

LangGraph and LangChain are imported when a run begins, never before, unless the team has done so already.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import inspect
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from elf_sdk.adapters.base import (
    Bridge,
    bridged,
    call_factory,
    checked_factory,
    checked_name,
    in_thread,
    named,
    need,
)
from elf_sdk.adapters.langgraph.journal import Journal, amends
from elf_sdk.adapters.langgraph.model import chat_model, line_of, unusable
from elf_sdk.adapters.langgraph.questions import prompt, resumed
from elf_sdk.adapters.langgraph.tool import graph_place, graph_tool
from elf_sdk.adapters.toolbox import open_tools
from elf_sdk.adapters.tools import offered
from elf_sdk.errors import BadInput
from elf_sdk.runs.adapter import AdapterCapabilities, RunContext, RunError
from elf_sdk.runs.events import Artifact, Event, InputRequired, TextDelta

if TYPE_CHECKING:
    from elf_sdk.adapters.langgraph.saver import RunSaver
    from elf_sdk.adapters.langgraph.serializer import StrictSerializer
    from elf_sdk.adapters.langgraph.shape import Shape
    from elf_sdk.models.line import Line

__all__ = ["LangGraphAdapter"]

_PROMPT: Final = 200
"""Characters of a question that are repeated."""
_OFFERED: Final = ("model", "tools", "context")

InputMapping = Callable[[RunContext, list[Any]], Any]
OutputMapping = Callable[[Any], str]
ContextMapping = Callable[[RunContext], Any]


class LangGraphAdapter:
    """Runs a graph as a team.

    A run goes on where it was after a crash or a question, whatever checkpointer the graph was compiled with: each run
    gets a copy of the graph with one of its own. Only nodes that were not done are run again.

    Args:
        graph: a compiled graph, or a factory of one, called for each run; it may be a coroutine. A factory names what
            it wants among its parameters: `model` (LangChain's chat model for the team's `llm:`), `tools` (those of the
            team's MCP servers, and one for each team that work may be proposed to), `context` (the `RunContext`); or it
            names nothing. A graph that is not compiled yet is compiled. Agents of `langchain.agents.create_agent`, and
            functions with `@entrypoint`, are graphs too. A node of a compiled graph gets the tools by
            `elf_sdk.team_tools()`. Or the name of one of these, such as `"shop.graph:graph"`: it is then imported in
            the processes of runs alone, where clients that it makes by itself find the team's model.
        answer_node: the node whose tokens are the answer. By default every node with an edge to the end. The other
            nodes show as steps.
        input: the graph's input for a run and its messages (earlier ones, then what was asked). By default
            `{"messages": messages}`; where the state has no messages, what was asked as its only text field, or as the
            one that is called so: `question`, `input`, `query`, `topic`, …
        output: the answer in the graph's last state; by default the text of the last AI message, or a text field that
            is found like that of the input: `answer`, `output`, `result`, … Given without `answer_node`, the answer is
            this text alone, and no tokens are streamed.
        context: the graph's runtime context for a run, where the graph has a `context_schema`. By default an instance
            of it, where one can be made of its defaults.

    Raises:
        BadInput: this is no graph, the factory wants something that there is not, or what to give to the graph cannot
            be guessed.
        Missing: LangGraph is not installed.
    """

    name = "langgraph"

    def __init__(
        self,
        graph: Any,
        *,
        answer_node: str | None = None,
        input: InputMapping | None = None,  # noqa: A002 - LangGraph's own word for it
        output: OutputMapping | None = None,
        context: ContextMapping | None = None,
    ) -> None:
        need("langgraph", "elf-sdk[langgraph]")
        self._answer_node = answer_node
        self._input = input
        self._output = output
        self._context = context
        self._streams = output is None or answer_node is not None
        self._factory: Callable[..., Any] | None = None
        self._wants: frozenset[str] = frozenset()
        self._graph: Any = None
        self._shape: Shape | None = None
        self._serializer: StrictSerializer | None = None
        self._named = checked_name(graph, "shop.graph:graph") if isinstance(graph, str) else ""
        if not self._named:
            self._take(graph)
        blocking = self._may_block()
        # A node that is no coroutine runs on in its thread until its present call is done.
        self.capabilities = AdapterCapabilities(
            stream=self._streams,
            human=True,
            cancel="cooperative" if blocking else "certain",
            recover=True,
            blocking=blocking,
        )

    def run(self, ctx: RunContext) -> AsyncGenerator[Event, None]:
        """Do the work of one run; see `Adapter.run`."""
        return bridged(ctx, lambda bridge: self._work(ctx, bridge))

    def warm(self) -> None:
        """Import LangGraph and what every run needs of it, which takes seconds; and the graph, where it is named."""
        _load()
        self._find()

    def _find(self) -> None:
        """Import the graph, where it is named and was not imported yet."""
        if self._named and self._graph is None and self._factory is None:
            self._take(named(self._named))

    def _may_block(self) -> bool:
        # What is only named, or is built for a run, is seen then.
        return self._graph is None or _is_blocking(self._graph)

    def _take(self, graph: Any) -> None:
        if hasattr(graph, "astream") or hasattr(graph, "compile"):
            compiled = _compiled(graph)
            self._shape = self._shape_of(compiled)
            self._graph = compiled
        elif callable(graph):
            self._wants = frozenset(inspect.signature(graph).parameters)
            self._factory = checked_factory(graph, _OFFERED, self.name)
        else:
            raise BadInput(f"LangGraphAdapter takes a graph or a function that builds one, not {graph!r}")

    async def _work(self, ctx: RunContext, bridge: Bridge) -> None:
        if not sys.modules.keys() >= _LOADED:
            # It takes seconds; the server's loop goes on meanwhile.
            await in_thread(_load)
        if self._named:
            await in_thread(self._find)
        from elf_sdk.adapters.langgraph.saver import RunSaver
        from elf_sdk.adapters.langgraph.serializer import StrictSerializer

        journal = Journal(bridge)
        self._serializer = self._serializer or StrictSerializer()
        saver = RunSaver(ctx.checkpoints, self._serializer)
        if ctx.attempt > 1 or ctx.answers:
            await saver.open()
            await journal.open(ctx.checkpoints)
            if unanswered := [asked for asked in saver.pending(_thread(ctx)) if asked.id not in ctx.answers]:
                # It goes on when all are answered.
                for asked in unanswered:
                    bridge.push(InputRequired(asked.id, prompt(asked)))
                return
            for event in amends(ctx.before, journal.kept, cut_off=ctx.attempt > 1):
                journal.repeat(event)
        async with (
            line_of(ctx.endpoint, ctx.deadline) as line,
            open_tools(ctx, lambda event: journal.say(event, _task()), place=graph_place) as tools,
        ):
            given = [graph_tool(tool) for tool in tools]
            offered.set(tuple(given))
            graph = self._graph or await self._built(ctx, line, given)
            await self._stream(ctx, journal, saver, graph, self._shape or self._shape_of(graph), line)

    async def _stream(
        self, ctx: RunContext, journal: Journal, saver: RunSaver, graph: Any, shape: Shape, line: Line
    ) -> None:
        from elf_sdk.adapters.langgraph.custom import custom_event
        from elf_sdk.adapters.langgraph.failure import explained, lacking
        from elf_sdk.adapters.langgraph.shape import default_context
        from elf_sdk.adapters.langgraph.watcher import Answer, Watcher

        nodes = None if not self._streams else shape.answering if self._answer_node is None else {self._answer_node}
        said = any(isinstance(event, TextDelta) for event in journal.kept)
        answer = Answer(journal, nodes, begun=said)
        watcher = Watcher(journal, answer, line)
        saver.finished = watcher.finished
        written = sum(isinstance(event, Artifact) and event.name == "custom" for event in journal.kept)
        config = {
            "callbacks": [watcher],
            "configurable": {"thread_id": _thread(ctx)},
        }
        # Messages are streamed so that models do; what they say comes by the watcher, before a node counts as done.
        modes = ["messages", "custom", "values"] if self._streams else ["custom", "values"]
        # Runs at the same time share the graph, but not this.
        own = copy.copy(graph)
        own.checkpointer = saver
        state = context = None
        try:
            given = await self._given(ctx, saver, shape)
            if ctx.answers and given is not None and saver.begun(_thread(ctx)):
                await _refuse_changed(own, config, saver.pending(_thread(ctx)))
            context = self._context(ctx) if self._context else default_context(graph)
            async with aclosing(
                own.astream(given, config, context=context, stream_mode=modes, subgraphs=True, durability="sync")
            ) as parts:
                async for namespace, mode, data in parts:
                    if mode == "messages":
                        watcher.seen(data[1])
                    elif mode == "values" and not namespace:
                        state = data
                    elif mode == "custom":
                        written += 1
                        event = custom_event(data, written)
                        task = watcher.task_in(namespace)
                        if isinstance(event, TextDelta):
                            answer.add(event.text, answer, task)
                        else:
                            journal.say(event, task)
            watcher.end()
        except Exception as error:
            known = explained(error, shape, watcher.circle) or lacking(error, graph, context)
            if known is None:
                raise
            raise known from error
        if asked := saver.pending(_thread(ctx)):
            for interrupt in asked:
                journal.repeat(InputRequired(interrupt.id, prompt(interrupt)))
        elif (graph.interrupt_before_nodes or graph.interrupt_after_nodes) and (stopped := await _stopped(own, config)):
            journal.repeat(stopped)
        else:
            self._conclude(state, answer, journal, shape, line)

    async def _given(self, ctx: RunContext, saver: RunSaver, shape: Shape) -> Any:
        """What the graph is called with: its input, the answers to its questions, or None to go on."""
        from langchain_core.messages import AIMessage, HumanMessage
        from langgraph.types import Command

        if saver.begun(_thread(ctx)):
            answers = {asked.id: resumed(asked, ctx.answers[asked.id]) for asked in saver.pending(_thread(ctx))}
            return Command(resume=answers) if answers else None
        messages = [
            HumanMessage(turn.text) if turn.role == "user" else AIMessage(turn.text) for turn in await ctx.history()
        ] + [HumanMessage(ctx.text)]
        return self._input(ctx, messages) if self._input else shape.given(ctx, messages)

    async def _built(self, ctx: RunContext, line: Line, tools: Sequence[Any]) -> Any:
        factory = self._factory
        assert factory is not None  # noqa: S101 - there is a graph or a factory
        parts: dict[str, Any] = {"context": ctx, "tools": tools}
        if "model" in self._wants:
            parts["model"] = chat_model(ctx.endpoint, line)
        if inspect.iscoroutinefunction(factory):
            built = await call_factory(factory, **parts)
        else:
            built = await in_thread(lambda: call_factory(factory, **parts))
            if inspect.isawaitable(built):
                built = await built
        if not (hasattr(built, "astream") or hasattr(built, "compile")):
            raise RunError(
                f"the graph's factory returned a {type(built).__name__}; return a StateGraph, compiled or not"
            )
        try:
            return _compiled(built)
        except BadInput as error:
            raise RunError(str(error)) from error

    def _shape_of(self, graph: Any) -> Shape:
        from elf_sdk.adapters.langgraph.shape import shape_of

        shape = shape_of(graph)
        if self._answer_node is not None and self._answer_node not in graph.nodes:
            names = ", ".join(name for name in graph.nodes if not name.startswith("__"))
            raise BadInput(f"the graph has no node {self._answer_node!r} to give the answer; its nodes are {names}")
        if self._input is None and shape.fields is not None and not shape.takes:
            raise BadInput(shape.unclear_input)
        return shape

    def _conclude(self, state: Any, answer: Any, journal: Journal, shape: Shape, line: Line) -> None:
        """Say what is in the last state and was not said yet."""
        structured = state.get("structured_response") if isinstance(state, Mapping) else None
        if structured is not None:
            data = structured.model_dump(mode="json") if hasattr(structured, "model_dump") else structured
            name = "structured_response"
            journal.say(Artifact(name, name, "application/json", data=data))
        if answer.begun:
            return
        if self._output is None and (wrong := unusable(shape.last_message(state), line)):
            raise wrong
        text = self._output(state) if self._output is not None else shape.answer(state)
        answer.add(text, state, "")


_LOADED: Final = frozenset({"langgraph.graph", "elf_sdk.adapters.langgraph.watcher"})


def _load() -> None:
    for name in ("saver", "watcher", "shape", "failure"):
        importlib.import_module(f"elf_sdk.adapters.langgraph.{name}")
    for name in ("langgraph.graph", "elf_sdk.models.line", "elf_sdk.adapters.failure"):
        importlib.import_module(name)
    if importlib.util.find_spec("langchain_openai") is not None:
        importlib.import_module("langchain_openai")
        # What OpenAI's client and the connection leave to the first question, which each forked process asks anew: half
        # a thousand modules, and a second.
        for name in ("openai.resources.chat.completions", "httpcore", "anyio._backends._asyncio"):
            importlib.import_module(name)


def _compiled(graph: Any) -> Any:
    if hasattr(graph, "compile") and not hasattr(graph, "astream"):
        graph = graph.compile()
    if not (hasattr(graph, "nodes") and hasattr(graph, "checkpointer")):
        raise BadInput(
            f"LangGraphAdapter takes a graph, and a {type(graph).__name__} is a runnable of another kind; make it the "
            "node of a StateGraph"
        )
    return graph


def _thread(ctx: RunContext) -> str:
    return f"{ctx.owner.key}:{ctx.conversation}:{ctx.run_id}"


def _is_blocking(graph: Any) -> bool:
    from elf_sdk.adapters.langgraph.shape import is_blocking

    return is_blocking(graph)


def _task() -> str:
    """The task that calls this, in whatever thread it is."""
    from langchain_core.runnables.config import ensure_config

    return str(ensure_config()["metadata"].get("langgraph_checkpoint_ns") or "")


async def _refuse_changed(graph: Any, config: Mapping[str, Any], asked: Sequence[Any]) -> None:
    """Refuse to go on with a graph that has lost the node which asked: it would come to its end at once."""
    if not (await graph.aget_state(config)).next:
        raise RunError(
            f"the graph has changed since it asked {prompt(asked[0])[:_PROMPT]!r}: the node that waits for the answer "
            "is gone; send it again to begin anew"
        )


async def _stopped(graph: Any, config: Mapping[str, Any]) -> InputRequired | None:
    """The question of a graph that was compiled to stop before or after some of its nodes."""
    snapshot = await graph.aget_state(config)
    if not snapshot.next:
        return None
    nodes = ", ".join(snapshot.next)
    place = snapshot.config["configurable"]["checkpoint_id"]
    return InputRequired(f"breakpoint-{place}", f"The graph stopped before {nodes}. Any answer lets it go on.")
