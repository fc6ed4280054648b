"""A team that is a CrewAI crew: the last task's tokens become the answer, everything else becomes steps.

CrewAI is imported when a run begins, never before. Importing this module tells it, by its environment variables, to
send no telemetry and no traces, so import it before `crewai` itself (`from elf_sdk import CrewAIAdapter` is enough).
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import re
import socket
import threading
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
from pydantic import BaseModel

from elf_sdk.adapters.base import Bridge, Closed, bridged, call_factory, checked_factory, in_thread, need, transcript
from elf_sdk.adapters.delegation import DelegateArguments, DelegateTool, delegate_tools
from elf_sdk.errors import BadInput
from elf_sdk.models.llm import Endpoint
from elf_sdk.runs.adapter import AdapterCapabilities, RunContext, RunError
from elf_sdk.runs.events import Event, Step, TextDelta, ToolCall, ToolResult, Usage

if TYPE_CHECKING:
    import httpx
    from crewai.llms.base_llm import BaseLLM
    from crewai.tools import BaseTool

__all__ = ["CrewAIAdapter", "quiet"]

_OFFERED: Final = ("llm", "tools", "context")


def quiet() -> None:
    """Tell CrewAI to send nothing to anybody, and to keep its files under `.elf/crewai` unless told otherwise."""
    os.environ.update(
        CREWAI_DISABLE_TELEMETRY="true",
        CREWAI_DISABLE_TRACKING="true",
        CREWAI_TRACING_ENABLED="false",
        CREWAI_DISABLE_VERSION_CHECK="true",
    )
    os.environ.setdefault("CREWAI_STORAGE_DIR", str(Path(".elf/crewai").resolve()))


quiet()


class CrewAIAdapter:
    """Runs a crew as a team.

    Args:
        crew: a factory of a crew, called for each run, so that runs never share one; or a crew, which is copied for
            each run. A factory names what it wants among its parameters: `llm` (CrewAI's own LLM for the team's
            `llm:`), `tools` (a tool for each team that work may be proposed to), `context` (the `RunContext`); or it
            names nothing. Tasks get what was asked as `{message}`, and what was said before as `{history}`.

    The last task's text is streamed as the answer, unless that task has a guardrail or a structured output, whose
    text is only known at the end.
    """

    name = "crewai"
    capabilities = AdapterCapabilities(stream=True, human=False, cancel="cooperative", recover=False)

    def __init__(self, crew: Any) -> None:
        need("crewai", "elf-sdk[crewai]")
        self._is_crew = hasattr(crew, "kickoff") and not inspect.isclass(crew)
        if not self._is_crew:
            if not callable(crew):
                raise BadInput(f"CrewAIAdapter takes a crew or a function that builds one, not {crew!r}")
            checked_factory(crew, _OFFERED, self.name)
        self._crew = crew

    def run(self, ctx: RunContext) -> AsyncGenerator[Event, None]:
        """Do the work of one run; see `Adapter.run`."""
        return bridged(ctx, lambda bridge: self._work(ctx, bridge))

    async def _work(self, ctx: RunContext, bridge: Bridge) -> None:
        history = transcript(await ctx.history())
        lines = _Lines()
        try:
            await in_thread(self._kickoff, ctx, bridge, lines, history)
        except asyncio.CancelledError:
            bridge.close()
            lines.cut()
            raise

    def _kickoff(self, ctx: RunContext, bridge: Bridge, lines: _Lines, history: str) -> None:
        from crewai.events.stream_context import add_stream_sink, reset_stream_sinks

        llm = _llm(ctx.endpoint, lines)
        try:
            crew = self._built(ctx, bridge, llm)
            answer = _Answer(crew, bridge)
            watcher = _Watcher(bridge, answer, ctx.endpoint.model)
            token = add_stream_sink(watcher.saw)
            try:
                result = crew.kickoff(inputs={"message": _plain(ctx.text), "history": _plain(history)})
            finally:
                reset_stream_sinks(token)
            answer.end(str(result.raw))
        finally:
            lines.close()

    def _built(self, ctx: RunContext, bridge: Bridge, llm: BaseLLM) -> Any:
        if self._is_crew:
            return self._crew.copy()
        tools = [_tool(tool) for tool in delegate_tools(ctx, bridge.push)]
        crew = call_factory(self._crew, llm=llm, tools=tools, context=ctx)
        if not hasattr(crew, "kickoff") and callable(getattr(crew, "crew", None)):
            crew = crew.crew()  # an instance of a class decorated with @CrewBase
        if not getattr(crew, "tasks", None):
            raise RunError(f"the crew's factory returned a {type(crew).__name__} without tasks; return a Crew")
        return crew


class _Watcher:
    """CrewAI's events of one run, from whatever thread, as ours."""

    def __init__(self, bridge: Bridge, answer: _Answer, model: str) -> None:
        self._bridge = bridge
        self._answer = answer
        self._model = model

    def saw(self, source: Any, event: Any) -> None:
        if self._bridge.closed:
            raise Closed
        kind = event.type
        if kind == "llm_stream_chunk":
            if event.tool_call is None:
                self._answer.add(event.task_id, event.agent_role, event.call_id, event.chunk)
        elif kind == "llm_call_completed":
            self._answer.call_ended(event.call_id)
            if event.usage:
                self._bridge.push(_usage(event.model or self._model, event.usage))
        elif kind in ("task_started", "task_completed", "task_failed"):
            agent = getattr(getattr(event.task, "agent", None), "role", "")
            name = " ".join(str(event.task_name or "task").split())[:80]
            self._bridge.push(Step(name, "start" if kind == "task_started" else "end", str(agent).strip()))
        elif kind == "tool_usage_started":
            self._bridge.push(ToolCall(event.event_id, event.tool_name, _arguments(event.tool_args)))
        elif kind == "tool_usage_finished":
            failed = event.failure is not None
            self._bridge.push(ToolResult(event.started_event_id or "", str(event.output), failed))
        elif kind == "tool_usage_error":
            self._bridge.push(ToolResult(event.started_event_id or "", str(event.error), is_error=True))


