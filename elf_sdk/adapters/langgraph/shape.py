"""What can be told of a graph without running it: who answers, what goes in and out, and whether it holds up a loop."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, Final, get_type_hints

import orjson
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables.config import run_in_executor
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.prebuilt import ToolNode
from langgraph.pregel import Pregel
from pydantic import BaseModel

from elf_sdk.runs.adapter import RunContext, RunError

__all__ = ["Shape", "default_context", "shape_of"]

_ASKED: Final = ("question", "input", "query", "topic", "prompt", "request", "message", "text", "task")
_ANSWERED: Final = ("answer", "output", "result", "response", "final_answer", "report", "summary", "text")
"""What authors call these fields, the likeliest first."""
_FRAMEWORK: Final = ("langgraph.", "langchain.", "langchain_core.")
_HOOKS: Final = (".after_model", ".after_agent")


@dataclass(frozen=True, slots=True)
class Shape:
    """What can be told of a graph.

    Attributes:
        answering: nodes whose messages are the answer: those with an edge to the end.
        fields: of the state that the graph takes; None for a graph that is no `StateGraph`.
        takes: the field for what was asked, `messages` for the whole conversation; empty where neither can be guessed.
        gives: the field that holds the answer, in the same way.
    """

    answering: frozenset[str]
    fields: tuple[str, ...] | None
    takes: str
    gives: str

    def given(self, ctx: RunContext, messages: Sequence[Any]) -> Any:
        """The graph's input for a run.

        Raises:
            RunError: it cannot be guessed; the message says what to give.
        """
        if self.fields is None:
            return list(messages) if self.takes == "messages" else ctx.text
        if self.takes == "messages":
            return {"messages": list(messages)}
        if not self.takes:
            raise RunError(self.unclear_input)
        return {self.takes: ctx.text}

    @property
    def unclear_input(self) -> str:
        """What to say where the input cannot be guessed."""
        names = ", ".join(self.fields or ())
        example = (self.fields or ("question",))[0]
        return (
            f"the graph's state has the fields {names} and no messages, and which of them takes the question cannot be "
            f"guessed; say so: LangGraphAdapter(graph, input=lambda ctx, messages: {{{example!r}: ctx.text}})"
        )

    def last_message(self, state: Any) -> Any:
        """The last message in the graph's last state, or None where it holds none."""
        messages = None if self.fields is None and not isinstance(state, Mapping) else _field(state, "messages")
        return messages[-1] if messages else None

    def answer(self, state: Any) -> str:
        """The answer in the graph's last state.

        Raises:
            RunError: it cannot be guessed; the message says what to give.
        """
        if self.fields is None and not isinstance(state, Mapping):
            return _text(state)
        last = self.last_message(state)
        if last is not None:
            return str(last.text) if isinstance(last, AIMessage) else ""
        if self.gives and (found := _field(state, self.gives)) is not None:
            return _text(found)
        if _field(state, "structured_response") is not None:
            return ""
        names = ", ".join(state) if isinstance(state, Mapping) else type(state).__name__
        raise RunError(
            f"the graph's last state holds no messages, and which of its fields ({names}) is the answer cannot be "
            "guessed; give LangGraphAdapter an output= that reads it"
        )


def shape_of(graph: Any) -> Shape:
    """Look at a compiled graph."""
    drawn = graph.get_graph()
    answering = {edge.source for edge in drawn.edges if edge.target == "__end__"}
    if any(name.endswith(_HOOKS) for name in answering) and "model" in graph.nodes:
        # LangChain's agents end in what looks at their answer, and not in what gives it.
        answering = {name for name in answering if not name.endswith(_HOOKS)} | {"model"}
    builder = getattr(graph, "builder", None)
    if builder is None:
        kind = graph.get_input_jsonschema()
        takes = "messages" if kind.get("type") == "array" else "text"
        return Shape(frozenset(answering), None, takes, "")
    inputs, outputs = _fields(builder.input_schema), _fields(builder.output_schema)
    takes = _guess(inputs, _ASKED)
    # Where there is one field in all, it is what was asked and then the answer.
    gives = _guess(outputs, _ANSWERED, but="" if len(outputs) == 1 else takes)
    return Shape(frozenset(answering), tuple(inputs), takes, gives)


def default_context(graph: Any) -> object:
    """The runtime context of a graph, made of its schema's defaults; None where it has none, or some are missing.

    A `TypedDict` has none, and LangGraph takes an empty one for nothing.
    """
    schema = getattr(graph, "context_schema", None)
    if not inspect.isclass(schema):
        return None
    if issubclass(schema, BaseModel):
        bare = not any(field.is_required() for field in schema.model_fields.values())
    else:
        bare = is_dataclass(schema) and not any(
            field.init and field.default is MISSING and field.default_factory is MISSING for field in fields(schema)
        )
    return schema() if bare else None


def is_blocking(graph: Any) -> bool:
    """Whether any node, conditional edge or tool of a compiled graph is a plain function, as far as can be told."""
    for node in graph.nodes.values():
        if _blocks(node.bound):
            return True
    builder = getattr(graph, "builder", None)
    branches = {} if builder is None else builder.branches
    return any(_blocks(branch.path) for several in branches.values() for branch in several.values())


def _blocks(runnable: Any) -> bool:
    if isinstance(runnable, Pregel):
        return is_blocking(runnable)
    if isinstance(runnable, ToolNode):
        return any(_tool_blocks(tool) for tool in runnable.tools_by_name.values())
    if isinstance(runnable, BaseChatModel):
        own = type(runnable)
        return own._agenerate is BaseChatModel._agenerate and own._astream is BaseChatModel._astream
    function, coroutine = getattr(runnable, "func", None), getattr(runnable, "afunc", None)
    if function is None and coroutine is None:
        # Another kind of runnable, of which nothing is known.
        return True
    if function is None or getattr(function, "__module__", "").startswith(_FRAMEWORK):
        return False
    return coroutine is None or (isinstance(coroutine, functools.partial) and coroutine.func is run_in_executor)


def _tool_blocks(tool: BaseTool) -> bool:
    if isinstance(tool, StructuredTool):
        return tool.coroutine is None
    return type(tool)._arun is BaseTool._arun


def _fields(schema: Any) -> dict[str, Any]:
    """The fields of a state's schema with their types, as far as these can be told."""
    names = list(getattr(schema, "model_fields", None) or getattr(schema, "__annotations__", {}))
    try:
        hints = get_type_hints(schema)
    except (NameError, TypeError):
        # Types that only a type checker sees.
        hints = dict.fromkeys(names, Any)
    return dict(hints)


def _guess(fields: Mapping[str, Any], likely: Sequence[str], but: str = "") -> str:
    if "messages" in fields:
        return "messages"
    texts = [name for name, kind in fields.items() if kind in (str, Any) or kind == str | None]
    texts = [name for name in texts if name != but]
    named = [name for name in likely if name in texts]
    if len(named) == 1:
        return named[0]
    return texts[0] if len(texts) == 1 else ""


def _field(state: Any, name: str) -> Any:
    return state.get(name) if isinstance(state, Mapping) else getattr(state, name, None)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, AIMessage):
        return str(value.text)
    if isinstance(value, list) and value and isinstance(value[-1], AIMessage):
        return str(value[-1].text)
    if value is None:
        return ""
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
