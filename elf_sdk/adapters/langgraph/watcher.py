"""What a graph does, as events: LangChain's callbacks, in whatever node, subgraph or thread.

LangGraph's streams tell the same, but later: a task may have been written down as done before its reader has seen its
last word. Callbacks come while the task still runs.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import LLMResult
from langgraph.constants import TAG_HIDDEN, TAG_NOSTREAM
from langgraph.errors import GraphBubbleUp
from langgraph.types import Command
from pydantic import BaseModel

from elf_sdk.adapters.langgraph.journal import Journal, belongs
from elf_sdk.adapters.tools import NO_JSON, called, failed, returned
from elf_sdk.runs.events import Step, TextDelta, Usage

if TYPE_CHECKING:
    from elf_sdk.models.line import Line

__all__ = ["Answer", "Watcher"]


class Answer:
    """The answer as it grows; a blank line separates what different messages said.

    Args:
        journal: takes it.
        nodes: of the graph itself, whose messages are the answer; None for no messages at all.
        begun: whether something was said before.
    """

    def __init__(self, journal: Journal, nodes: Collection[str] | None, *, begun: bool) -> None:
        self._journal = journal
        self._nodes: Collection[str] = nodes or ()
        self._message: object = None
        self.begun = begun

    def is_from(self, task: str) -> bool:
        """Whether what this task says belongs to the answer."""
        return task.partition(":")[0] in self._nodes

    def add(self, text: str, message: object, task: str) -> None:
        """Take a piece of a message."""
        if not text:
            return
        if self.begun and message != self._message:
            text = f"\n\n{text}"
        self._message = message
        self.begun = True
        self._journal.say(TextDelta(text), task)


@dataclass(slots=True)
class _Call:
    """A call to a model.

    Attributes:
        task: in which it is.
        model: its name.
        said: whether its words belong to the answer.
        streamed: whether some of them came as pieces.
    """

    task: str
    model: str
    said: bool
    streamed: bool = False


class Watcher(BaseCallbackHandler):
    """Says what happens in a run.

    Args:
        journal: takes the events.
        answer: takes what answering nodes say.
        line: knows which model has answered.
    """

    run_inline = True
    """In order, and not on another thread."""
    raise_error = True
    """So that a closed run ends."""

    def __init__(self, journal: Journal, answer: Answer, line: Line) -> None:
        self._journal = journal
        self._answer = answer
        self._line = line
        self._calls: dict[UUID, _Call] = {}
        self._tools: dict[UUID, tuple[str, str]] = {}
        self._nodes: dict[UUID, str] = {}
        self._running: set[str] = set()
        # Tasks that have ended with something to say, behind what their authors wrote into the stream.
        self._ended: dict[str, list[AIMessage]] = {}
        # The tasks of the present step of each graph.
        self._steps: dict[str, tuple[object, set[str]]] = {}
        # Messages that were there before.
        self._given: set[str] = set()
        self.circle: list[str] = []

    def task_in(self, namespace: Sequence[str]) -> str:
        """The task of a graph's present step, where there is but one; else the graph, as `Journal` names it."""
        prefix = "".join(f"{part}|" for part in namespace)
        _, tasks = self._steps.get(prefix, (None, set[str]()))
        return next(iter(tasks)) if len(tasks) == 1 else prefix

    # Nodes.

    def on_chain_start(
        self,
        serialized: dict[str, Any] | None,
        inputs: Any,
        *,
        run_id: UUID,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **rest: Any,
    ) -> None:
        """A node begins, or something else that is none of ours."""
        if not metadata or rest.get("name") != metadata.get("langgraph_node") or (tags and TAG_HIDDEN in tags):
            return
        task = str(metadata["langgraph_checkpoint_ns"])
        if task in self._running:
            # A graph of the same name as the node that it is.
            return
        self._nodes[run_id] = task
        self._running.add(task)
        graph = task[: task.rfind("|") + 1]
        step, tasks = self._steps.get(graph, (None, set[str]()))
        self._steps[graph] = (
            (step, tasks | {task}) if step == metadata["langgraph_step"] else (metadata["langgraph_step"], {task})
        )
        self._given |= {message.id for message in _messages(inputs) if message.id is not None}
        name = _name(task)
        if "/" not in name:
            self.circle = [*self.circle[-99:], name]
        self._journal.say(Step(name), task)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        """A node ends; what it returned may hold messages that no model has said."""
        task = self._nodes.get(run_id)
        if task is None:
            return
        messages: list[AIMessage] = []
        for message in _messages(outputs):
            # With an id, so that the graph around this one does not say it again.
            message.id = message.id or str(uuid.uuid4())
            known = message.id in self._given or message.id in self._journal.known
            if isinstance(message, AIMessage) and not known:
                messages.append(message)
        self._end(run_id, task, messages)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """A node failed, or stopped for a question."""
        if (task := self._nodes.get(run_id)) is not None:
            self._end(run_id, task, [])
            self._conclude(task)

    def _end(self, run_id: UUID, task: str, messages: list[AIMessage]) -> None:
        del self._nodes[run_id]
        self._running.discard(task)
        self._ended[task] = messages

    def seen(self, metadata: Mapping[str, Any]) -> None:
        """The stream has come to a message; what its task has written into it was before."""
        self._conclude(str(metadata.get("langgraph_checkpoint_ns")))

    def finished(self, namespace: str, task_id: str | None) -> dict[str, bytes]:
        """A task, or a step of a graph, is about to count as done; see `saver.Finished`."""
        for task in list(self._ended):
            if belongs(task, namespace, task_id):
                self._conclude(task)
        return self._journal.finished(namespace, task_id)

    def end(self) -> None:
        """The graph has come to its end."""
        for task in list(self._ended):
            self._conclude(task)

    def _conclude(self, task: str) -> None:
        messages = self._ended.pop(task, None)
        if messages is None:
            return
        for message in messages:
            assert message.id is not None  # noqa: S101 - it was given one
            if self._answer.is_from(task):
                self._answer.add(str(message.text), message.id, task)
                self._journal.know(message.id, task)
            else:
                self._given.add(message.id)
        self._journal.say(Step(_name(task), "end"), task)

    # Models.

    def on_chat_model_start(
        self,
        serialized: dict[str, Any] | None,
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """A model is asked."""
        self._begin(run_id, metadata or {}, said=not (tags and TAG_NOSTREAM in tags))

    def on_llm_start(
        self,
        serialized: dict[str, Any] | None,
        prompts: list[str],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """A model that completes text is asked; what the node makes of it is said."""
        self._begin(run_id, metadata or {}, said=False)

    def _begin(self, run_id: UUID, metadata: Mapping[str, Any], *, said: bool) -> None:
        task = str(metadata.get("langgraph_checkpoint_ns") or "")
        model = str(metadata.get("ls_model_name") or self._line.endpoint.model)
        self._calls[run_id] = _Call(task, model, said and self._answer.is_from(task))

    def on_llm_new_token(self, token: Any, *, chunk: Any = None, run_id: UUID, **_: Any) -> None:
        """A model says a piece."""
        call = self._calls.get(run_id)
        message = getattr(chunk, "message", None)
        if call is not None and call.said and message is not None:
            call.streamed = True
            # Text alone: what it thinks is no answer.
            self._answer.add(str(message.text), run_id, call.task)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        """A model has said all."""
        call = self._calls.pop(run_id, None)
        if call is None:
            return
        for generation in (one for several in response.generations for one in several):
            message = getattr(generation, "message", None)
            if message is None:
                continue
            if call.said and not call.streamed:
                self._answer.add(str(message.text), run_id, call.task)
            if call.said and message.id is not None:
                self._journal.know(message.id, call.task)
            if usage := getattr(message, "usage_metadata", None):
                self._journal.say(_usage(message, usage, call.model, self._line), call.task)
            for broken in getattr(message, "invalid_tool_calls", ()):
                # LangChain sets it aside, and begins no call.
                call_id = str(broken["id"])
                self._journal.say(called(call_id, str(broken["name"]), broken["args"]), call.task)
                self._journal.say(failed(call_id, NO_JSON), call.task)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """A model failed; whoever called it decides what that means."""
        self._calls.pop(run_id, None)

    # Tools.

    def on_tool_start(
        self,
        serialized: dict[str, Any] | None,
        input_str: str,
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        inputs: dict[str, Any] | None = None,
        tool_call_id: str | None = None,
        **_: Any,
    ) -> None:
        """A tool is called."""
        given = {"input": input_str} if inputs is None else inputs
        task = str((metadata or {}).get("langgraph_checkpoint_ns") or "")
        # The model's own id of the call, which is the same when a question makes the call come again.
        call_id = tool_call_id or str(run_id)
        self._tools[run_id] = call_id, task
        self._journal.say(called(call_id, str((serialized or {}).get("name", "tool")), given), task)

    def on_tool_end(self, output: Any, *, run_id: UUID, **_: Any) -> None:
        """A tool answered."""
        call_id, task = self._tools.pop(run_id, (str(run_id), ""))
        is_error = getattr(output, "status", "") == "error"
        self._journal.say(returned(call_id, str(getattr(output, "content", output)), is_error=is_error), task)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """A tool failed; or it asks a person, and is called again with the answer."""
        call_id, task = self._tools.pop(run_id, (str(run_id), ""))
        if not isinstance(error, GraphBubbleUp):
            self._journal.say(failed(call_id, error), task)


def _name(task: str) -> str:
    """`outer/inner` for `outer:1f|inner:9c`; a number alone tells the calls of one graph in one task apart."""
    return "/".join(part.partition(":")[0] for part in task.split("|") if not part.isdigit())


def _messages(value: Any) -> Iterator[BaseMessage]:
    """The messages in what a node takes or returns, at its top or in its fields."""
    if isinstance(value, BaseMessage):
        yield value
    elif isinstance(value, Command):
        yield from _messages(value.update)
    elif isinstance(value, list | tuple):
        for item in value:
            if isinstance(item, BaseMessage | Command):
                yield from _messages(item)
    else:
        for field in _fields(value):
            if isinstance(field, BaseMessage):
                yield field
            elif isinstance(field, list | tuple):
                yield from (item for item in field if isinstance(item, BaseMessage))


def _fields(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, BaseModel):
        return [getattr(value, name) for name in type(value).model_fields]
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name) for field in fields(value)]
    return []


def _usage(message: Any, usage: UsageMetadata, asked: str, line: Line) -> Usage:
    # OpenAI's client and Anthropic's tell the name in the answer under different names.
    metadata = getattr(message, "response_metadata", None) or {}
    model, provider = line.named(str(metadata.get("model_name") or metadata.get("model") or asked))
    took, gave = usage.get("input_token_details") or {}, usage.get("output_token_details") or {}
    return Usage(
        model,
        usage["input_tokens"],
        usage["output_tokens"],
        cached_tokens=took.get("cache_read") or 0,
        reasoning_tokens=gave.get("reasoning") or 0,
        provider=provider,
    )
