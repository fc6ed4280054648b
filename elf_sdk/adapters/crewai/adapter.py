"""A team that is a CrewAI crew or flow: its last words become the answer, everything else becomes steps."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any, Final

from elf_sdk.adapters.base import Bridge, bridged, in_thread, need, transcript
from elf_sdk.adapters.crewai.crew import run_crew
from elf_sdk.adapters.crewai.flow import latest_output, run_flow
from elf_sdk.adapters.crewai.inputs import Inputs, crew_inputs, flow_inputs
from elf_sdk.adapters.crewai.kept import FinishedTasks, Kept, flow_store
from elf_sdk.adapters.crewai.llm import crew_llm, line_of
from elf_sdk.adapters.crewai.place import WorkPlace
from elf_sdk.adapters.crewai.questions import Asked, Refused, Reviewer
from elf_sdk.adapters.crewai.scope import Scope, install, scoped
from elf_sdk.adapters.crewai.source import Source
from elf_sdk.adapters.crewai.tool import crew_tool
from elf_sdk.adapters.crewai.watcher import Answer, Watcher
from elf_sdk.adapters.toolbox import open_tools
from elf_sdk.adapters.tools import Tool, offered
from elf_sdk.runs.adapter import AdapterCapabilities, RunContext, RunError
from elf_sdk.runs.events import Event

if TYPE_CHECKING:
    from elf_sdk.models.line import Line

__all__ = ["CrewAIAdapter"]

_WARM: Final = (
    "crewai.flow.async_feedback",
    "crewai.llms.providers.openai.completion",
    "openai.resources",
    "httpcore",
    "elf_sdk.models.line",
    "elf_sdk.adapters.failure",
)
"""CrewAI, and what it and its model's client import only when they are used."""


class CrewAIAdapter:
    """Runs a crew or a flow as a team.

    Args:
        crew: a function that builds a crew or a flow, called for each run, so that runs never share one; a class
            decorated with `@CrewBase`; a flow's class; or a crew, which is copied for each run. A function, and a
            class's `__init__`, names what it wants among its parameters: `llm` (CrewAI's own LLM for the team's
            `llm:`), `tools` (those of the team's MCP servers, and one for each team that work may be proposed to),
            `context` (the `RunContext`); or it names nothing. It may be async. What is built elsewhere in a run gets
            the tools by `elf_sdk.team_tools()`; a crew that is given ready-made has its own alone. Or the name of one
            of these, such as `"shop.crew:Support"`: it is then imported in the processes of runs alone, where clients
            that it makes by itself find the team's model.
        inputs: what tasks get beside `{message}`, `{history}`, `{current_year}` and `{current_date}`: a mapping of
            names to values, or a function of the `RunContext` that returns one. A flow gets it as inputs to its state.

    Agents that are built in a run and name no model get the team's; so do the manager of a hierarchical crew and the
    planner of a planning one. The last task's text is streamed as the answer, unless only its end shows what counts.

    Raises:
        BadInput: `crew` is none of these.
        Missing: CrewAI is not installed.
    """

    name = "crewai"

    def __init__(self, crew: Any, *, inputs: Inputs | None = None) -> None:
        need("crewai", "elf-sdk[crewai]")
        self._source = Source(crew)
        self._inputs = inputs
        # A crew goes on behind its last finished task; a flow only from a question that it has asked.
        self.capabilities = AdapterCapabilities(
            stream=True, human=True, cancel="cooperative", recover=not self._source.is_flow, blocking=True
        )

    def run(self, ctx: RunContext) -> AsyncGenerator[Event, None]:
        """Do the work of one run; see `Adapter.run`."""
        return bridged(ctx, lambda bridge: self._work(ctx, bridge))

    def warm(self) -> None:
        """Import CrewAI and what every run needs of it, which takes seconds; and the crew, where it is named.

        No thread is left behind by that.
        """
        for module in _WARM:
            if importlib.util.find_spec(module.partition(".")[0]) is not None:
                importlib.import_module(module)
        install()
        self._source.find()

    async def _work(self, ctx: RunContext, bridge: Bridge) -> None:
        history = transcript(await ctx.history())
        kept = await Kept.load(ctx.checkpoints)
        line, place = line_of(ctx.endpoint, ctx.deadline), WorkPlace(ctx, kept)
        async with open_tools(ctx, bridge.push, place=place.now) as tools:
            try:
                await in_thread(self._kickoff, ctx, bridge, line, history, kept, place, tools)
            except asyncio.CancelledError:
                bridge.close()
                line.cut()
                raise

    def _kickoff(
        self,
        ctx: RunContext,
        bridge: Bridge,
        line: Line,
        history: str,
        kept: Kept,
        place: WorkPlace,
        tools: Sequence[Tool],
    ) -> None:
        reviewer = Reviewer(bridge, kept, ctx.answers)
        scope = Scope(crew_llm(ctx.endpoint, line), flow_store(kept), reviewer)
        try:
            with scoped(scope):
                given = [crew_tool(tool) for tool in tools]
                offered.set(tuple(given))
                work = self._source.build(llm=scope.llm, tools=given, context=ctx)
                self._run(work, ctx, bridge, line, scope, history, kept, place)
        except Asked:
            return
        except Refused as error:
            raise RunError(str(error)) from error
        finally:
            line.close()

    def _run(
        self,
        work: Any,
        ctx: RunContext,
        bridge: Bridge,
        line: Line,
        scope: Scope,
        history: str,
        kept: Kept,
        place: WorkPlace,
    ) -> None:
        from crewai.events.stream_context import add_stream_sink, reset_stream_sinks

        answer = Answer(bridge)
        finished = FinishedTasks(kept, work.tasks) if hasattr(work, "tasks") else None
        watcher = Watcher(bridge, answer, line, work, finished.save if finished else None)
        token = add_stream_sink(watcher.saw)
        try:
            if finished is not None:
                place.watch(work.tasks)
                inputs = crew_inputs(work, ctx, history, self._inputs)
                said = run_crew(work, ctx, bridge, finished, scope.reviewer, inputs)
            else:
                inputs = flow_inputs(work, ctx, history, self._inputs)
                said = run_flow(work, ctx, bridge, kept, scope.store, inputs)
                if not said and not answer.begun:
                    said = latest_output(work) or watcher.crew_said
        finally:
            reset_stream_sinks(token)
        answer.end(said)
