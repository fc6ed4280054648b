"""CrewAI's events of one run, as ours."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from elf_sdk.adapters.base import Bridge, Closed
from elf_sdk.adapters.tools import NO_JSON, called, failed, returned
from elf_sdk.runs.events import Step, TextDelta, Usage

if TYPE_CHECKING:
    from elf_sdk.models.line import Line

__all__ = ["Answer", "Watcher"]


class Watcher:
    """CrewAI's events of one run, from whatever thread, as ours."""

    def __init__(self, bridge: Bridge, answer: Answer, line: Line) -> None:
        self._bridge = bridge
        self._answer = answer
        self._line = line

    def saw(self, source: Any, event: Any) -> None:
        """Take one of CrewAI's events.

        Raises:
            Closed: the run was closed; the work should end.
        """
        if self._bridge.closed:
            raise Closed
        kind = event.type
        if kind == "llm_stream_chunk":
            if event.tool_call is None:
                self._answer.add(event.task_id, event.agent_role, event.call_id, event.chunk)
        elif kind == "llm_call_completed":
            self._answer.call_ended(event.call_id)
            if event.usage:
                self._bridge.push(_usage(event.model, event.usage, self._line))
        elif kind in ("task_started", "task_completed", "task_failed"):
            agent = getattr(getattr(event.task, "agent", None), "role", "")
            name = " ".join(str(event.task_name or "task").split())[:80]
            self._bridge.push(Step(name, "start" if kind == "task_started" else "end", str(agent).strip()))
        elif kind == "tool_usage_started":
            self._bridge.push(called(event.event_id, event.tool_name, event.tool_args))
        elif kind == "tool_usage_finished":
            is_error = event.failure is not None
            self._bridge.push(returned(event.started_event_id or "", str(event.output), is_error=is_error))
        elif kind == "tool_usage_error":
            self._bridge.push(failed(event.started_event_id or "", event.error))
        elif kind == "tool_failure_detected" and event.failure.code == "json_decode_error":
            # CrewAI tells the model, and begins no call.
            self._bridge.push(called(event.event_id, event.tool_name, event.tool_args))
            self._bridge.push(failed(event.event_id, NO_JSON))


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
    """The answer as it grows: what the last task's own agent says, without the scaffolding of text-based tool use."""

    _MARKS: Final = ("Thought:", "Action:", "Final Answer:")
    _FINAL: Final = "Final Answer:"

    def __init__(self, crew: Any, bridge: Bridge) -> None:
        last = crew.tasks[-1]
        manager = getattr(crew, "manager_agent", None)
        self._bridge = bridge
        self._task = str(last.id)
        hierarchical = getattr(crew.process, "value", "") == "hierarchical"
        agent = manager if hierarchical else last.agent
        self._role = str(agent.role).strip() if agent is not None else ""
        self._live = not (last.guardrail or last.guardrails or last.output_json or last.output_pydantic)
        self._said: list[str] = []
        self._call = ""
        self._held: str | None = ""
        self._lock = threading.Lock()

    def add(self, task: str | None, role: str | None, call: str, chunk: str) -> None:
        """Take a piece of what an agent says in a call to the model."""
        if not self._live or task != self._task or (self._role and (role or "").strip() != self._role):
            return
        with self._lock:
            if call != self._call:
                self._call, self._held = call, ""
                if self._said:
                    self._held = "\n\n"
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
            if call == self._call and self._held and not self._held.lstrip().startswith(self._MARKS):
                self._release(self._held)

    def end(self, raw: str) -> None:
        """Add what the crew finally answers where it is not what was streamed."""
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
