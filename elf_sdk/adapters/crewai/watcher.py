"""CrewAI's events of one run, as ours."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from elf_sdk.adapters.base import Bridge, Closed
from elf_sdk.adapters.tools import NO_JSON, called, failed, returned
from elf_sdk.runs.events import Step, TextDelta, Usage

if TYPE_CHECKING:
    from elf_sdk.models.line import Line

__all__ = ["Answer", "Watcher", "step_name"]

_COWORKERS: Final = {"delegate_work_to_coworker": "delegates to", "ask_question_to_coworker": "asks"}
"""CrewAI's own tools by which agents of a crew work for each other."""

_PLANNER: Final = "Task Execution Planner"
"""The role of the agent that plans a crew's tasks, in a task that is none of the crew's."""

_METHOD: ContextVar[tuple[int, str]] = ContextVar("elf_crewai_method", default=(0, ""))
"""The flow and the method of it that is at work: CrewAI's own variable also names its agents' inner steps."""


class Watcher:
    """CrewAI's events of one run, from whatever thread, as ours.

    Args:
        bridge: takes our events.
        answer: takes what may be the answer.
        line: knows which model has answered.
        work: the crew or flow of the run; others may be run by its tools and methods.
        finished: told of each task that is done, with its output, before anything else is.
    """

    def __init__(
        self,
        bridge: Bridge,
        answer: Answer,
        line: Line,
        work: Any,
        finished: Callable[[Any, Any], None] | None = None,
    ) -> None:
        self._bridge = bridge
        self._answer = answer
        self._line = line
        self._work = work
        self._speaking = _last_methods(work)
        self._finished = finished
        self._asked: dict[str, Step] = {}
        self.crew_said = ""
        """What the latest crew that is done answered."""
        self._handlers: Mapping[str, Callable[[Any, Any], None]] = {
            "crew_kickoff_started": self._crew_started,
            "crew_kickoff_completed": self._crew_ended,
            "llm_stream_chunk": self._chunk,
            "llm_call_completed": self._called,
            "llm_call_failed": self._call_failed,
            "task_started": self._task,
            "task_completed": self._task,
            "task_failed": self._task,
            "tool_usage_started": self._tool,
            "tool_usage_finished": self._tool_ended,
            "tool_usage_error": self._tool_ended,
            "tool_failure_detected": self._tool_failed,
            "llm_guardrail_started": self._guardrail,
            "llm_guardrail_completed": self._guardrail,
            "agent_reasoning_started": self._reasoning,
            "agent_reasoning_completed": self._reasoning,
            "agent_reasoning_failed": self._reasoning,
            "method_execution_started": self._method,
            "method_execution_finished": self._method,
            "method_execution_failed": self._method,
            "method_execution_paused": self._method,
        }

    @property
    def kinds(self) -> frozenset[str]:
        """The names of CrewAI's events that are looked at."""
        return frozenset(self._handlers)

    def saw(self, source: Any, event: Any) -> None:
        """Take one of CrewAI's events.

        Raises:
            Closed: the run was closed; the work should end.
        """
        if self._bridge.closed:
            raise Closed
        handler = self._handlers.get(event.type)
        if handler is not None:
            handler(source, event)

    def _crew_started(self, crew: Any, event: Any) -> None:
        for agent in (*crew.agents, crew.manager_agent):
            if hasattr(getattr(agent, "llm", None), "stream"):
                agent.llm.stream = True
        for task in crew.tasks:
            if task.async_execution:
                _let_through(task)
        if crew is self._work or self._is_speaking():
            self._answer.listen(crew)

    def _crew_ended(self, crew: Any, event: Any) -> None:
        self.crew_said = str(getattr(event.output, "raw", ""))

    def _is_speaking(self) -> bool:
        from crewai.context import get_current_task_id

        flow, method = _METHOD.get()
        return flow == id(self._work) and method in self._speaking and get_current_task_id() is None

    def _chunk(self, source: Any, event: Any) -> None:
        if event.tool_call is None:
            direct = event.task_id is None and self._is_speaking()
            self._answer.add(event.task_id, event.agent_role, event.call_id, event.chunk, direct=direct)

    def _called(self, source: Any, event: Any) -> None:
        self._answer.call_ended(event.call_id)
        if event.usage:
            self._bridge.push(_usage(event.model, event.usage, self._line))

    def _call_failed(self, source: Any, event: Any) -> None:
        self._answer.call_ended(event.call_id)

    def _task(self, task: Any, event: Any) -> None:
        if event.type == "task_completed" and self._finished is not None:
            self._finished(event.task, event.output)
        role = str(getattr(getattr(event.task, "agent", None), "role", "")).strip()
        name = "planning" if role == _PLANNER else step_name(event.task)
        self._bridge.push(Step(name, "start" if event.type == "task_started" else "end", role))

    def _tool(self, source: Any, event: Any) -> None:
        call = called(event.event_id, event.tool_name, event.tool_args)
        self._bridge.push(call)
        if event.tool_name in _COWORKERS:
            coworker = " ".join(str(call.arguments.get("coworker", "")).split())
            who = " ".join(str(event.agent_role or "").split())
            step = Step(f"{who} {_COWORKERS[event.tool_name]} {coworker}".strip()[:160], "start", coworker)
            self._asked[event.event_id] = step
            self._bridge.push(step)

    def _tool_ended(self, source: Any, event: Any) -> None:
        call = event.started_event_id or ""
        if (step := self._asked.pop(call, None)) is not None:
            self._bridge.push(Step(step.name, "end", step.agent))
        if event.type == "tool_usage_error":
            self._bridge.push(failed(call, event.error))
        else:
            self._bridge.push(returned(call, str(event.output), is_error=event.failure is not None))

    def _tool_failed(self, source: Any, event: Any) -> None:
        if event.failure.code == "json_decode_error":
            # CrewAI tells the model, and begins no call.
            self._bridge.push(called(event.event_id, event.tool_name, event.tool_args))
            self._bridge.push(failed(event.event_id, NO_JSON))

    def _guardrail(self, source: Any, event: Any) -> None:
        name = f"guardrail, retry {event.retry_count}" if event.retry_count else "guardrail"
        phase = "start" if event.type == "llm_guardrail_started" else "end"
        self._bridge.push(Step(name, phase, str(event.agent_role or "").strip()))

    def _reasoning(self, source: Any, event: Any) -> None:
        phase = "start" if event.type == "agent_reasoning_started" else "end"
        self._bridge.push(Step("reasoning", phase, str(event.agent_role or "").strip()))

    def _method(self, flow: Any, event: Any) -> None:
        started = event.type == "method_execution_started"
        if started:
            _METHOD.set((id(flow), str(event.method_name)))
        self._bridge.push(Step(str(event.method_name), "start" if started else "end"))