def _usage(model: str, used: Mapping[str, Any]) -> Usage:
    # The names differ from provider to provider; Anthropic's input is `input_tokens`.
    return Usage(
        model,
        int(used.get("prompt_tokens") or used.get("input_tokens") or 0),
        int(used.get("completion_tokens") or used.get("output_tokens") or 0),
        cached_tokens=int(used.get("cached_prompt_tokens") or 0),
        reasoning_tokens=int(used.get("reasoning_tokens") or 0),
    )


class _Answer:
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


class _Lines:
    """The connections of one run to its model, so that a cancel can cut them from another thread."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self._client: Any = None
        self._cut = False
        self._lock = threading.Lock()

    def watch(self, client: Any) -> None:
        """Follow the connections of an OpenAI client, by httpx's trace extension."""
        self._client = client
        http: httpx.Client = client._client
        http.event_hooks = {"request": [self._on_request], "response": []}

    def _on_request(self, request: httpx.Request) -> None:
        if self._cut:
            raise Closed
        request.extensions = {**request.extensions, "trace": self._trace}

    def _trace(self, name: str, info: Mapping[str, Any]) -> None:
        if name in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            with self._lock:
                self._sockets.append(info["return_value"].get_extra_info("socket"))
            if self._cut:
                self.cut()

    def cut(self) -> None:
        """End all connections at once; a thread that waits for the model wakes up with an error."""
        self._cut = True
        with self._lock:
            for line in self._sockets:
                with suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


def _llm(endpoint: Endpoint, lines: _Lines) -> BaseLLM:
    """CrewAI's own LLM for the team's model.

    Raises:
        Missing: the provider's package is not installed.
    """
    from crewai import LLM

    # CrewAI warns at every call to a model whose tokens it cannot count beforehand.
    logger = logging.getLogger("crewai.llms.base_llm")
    if _not_about_counting not in logger.filters:
        logger.addFilter(_not_about_counting)
    settings: dict[str, Any] = {
        "api_key": endpoint.api_key,
        "temperature": endpoint.temperature,
        "timeout": endpoint.timeout,
        "max_retries": endpoint.retries,
        "stream": True,
    }
    if endpoint.provider == "anthropic":
        need("anthropic", "crewai[anthropic]")
        return LLM(model=endpoint.model, provider="anthropic", base_url=endpoint.base_url, **settings)
    # The prefix is taken off again; without it, it would be taken off a name such as openrouter's openai/gpt-4o.
    llm = LLM(model=f"openai/{endpoint.model}", custom_openai=True, base_url=endpoint.base_url, **settings)
    lines.watch(llm._get_sync_client())  # type: ignore[attr-defined]
    return llm


def _not_about_counting(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("Using an approximate input token count")


def _tool(tool: DelegateTool) -> BaseTool:
    from crewai.tools import BaseTool

    class Delegate(BaseTool):
        args_schema: type[BaseModel] = DelegateArguments

        def _run(self, **arguments: Any) -> str:
            return tool.call(**arguments)

    return Delegate(name=tool.name, description=tool.description)


def _plain(text: str) -> str:
    # CrewAI fills in one input after the other, so a placeholder that a person typed would be filled in too.
    return re.sub(r"\{(message|history)\}", r"{ \1 }", text)


def _arguments(given: dict[str, Any] | str) -> Mapping[str, Any]:
    if isinstance(given, str):
        try:
            given = orjson.loads(given)
        except orjson.JSONDecodeError:
            return {"input": given}
    if not isinstance(given, dict):
        return {"input": given}
    plain: dict[str, Any] = orjson.loads(orjson.dumps(given, default=str, option=orjson.OPT_NON_STR_KEYS))
    return plain
