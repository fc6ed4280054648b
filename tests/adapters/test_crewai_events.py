"""What CrewAI does in a run, as events: steps, coworkers, guardrails, plans, parallel tasks, and what it all used."""

import asyncio
import importlib
import threading
from typing import Any

import orjson
import pytest

from elf_sdk.adapters.base import Bridge
from elf_sdk.adapters.crewai import CrewAIAdapter
from elf_sdk.adapters.crewai.watcher import Answer, Watcher
from elf_sdk.models.line import Line
from elf_sdk.models.llm import Endpoint
from elf_sdk.models.offline import OfflineModel
from elf_sdk.runs.events import Event, Step, TextDelta, ToolCall, ToolResult
from tests.adapters.support import answer, context, counted, events_of, scripted, until, used

PLAN = {"list_of_plans_per_task": [{"task_number": 1, "task": "serve", "plan": " Be quick."}]}


def _agent(role: str, **more: Any) -> Any:
    from crewai import Agent

    return Agent(role=role, goal="Help", backstory="Brief", **more)


def _task(description: str, agent: Any = None, **more: Any) -> Any:
    from crewai import Task

    return Task(description=description, expected_output="text", agent=agent, **more)


def _crew(agents: list[Any], tasks: list[Any], **more: Any) -> Any:
    from crewai import Crew

    return Crew(agents=agents, tasks=tasks, **more)


def _steps(events: list[Event]) -> list[tuple[str, str, str]]:
    return [(event.name, event.phase, event.agent) for event in events if isinstance(event, Step)]


async def test_every_event_that_is_looked_at_is_one_of_crewais() -> None:
    from crewai import LLM
    from crewai.events.base_events import BaseEvent

    importlib.import_module("crewai.events.event_types")
    known, classes = set(), [BaseEvent]
    while classes:
        cls = classes.pop()
        classes += cls.__subclasses__()
        known.add(cls.model_fields["type"].default)
    bridge = Bridge()
    llm = LLM(model="x", custom_openai=True, base_url="http://127.0.0.1:9", api_key="k")
    line = Line(Endpoint("compatible", "x", "http://127.0.0.1:9", "k"))
    assert Watcher(bridge, Answer(bridge), line, _crew([_agent("the clerk", llm=llm)], [])).kinds <= known


async def test_coworkers_work_for_each_other(model: OfflineModel) -> None:
    ask = {"task": "Look", "context": "All", "coworker": "the helper"}
    scripted(
        model,
        {"when": {"system": "the helper"}, "say": "The helper's notes."},
        {"when": {"system": "Crew Manager"}, "call": {"tool": "delegate_work_to_coworker", "arguments": ask}},
        {"when": {"system": "Crew Manager", "after_tool": "delegate"}, "say": "The helper says: ${result}"},
    )

    def build() -> Any:
        return _crew(
            [_agent("the helper"), _agent("the other")], [_task("{message}", name="serve")], process="hierarchical"
        )

    events = await events_of(CrewAIAdapter(build), context(model))
    assert answer(events) == "The helper says: The helper's notes."
    [call] = [event for event in events if isinstance(event, ToolCall)]
    [result] = [event for event in events if isinstance(event, ToolResult)]
    assert (call.name, call.arguments, result.output) == ("delegate_work_to_coworker", ask, "The helper's notes.")
    assert _steps(events) == [
        ("serve", "start", "Crew Manager"),
        ("Crew Manager delegates to the helper", "start", "the helper"),
        ("Crew Manager delegates to the helper", "end", "the helper"),
        ("serve", "end", "Crew Manager"),
    ]
    assert used(events) == counted(model)


def _short(output: Any) -> tuple[bool, Any]:
    return (True, output.raw) if len(output.raw) > 10 else (False, "too short")


async def test_a_guardrail_shows_and_its_retries_too(model: OfflineModel) -> None:
    scripted(model, {"when": {"user": "(?i)too short"}, "say": "A long enough answer."}, {"say": "Short."})

    def build() -> Any:
        clerk = _agent("the clerk")
        return _crew([clerk], [_task("{message}", clerk, name="serve", guardrail=_short)])

    events = await events_of(CrewAIAdapter(build), context(model))
    assert answer(events) == "A long enough answer."
    assert [step for step in _steps(events) if step[1] == "start"] == [
        ("serve", "start", "the clerk"),
        ("guardrail", "start", "the clerk"),
        ("guardrail, retry 1", "start", "the clerk"),
    ]
    assert used(events) == counted(model)


async def test_a_guardrail_that_a_model_judges_is_counted(model: OfflineModel) -> None:
    scripted(
        model,
        {"when": {"system": "Guardrail Agent"}, "say": '{"valid": true, "feedback": null}'},
        {"say": "A fine answer."},
    )

    def build() -> Any:
        clerk = _agent("the clerk")
        return _crew([clerk], [_task("{message}", clerk, guardrail="It must be polite.")])

    events = await events_of(CrewAIAdapter(build), context(model))
    assert [event for event in events if isinstance(event, TextDelta)] == [TextDelta("A fine answer.")]
    assert len(model.requests) == 2
    assert used(events) == counted(model)


async def test_a_structured_output_comes_whole(model: OfflineModel) -> None:
    from pydantic import BaseModel

    class Price(BaseModel):
        euros: int

    scripted(model, {"say": '{"euros": 500}'})

    def build() -> Any:
        clerk = _agent("the clerk")
        return _crew([clerk], [_task("{message}", clerk, output_pydantic=Price)])

    events = await events_of(CrewAIAdapter(build), context(model))
    [text] = [event.text for event in events if isinstance(event, TextDelta)]
    assert orjson.loads(text) == {"euros": 500}
    assert used(events) == counted(model)


