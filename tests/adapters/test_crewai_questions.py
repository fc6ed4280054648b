"""A person is asked by a flow or a task, and the run goes on in another process; after a crash it goes on as well."""

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from elf_sdk.adapters.crewai import CrewAIAdapter
from elf_sdk.models.offline import OfflineModel
from elf_sdk.runs.adapter import RunContext, RunError
from elf_sdk.runs.checkpoints import MemoryCheckpoints
from elf_sdk.runs.events import (
    Answered,
    DelegationProposed,
    Event,
    InputRequired,
    LoggedEvent,
    Rewound,
    Started,
    Step,
    TextDelta,
)
from tests.adapters.crewai_review import FileCheckpoints
from tests.adapters.support import BRAND, answer, context, counted, events_of, scripted, used

ROOT = Path(__file__).parents[2]


def _apart(model: OfflineModel, directory: Path, *answers: str) -> list[tuple[str, dict[str, Any]]]:
    """The events of a run in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.adapters.crewai_review", model.url(), str(directory), *answers],
        cwd=ROOT,
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=60,
    )
    return [tuple(orjson.loads(line)) for line in done.stdout.splitlines()]


def _logged(events: list[Event]) -> tuple[LoggedEvent, ...]:
    return tuple(LoggedEvent("run-ada", seq, datetime.now(UTC), event) for seq, event in enumerate(events, 1))


def _questions(events: list[Event]) -> list[InputRequired]:
    return [event for event in events if isinstance(event, InputRequired)]


def _answered(ctx: RunContext, before: list[Event], answers: dict[str, str]) -> RunContext:
    said = [Answered(question, text) for question, text in answers.items()]
    return replace(ctx, answers={**ctx.answers, **answers}, before=_logged([*before, *said]))


async def test_a_flows_question_is_answered_when_its_process_is_gone(model: OfflineModel, tmp_path: Path) -> None:
    scripted(
        model,
        {"when": {"user": "^draft"}, "say": "A fine draft."},
        {"when": {"user": "^publish"}, "say": "Published."},
        {"when": {"user": "please do"}, "say": '{"outcome": "approved"}'},
    )
    asked = _apart(model, tmp_path)
    [question] = [data for kind, data in asked if kind == "input_required"]
    assert question["question_id"] == "draft-1"
    assert question["prompt"] == "Is this good?\n\nA fine draft.\n\nPossible outcomes: approved, rejected."
    assert not [data for kind, data in asked if kind == "text_delta"]
    kept = b"".join((await FileCheckpoints(tmp_path).load()).values())
    assert b"A fine draft." in kept
    assert b"a-key-of-the-test" not in kept
    before = len(model.requests)
    went_on = _apart(model, tmp_path, "draft-1=please do")
    assert "".join(data["text"] for kind, data in went_on if kind == "text_delta") == "Published."
    asked_for = [str(request.body["messages"]) for request in list(model.requests)[before:]]
    assert len(asked_for) == 2
    assert "publish: A fine draft. (please do, 1)" in asked_for[1]
    usage = [data for kind, data in [*asked, *went_on] if kind == "usage"]
    assert (sum(one["input_tokens"] for one in usage), sum(one["output_tokens"] for one in usage)) == counted(model)


async def test_a_flow_that_was_cut_off_before_it_asked_says_so(model: OfflineModel) -> None:
    from crewai.flow.flow import Flow, start

    class Talk(Flow):  # type: ignore[type-arg]
        @start()
        def say(self) -> str:
            return "Hello."

    with pytest.raises(RunError, match="a flow can go on only from a question") as raised:
        await events_of(CrewAIAdapter(lambda: Talk()), replace(context(model), attempt=2))
    assert (raised.value.code, raised.value.retryable) == ("interrupted", True)


async def test_a_flow_goes_on_from_its_answer_after_a_crash(model: OfflineModel) -> None:
    from crewai.flow import Flow, human_feedback, listen, start

    drafts: list[str] = []

    class Review(Flow):  # type: ignore[type-arg]
        @start()
        @human_feedback(message="Good?")
        def draft(self) -> str:
            drafts.append("one")
            return "A draft."

        @listen(draft)
        def publish(self, result: Any) -> str:
            return f"{result.output} {result.feedback}"

    adapter, ctx = CrewAIAdapter(lambda: Review()), context(model)
    before = await events_of(adapter, ctx)
    # Cut off before the question was stored, it is asked again.
    assert _questions(await events_of(adapter, replace(ctx, attempt=2))) == _questions(before)
    ctx = _answered(ctx, before, {"draft-1": "Fine."})
    first = await events_of(adapter, ctx)
    again = await events_of(adapter, replace(ctx, attempt=2))
    assert again[0] == Rewound(len(before) + 1)
    assert answer(first) == answer(again) == "A draft. Fine."
    assert drafts == ["one"]


@pytest.mark.parametrize("asking", ["ask", "console"])
async def test_what_waits_at_the_console_is_refused(model: OfflineModel, asking: str) -> None:
    from crewai.flow import Flow, human_feedback, start
    from crewai.flow.async_feedback.providers import ConsoleProvider

    class Ask(Flow):  # type: ignore[type-arg]
        @start()
        def say(self) -> str | None:
            return self.ask("Which colour?")

    class Console(Flow):  # type: ignore[type-arg]
        @start()
        @human_feedback(message="Good?", provider=ConsoleProvider())
        def say(self) -> str:
            return "A draft."

    flow, sentence = (
        (Ask, "the flow asks “Which colour\\?” by ask.*@human_feedback")
        if asking == "ask"
        else (Console, "the method say asks at the console.*leave the ConsoleProvider out")
    )
    with pytest.raises(RunError, match=sentence):
        await events_of(CrewAIAdapter(lambda: flow()), context(model))


def _reviewed(done: list[str]) -> Any:
    """A crew of two tasks, the second of which a person judges."""

    def build(llm: Any, tools: list[Any]) -> Any:
        from crewai import Agent, Crew, Task

        helper = Agent(role="the helper", goal="Help", backstory="Quick", llm=llm, tools=tools)
        writer = Agent(role="the writer", goal="Write", backstory="Terse", llm=llm)

        def noted(output: Any) -> None:
            done.append(output.raw)

        return Crew(
            agents=[helper, writer],
            tasks=[
                Task(name="notes", description="{message}", expected_output="notes", agent=helper, callback=noted),
                Task(name="write", description="Write", expected_output="text", agent=writer, human_input=True),
            ],
        )

    return build


pytestmark = pytest.mark.filterwarnings("ignore:function callbacks cannot be serialized:UserWarning")


async def test_a_task_with_human_input_waits_for_a_person(model: OfflineModel) -> None:
    scripted(
        model,
        {"when": {"system": "the helper"}, "say": "Notes."},
        {"when": {"user": "shorter"}, "say": "Short."},
        {"when": {"user": "Notes"}, "say": "A long text."},
    )
    done: list[str] = []
    adapter, ctx = CrewAIAdapter(_reviewed(done)), context(model)
    first = await events_of(adapter, ctx)
    [question] = _questions(first)
    assert question.question_id == "task-2-1"
    assert question.prompt.startswith("A long text.\n\n")
    assert answer(first) == ""
    ctx = _answered(ctx, first, {"task-2-1": "Make it shorter."})
    second = await events_of(adapter, ctx)
    [question] = _questions(second)
    assert (question.question_id, question.prompt[:6]) == ("task-2-2", "Short.")
    ctx = _answered(ctx, [*first, *second], {"task-2-2": "Looks good!"})
    third = await events_of(adapter, ctx)
    assert answer(third) == "Short."
    assert done == ["Notes."]
    assert len(model.requests) == 3
    assert used([*first, *second, *third]) == counted(model)


async def test_human_input_inside_a_flow_is_refused(model: OfflineModel) -> None:
    from crewai.flow.flow import Flow, start

    scripted(model, {"say": "Text."})

    class Talk(Flow):  # type: ignore[type-arg]
        @start()
        def say(self) -> str:
            from crewai import Agent, Crew, Task

            clerk = Agent(role="the clerk", goal="Help", backstory="Quick")
            task = Task(name="judge", description="a", expected_output="b", agent=clerk, human_input=True)
            return str(Crew(agents=[clerk], tasks=[task]).kickoff())

    with pytest.raises(RunError, match="the task “judge” has human_input, and its crew is run by a flow"):
        await events_of(CrewAIAdapter(Talk), context(model))


def _three(async_execution: bool = False) -> Any:
    def build(llm: Any, tools: list[Any]) -> Any:
        from crewai import Agent, Crew, Task

        agents = [
            Agent(role=f"the {name}", goal="Help", backstory="Quick", llm=llm, tools=tools if name == "first" else [])
            for name in ("first", "second", "third")
        ]
        tasks = [
            Task(
                name=f"task of {agent.role}",
                description="{message}",
                expected_output="text",
                agent=agent,
                async_execution=async_execution and agent is not agents[-1],
            )
            for agent in agents
        ]
        return Crew(agents=agents, tasks=tasks)

    return build


class Broken(MemoryCheckpoints):
    """Keeps so many finished tasks, then fails, as if the process died."""

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.left = tasks

    async def save(self, entries: Any) -> None:
        if self.left == 0:
            raise ConnectionError("the database is gone")
        self.left -= 1
        await super().save(entries)


async def _collect(adapter: CrewAIAdapter, ctx: RunContext, events: list[Event]) -> None:
    async for event in adapter.run(ctx):
        events.append(event)  # noqa: PERF401 - those before the failure count too


async def test_after_a_crash_finished_tasks_are_not_done_again(model: OfflineModel) -> None:
    scripted(
        model,
        {
            "when": {"system": "the first"},
            "call": {"tool": "delegate_to_brand_team", "arguments": {"title": "a", "description": "b"}},
        },
        {"when": {"system": "the first", "after_tool": "delegate"}, "say": "One."},
        {"when": {"system": "the second"}, "say": "Two."},
        {"when": {"system": "the third", "user": "One\\.[\\s\\S]*Two\\."}, "say": "Three."},
    )
    adapter, kept = CrewAIAdapter(_three()), Broken(1)
    ctx = replace(context(model, delegates=(BRAND,)), checkpoints=kept)
    before: list[Event] = [Started(1)]
    with pytest.raises(RunError, match="the database is gone"):
        await _collect(adapter, ctx, before)
    asked = len(model.requests)
    kept.left = -1
    events = await events_of(adapter, replace(ctx, attempt=2, before=_logged(before)))
    end = before.index(Step("task of the first", "end", "the first")) + 1
    assert events[0] == Rewound(end)
    assert [event for event in events if isinstance(event, Step)] == [
        Step(f"task of the {name}", phase, f"the {name}") for name in ("second", "third") for phase in ("start", "end")
    ]
    assert answer(events) == "Three."
    assert not [event for event in events if isinstance(event, DelegationProposed)]
    assert not any("You are the first" in str(request.body["messages"]) for request in list(model.requests)[asked:])


async def test_what_was_said_of_the_answer_before_a_crash_is_said_again(model: OfflineModel) -> None:
    scripted(model, {"say": "All is well."})
    adapter, ctx = CrewAIAdapter(_three()), context(model)
    before: list[Event] = [Started(1), *await events_of(adapter, ctx)]
    cut = before[: next(seq for seq, event in enumerate(before) if isinstance(event, TextDelta)) + 2]
    asked = len(model.requests)
    events = await events_of(adapter, replace(ctx, attempt=2, before=_logged(cut)))
    assert isinstance(events[0], Rewound)
    assert cut[events[0].to_seq] == Step("task of the third", "start", "the third")
    assert answer(events) == "All is well."
    assert len(model.requests) == asked


async def test_parallel_tasks_that_finished_are_not_done_again(model: OfflineModel) -> None:
    scripted(
        model,
        {"when": {"system": "the first"}, "say": "One.", "delay": "100ms"},
        {"when": {"system": "the second"}, "say": "Two."},
        {"say": "Three."},
    )
    adapter, kept = CrewAIAdapter(_three(async_execution=True)), Broken(1)
    ctx = replace(context(model), checkpoints=kept)
    with pytest.raises(RunError, match="the database is gone"):
        await events_of(adapter, ctx)
    asked = len(model.requests)
    kept.left = -1
    events = await events_of(adapter, replace(ctx, attempt=2))
    assert answer(events) == "Three."
    assert not any("You are the second" in str(request.body["messages"]) for request in list(model.requests)[asked:])


async def test_what_another_crew_had_finished_is_not_taken(model: OfflineModel) -> None:
    scripted(model, {"say": "All is well."})
    ctx = context(model)
    await events_of(CrewAIAdapter(_three()), ctx)
    asked = len(model.requests)
    done: list[str] = []
    await events_of(CrewAIAdapter(_reviewed(done)), replace(ctx, attempt=2))
    assert len(model.requests) > asked
    assert done == ["All is well."]


async def test_structured_outputs_survive_too(model: OfflineModel) -> None:
    from pydantic import BaseModel

    class Price(BaseModel):
        euros: int

    seen: list[Any] = []

    def build() -> Any:
        from crewai import Agent, Crew, Task
        from crewai.tasks.conditional_task import ConditionalTask

        def dear(output: Any) -> bool:
            seen.append(output.pydantic)
            return bool(output.pydantic.euros > 100)

        clerk = Agent(role="the clerk", goal="Help", backstory="Quick")
        return Crew(
            agents=[clerk],
            tasks=[
                Task(description="{message}", expected_output="a price", agent=clerk, output_pydantic=Price),
                ConditionalTask(description="Haggle", expected_output="text", agent=clerk, condition=dear),
            ],
        )

    scripted(model, {"when": {"user": "Haggle"}, "say": "Cheaper."}, {"say": '{"euros": 500}'})
    ctx = replace(context(model), checkpoints=Broken(1))
    with pytest.raises(RunError):
        await events_of(CrewAIAdapter(build), ctx)
    ctx.checkpoints.left = -1  # type: ignore[attr-defined]
    assert answer(await events_of(CrewAIAdapter(build), replace(ctx, attempt=2))) == "Cheaper."
    assert [price.euros for price in seen] == [500, 500]