def step_name(task: Any) -> str:
    """A task's name, or the beginning of its description, on one line."""
    return " ".join(str(task.name or task.description or "task").split())[:80]


def _let_through(task: Any) -> None:
    # The thread of such a task hands over exceptions, and not what ends a run, for which the crew would wait for ever.
    work = task._execute_task_async

    def carried(agent: Any, context: Any, tools: Any, future: Any) -> None:
        try:
            work(agent, context, tools, future)
        except BaseException as error:  # noqa: BLE001 - carried over to the thread that waits
            future.set_exception(error)

    object.__setattr__(task, "_execute_task_async", carried)


def _last_methods(work: Any) -> frozenset[str]:
    """The methods of a flow after which nothing comes, and whose output no person has to judge first."""
    if hasattr(work, "tasks"):
        return frozenset()
    methods = work._definition.methods
    heard = {name for method in methods.values() for name in (*_names(method.listen), *_names(method.start))}
    return frozenset(
        str(name)
        for name, method in methods.items()
        if str(name) not in heard and not method.router and method.human_feedback is None
    )


def _names(condition: Any) -> list[str]:
    if isinstance(condition, str):
        return [condition]
    if not isinstance(condition, Mapping):
        return []
    return [name for branches in condition.values() for branch in branches for name in _names(branch)]


