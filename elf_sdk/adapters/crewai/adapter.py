"""A team that is a CrewAI crew: the last task's tokens become the answer, everything else becomes steps."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any, Final

from elf_sdk.adapters.base import Bridge, bridged, call_factory, checked_factory, in_thread, need, transcript
from elf_sdk.adapters.crewai.llm import crew_llm, line_of
from elf_sdk.adapters.crewai.tool import crew_tool
from elf_sdk.adapters.crewai.watcher import Answer, Watcher
from elf_sdk.adapters.toolbox import open_tools
from elf_sdk.adapters.tools import Tool, offered
from elf_sdk.errors import BadInput
from elf_sdk.runs.adapter import AdapterCapabilities, RunContext, RunError
from elf_sdk.runs.events import Event

if TYPE_CHECKING:
    from crewai.llms.base_llm import BaseLLM

    from elf_sdk.models.line import Line

__all__ = ["CrewAIAdapter"]

_OFFERED: Final = ("llm", "tools", "context")


class CrewAIAdapter:
    """Runs a crew as a team.

    Args:
        crew: a factory of a crew, called for each run, so that runs never share one; or a crew, which is copied for
            each run. A factory names what it wants among its parameters: `llm` (CrewAI's own LLM for the team's
            `llm:`), `tools` (those of the team's MCP servers, and one for each team that work may be proposed to),
            `context` (the `RunContext`); or it names nothing. A class decorated with `@CrewBase` gets the tools by
            `elf_sdk.team_tools()`; a crew that is given ready-made has its own alone. Tasks get what was asked as
            `{message}`, and what was said before as `{history}`.

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
        line = line_of(ctx.endpoint, ctx.deadline)
        async with open_tools(ctx, bridge.push) as tools:
            try:
                await in_thread(self._kickoff, ctx, bridge, line, history, tools)
            except asyncio.CancelledError:
                bridge.close()
                line.cut()
                raise

    def _kickoff(self, ctx: RunContext, bridge: Bridge, line: Line, history: str, tools: Sequence[Tool]) -> None:
        from crewai.events.stream_context import add_stream_sink, reset_stream_sinks

        llm = crew_llm(ctx.endpoint, line)
        try:
            crew = self._built(ctx, llm, tools)
            answer = Answer(crew, bridge)
            watcher = Watcher(bridge, answer, line)
            token = add_stream_sink(watcher.saw)
            try:
                result = crew.kickoff(inputs={"message": _plain(ctx.text), "history": _plain(history)})
            finally:
                reset_stream_sinks(token)
            answer.end(str(result.raw))
        finally:
            line.close()

    def _built(self, ctx: RunContext, llm: BaseLLM, tools: Sequence[Tool]) -> Any:
        given = [crew_tool(tool) for tool in tools]
        offered.set(tuple(given))
        if self._is_crew:
            return self._crew.copy()
        crew = call_factory(self._crew, llm=llm, tools=given, context=ctx)
        if not hasattr(crew, "kickoff") and callable(getattr(crew, "crew", None)):
            crew = crew.crew()  # an instance of a class decorated with @CrewBase
        if not getattr(crew, "tasks", None):
            raise RunError(f"the crew's factory returned a {type(crew).__name__} without tasks; return a Crew")
        return crew


def _plain(text: str) -> str:
    # CrewAI fills in one input after the other, so a placeholder that a person typed would be filled in too.
    return re.sub(r"\{(message|history)\}", r"{ \1 }", text)
