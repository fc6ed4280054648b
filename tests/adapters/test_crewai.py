import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from elf_sdk.adapters.crewai import CrewAIAdapter
from elf_sdk.errors import BadInput
from elf_sdk.models.offline import OfflineModel
from elf_sdk.runs.adapter import RunError
from elf_sdk.runs.events import TextDelta, ToolCall
from tests.adapters.support import answer, context, counted, events_of, scripted, used


def _one_task(llm: Any, **task: Any) -> Any:
    from crewai import Agent, Crew, Task

    agent = Agent(role="the clerk", goal="Answer", backstory="Brief", llm=llm)
    return Crew(agents=[agent], tasks=[Task(description="{message}", expected_output="text", agent=agent, **task)])


async def test_a_shared_crew_is_copied_for_each_run(model: OfflineModel) -> None:
    from crewai import LLM

    scripted(model, {"when": {"user": "marker-(?P<who>\\w+)"}, "say": "This is for ${who} only.", "delay": "5ms"})
    llm = LLM(model="offline", custom_openai=True, base_url=model.url(), api_key="not-needed", stream=True)
    adapter = CrewAIAdapter(_one_task(llm))
    users = [f"user{number}" for number in range(5)]
    runs = await asyncio.gather(*(events_of(adapter, context(model, f"marker-{u}", user=u)) for u in users))
    assert [answer(events) for events in runs] == [f"This is for {user} only." for user in users]


async def test_a_manager_answers_and_its_coworkers_do_not(model: OfflineModel) -> None:
    scripted(
        model,
        {"when": {"system": "the helper"}, "say": "The helper's notes."},
        {
            "when": {"system": "the manager"},
            "call": {
                "tool": "delegate_work_to_coworker",
                "arguments": {"task": "Look", "context": "All", "coworker": "the helper"},
            },
        },
        {"when": {"system": "the manager", "after_tool": "delegate"}, "say": "The helper says: ${result}"},
    )

    def build(llm: Any) -> Any:
        from crewai import Agent, Crew, Process, Task

        manager = Agent(role="the manager", goal="Lead", backstory="Calm", llm=llm, allow_delegation=True)
        helper = Agent(role="the helper", goal="Help", backstory="Quick", llm=llm)
        task = Task(description="{message}", expected_output="text")
        return Crew(agents=[helper], tasks=[task], manager_agent=manager, process=Process.hierarchical)

    events = await events_of(CrewAIAdapter(build), context(model))
    assert answer(events) == "The helper says: The helper's notes."
    assert [event.name for event in events if isinstance(event, ToolCall)] == ["delegate_work_to_coworker"]
    assert used(events) == counted(model)


async def test_the_scaffolding_of_text_based_tool_use_is_no_answer(model: OfflineModel) -> None:
    scripted(model, {"say": "Thought: I now know.\nFinal Answer: Bicycles are fun."})
    assert answer(await events_of(CrewAIAdapter(_one_task), context(model))) == "Bicycles are fun."


async def test_a_guarded_answer_comes_only_when_it_passed(model: OfflineModel) -> None:
    scripted(
        model,
        {"when": {"user": "(?i)too short"}, "say": "A long enough answer."},
        {"say": "Short."},
    )

    def guard(output: Any) -> tuple[bool, Any]:
        return (True, output.raw) if len(output.raw) > 10 else (False, "too short")

    def build(llm: Any) -> Any:
        return _one_task(llm, guardrail=guard)

    events = await events_of(CrewAIAdapter(build), context(model))
    assert [event for event in events if isinstance(event, TextDelta)] == [TextDelta("A long enough answer.")]


async def test_a_placeholder_that_a_person_typed_stays_text(model: OfflineModel) -> None:
    await events_of(CrewAIAdapter(_one_task), context(model, "What is {history} and {x}?"))
    assert "What is { history } and {x}?" in str(model.requests[-1].body["messages"])


async def test_a_factory_that_returns_something_else(model: OfflineModel) -> None:
    with pytest.raises(RunError, match=r"returned a int; return a Crew or a Flow \(test_crewai.py, line \d+\)"):
        await events_of(CrewAIAdapter(lambda: 5), context(model))


def test_a_factory_that_asks_for_something_else() -> None:
    def build(model: Any) -> Any: ...

    with pytest.raises(BadInput, match=r"the parameter 'model'.*use any of llm, tools, context"):
        CrewAIAdapter(build)


def test_telemetry_is_off_and_files_stay_where_they_should(tmp_path: Path) -> None:
    code = """
import os, sys
from elf_sdk import CrewAIAdapter
assert "crewai" not in sys.modules
print(*(os.environ[name] for name in ("CREWAI_DISABLE_TELEMETRY", "CREWAI_TRACING_ENABLED", "CREWAI_STORAGE_DIR")))
"""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("CREWAI", "OTEL"))}
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environ | {"PYTHONPATH": root},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["true", "false", str(tmp_path / ".elf" / "crewai")]