def _usage(asked: str | None, used: Mapping[str, Any], line: Line) -> Usage:
    # CrewAI tells this in the thread of the call, and knows only the model that it asked for. If that is not the
    # team's, the crew has brought a model of its own.
    model, provider = line.named() if asked in (None, line.endpoint.model) else (str(asked), "")
    # The names differ from provider to provider; Anthropic's input is `input_tokens`.
    return Usage(
        model,
        int(used.get("prompt_tokens") or used.get("input_tokens") or 0),
        int(used.get("completion_tokens") or used.get("output_tokens") or 0),
        cached_tokens=int(used.get("cached_prompt_tokens") or 0),
        reasoning_tokens=int(used.get("reasoning_tokens") or 0),
        provider=provider,
    )


class Answer:
    """The answer as it grows, without the scaffolding of text-based tool use.

    In a crew it is what the last task's own agent says; in a flow, what the last methods' crews, agents and calls to a
    model say. Where only the end shows what counts (a guardrail, a structured output, a person who judges it, an agent
    that plans aloud) nothing is said before.
    """

    _MARKS: Final = ("Thought:", "Action:", "Final Answer:")
    _FINAL: Final = "Final Answer:"

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._speakers: dict[str, str] = {}
        self._said: list[str] = []
        self._call = ""
        self._talking = False
        self._late: set[str] = set()
        self._held: str | None = ""
        self._lock = threading.Lock()

    @property
    def begun(self) -> bool:
        """Whether anything has been said."""
        return bool(self._said)

    def listen(self, crew: Any) -> None:
        """Let the last task of this crew speak."""
        last = crew.tasks[-1]
        hierarchical = getattr(crew.process, "value", "") == "hierarchical"
        agent = crew.manager_agent if hierarchical else last.agent
        judged = last.guardrail or last.guardrails or last.output_json or last.output_pydantic or last.human_input
        if not judged and getattr(agent, "planning_config", None) is None:
            self._speakers[str(last.id)] = str(agent.role).strip() if agent is not None else ""

    def add(self, task: str | None, role: str | None, call: str, chunk: str, *, direct: bool = False) -> None:
        """Take a piece of what is said in a call to the model, by a task's agent or (`direct`) without one."""
        speaker = self._speakers.get(task or "")
        if not direct and (speaker is None or (speaker and (role or "").strip() != speaker)):
            return
        with self._lock:
            if call != self._call and (self._talking or call in self._late):
                self._late.add(call)  # two at once would be a jumble; what counts of it is said at the end
                return
            if call != self._call:
                self._call, self._held, self._talking = call, "\n\n" if self._said else "", True
            if self._held is None:
                self._say(chunk)
                return
            self._held += chunk
            text = self._held.lstrip()
            if not any(mark.startswith(text) or text.startswith(mark) for mark in self._MARKS):
                self._release(self._held)
            elif self._FINAL in text:
                self._release(text.partition(self._FINAL)[2].lstrip())

    def call_ended(self, call: str) -> None:
        """Say what was held back of a call that is over."""
        with self._lock:
            if call != self._call:
                return
            self._talking = False
            if self._held and not self._held.lstrip().startswith(self._MARKS):
                self._release(self._held)

    def end(self, raw: str) -> None:
        """Add what the crew or flow finally answers where it is not what was streamed."""
        streamed, final = " ".join("".join(self._said).split()), " ".join(raw.split())
        if final and not streamed.endswith(final):
            self._say(f"\n\n{raw}" if streamed else raw)

    def _release(self, text: str) -> None:
        if text.strip():
            self._held = None
            self._say(text)

    def _say(self, text: str) -> None:
        if text:
            self._said.append(text)
            self._bridge.push(TextDelta(text))