async def test_a_crew_that_plans_does_so_with_the_teams_model(model: OfflineModel) -> None:
    scripted(
        model,
        {"when": {"system": "Task Execution Planner"}, "say": orjson.dumps(PLAN).decode()},
        {"when": {"user": "Be quick"}, "say": "Quickly done."},
    )

    def build() -> Any:
        clerk = _agent("the clerk")
        return _crew([clerk], [_task("{message}", clerk, name="serve")], planning=True)

    events = await events_of(CrewAIAdapter(build), context(model))
    assert answer(events) == "Quickly done."
    assert [name for name, phase, _ in _steps(events) if phase == "start"] == ["planning", "serve"]
    assert used(events) == counted(model)


async def test_an_agent_that_reasons_answers_only_with_its_last_word(model: OfflineModel) -> None:
    scripted(model, {"when": {"system": "(?i)plan"}, "say": "Plan: think.\n\nREADY"}, {"say": "Thought over."})

    def build() -> Any:
        from crewai.agent.planning_config import PlanningConfig

        clerk = _agent("the clerk", planning_config=PlanningConfig(max_attempts=1))
        return _crew([clerk], [_task("{message}", clerk)])

    events = await events_of(CrewAIAdapter(build), context(model))
    assert answer(events) == "Thought over."
    assert ("reasoning", "start", "the clerk") in _steps(events)
    assert len(model.requests) > 1
    assert used(events) == counted(model)


def _parallel() -> Any:
    north, south, clerk = _agent("the north"), _agent("the south"), _agent("the clerk")
    ahead = [
        _task("{message}", north, name="north", async_execution=True),
        _task("{message}", south, name="south", async_execution=True),
    ]
    return _crew([north, south, clerk], [*ahead, _task("{message}", clerk, name="sum", context=ahead)])


async def test_parallel_tasks_reach_the_run_and_do_not_mix(model: OfflineModel) -> None:
    scripted(
        model,
        {"when": {"system": "the north"}, "say": "Snow for the north.", "delay": "20ms"},
        {"when": {"system": "the south"}, "say": "Sun for the south.", "delay": "20ms"},
        {"when": {"user": "Snow for the north.[\\s\\S]*Sun for the south."}, "say": "Snow, then sun."},
    )
    events = await events_of(CrewAIAdapter(_parallel), context(model))
    assert answer(events) == "Snow, then sun."
    steps = _steps(events)
    assert {step[:2] for step in steps[:2]} == {("north", "start"), ("south", "start")}
    assert used(events) == counted(model)


async def test_a_cancel_ends_parallel_tasks_too(model: OfflineModel) -> None:
    scripted(model, {"say": "on and " * 2000, "delay": "10ms"})
    run = asyncio.create_task(events_of(CrewAIAdapter(_parallel), context(model)))
    await until(lambda: len(model.requests) == 2, 15)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    await until(lambda: all(request.outcome == "gone" for request in model.requests))
    await until(lambda: not any(thread.name == "elf-run" for thread in threading.enumerate()))
    assert len(model.requests) == 2


async def test_tools_that_are_called_at_once_reach_the_run(model: OfflineModel) -> None:
    from crewai.tools import tool

    @tool("lookup")
    def lookup(what: str) -> str:
        """Look something up."""
        if what == "nothing":
            raise ValueError("there is nothing")
        return f"found {what}"

    scripted(
        model,
        {"when": {"user": "bad"}, "call": {"tool": "lookup", "arguments": {"what": "nothing"}}},
        {"when": {"user": "good"}, "call": {"tool": "lookup", "arguments": {"what": "a bell"}}},
        {"when": {"after_tool": "lookup"}, "say": "Done."},
    )

    def build() -> Any:
        clerk = _agent("the clerk", tools=[lookup])
        return _crew([clerk], [_task("{message}", clerk)])

    good, bad = await asyncio.gather(
        events_of(CrewAIAdapter(build), context(model, "good")), events_of(CrewAIAdapter(build), context(model, "bad"))
    )
    results = [event for event in good if isinstance(event, ToolResult)]
    assert [(one.output, one.is_error) for one in results] == [("found a bell", False)]
    failed = [event for event in bad if isinstance(event, ToolResult)]
    assert failed
    assert all(one.is_error and "there is nothing" in one.output for one in failed)
    assert {one.call_id for one in failed} <= {event.call_id for event in bad if isinstance(event, ToolCall)}


async def test_what_crewai_prints_is_not_printed(model: OfflineModel, capfd: pytest.CaptureFixture[str]) -> None:
    scripted(model, {"say": "Hello."})

    def build() -> Any:
        clerk = _agent("the clerk", verbose=True)
        return _crew([clerk], [_task("{message}", clerk)], verbose=True)

    assert answer(await events_of(CrewAIAdapter(build), context(model))) == "Hello."
    assert capfd.readouterr() == ("", "")


async def test_nothing_of_a_run_is_left_on_crewais_bus(model: OfflineModel) -> None:
    from crewai.events.event_bus import crewai_event_bus
    from crewai.events.stream_context import _stream_sinks

    def handlers() -> int:
        return sum(len(some) for some in crewai_event_bus._sync_handlers.values())

    def build() -> Any:
        clerk = _agent("the clerk")
        return _crew([clerk], [_task("{message}", clerk)])

    await events_of(CrewAIAdapter(build), context(model))
    before = handlers()
    await events_of(CrewAIAdapter(build), context(model))
    assert handlers() == before
    assert _stream_sinks.get() == ()
    await until(lambda: not any(thread.name == "elf-run" for thread in threading.enumerate()))
