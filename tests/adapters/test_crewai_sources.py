"""What the CrewAI adapter takes, which model its agents get, and what their placeholders get."""

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from elf_sdk.adapters.crewai import CrewAIAdapter
from elf_sdk.errors import BadInput
from elf_sdk.models.offline import OfflineModel
from elf_sdk.runs.adapter import RunContext, RunError, TurnMessage
from elf_sdk.runs.events import Step, TextDelta
from elf_sdk.server.loading import load_server
from tests.adapters.support import answer, context, counted, events_of, scripted, used

TEAM = "format: elf/v1\nname: shop-team\nframework: crewai\nmembers: [{role: clerk, is_manager: true}]\n"
AGENTS = "clerk:\n  role: the {trade} clerk\n  goal: Sell\n  backstory: Brief\n"
TASKS = "serve:\n  description: Say something about {trade}\n  expected_output: text\n  agent: clerk\n"
CREW_BASE = """
from elf_sdk import CrewAIAdapter, TeamServer
from crewai import Agent, Crew, Task
from crewai.project import CrewBase, agent, crew, task


@CrewBase
class Shop:
    agents_config = "config/agents.yaml"
    tasks_config = "config/tasks.yaml"

    @agent
    def clerk(self) -> Agent:
        return Agent(config=self.agents_config["clerk"])

    @task
    def serve(self) -> Task:
        return Task(config=self.tasks_config["serve"])

    @crew
    def crew(self) -> Crew:
        return Crew(agents=self.agents, tasks=self.tasks)


class Team(TeamServer):
    adapter = CrewAIAdapter(Shop)
"""


def _team(directory: Path, code: str) -> Any:
    (directory / "config").mkdir(parents=True)
    (directory / "team.yaml").write_text(TEAM)
    (directory / "config" / "agents.yaml").write_text(AGENTS)
    (directory / "config" / "tasks.yaml").write_text(TASKS)
    (directory / "team.py").write_text(code)
    return load_server(directory).adapter


def _crew(description: str = "{message}", **crew: Any) -> Any:
    from crewai import Agent, Crew, Task

    clerk = Agent(role="the clerk", goal="Answer", backstory="Brief")
    task = Task(description=description, expected_output="text", agent=clerk)
    return Crew(agents=[clerk], tasks=[task], **crew)


def _asked(model: OfflineModel) -> str:
    return str(model.requests[-1].body["messages"])


async def test_a_class_with_its_files_beside_it(
    tmp_path: Path, model: OfflineModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    scripted(model, {"when": {"system": "the bicycle clerk"}, "say": "Buy it."})
    adapter = _team(tmp_path / "shop-team", CREW_BASE)
    assert answer(await events_of(adapter, context(model, "bicycle"))) == "Buy it."


async def test_runs_of_a_class_never_share_what_it_builds(tmp_path: Path, model: OfflineModel) -> None:
    scripted(model, {"when": {"system": "the (?P<who>\\w+) clerk"}, "say": "I sell ${who}.", "delay": "2ms"})
    adapter = _team(tmp_path / "shop-team", CREW_BASE)
    goods = [f"goods{number}" for number in range(10)]
    runs = await asyncio.gather(*(events_of(adapter, context(model, one, user=one)) for one in goods))
    assert [answer(events) for events in runs] == [f"I sell {one}." for one in goods]


async def test_a_class_gets_what_its_constructor_names(model: OfflineModel) -> None:
    class Shop:
        def __init__(self, context: RunContext, llm: Any) -> None:
            self.context, self.llm = context, llm

        def crew(self) -> Any:
            return _crew(f"Serve {self.context.owner.subject} with {self.llm.model}")

    await events_of(CrewAIAdapter(Shop), context(model))
    assert "Serve ada with offline" in _asked(model)


async def test_an_async_function_may_build_it(model: OfflineModel) -> None:
    async def build() -> Any:
        await asyncio.sleep(0)
        return _crew()

    scripted(model, {"say": "Hello."})
    assert answer(await events_of(CrewAIAdapter(build), context(model))) == "Hello."


async def test_an_agent_that_names_a_model_keeps_it(model: OfflineModel) -> None:
    from crewai import LLM

    def build() -> Any:
        crew = _crew()
        crew.agents[0].llm = LLM(model="theirs", custom_openai=True, base_url=model.url(), api_key="k")
        return crew

    scripted(model, {"say": "one two three"})
    events = await events_of(CrewAIAdapter(build), context(model))
    assert model.requests[-1].body["model"] == "theirs"
    assert answer(events) == "one two three"
    assert used(events) == counted(model)


async def test_a_hierarchical_crew_without_a_manager_is_led_by_the_teams_model(model: OfflineModel) -> None:
    def build() -> Any:
        return _crew(process="hierarchical")

    scripted(model, {"when": {"system": "Crew Manager"}, "say": "Led."})
    assert answer(await events_of(CrewAIAdapter(build), context(model))) == "Led."


async def test_a_crew_that_streams_by_itself_is_run_as_any_other(model: OfflineModel) -> None:
    scripted(model, {"say": "Hello."})
    assert answer(await events_of(CrewAIAdapter(lambda: _crew(stream=True)), context(model))) == "Hello."


def _boom() -> Any:
    raise RuntimeError("no such shop")


def _no_agents() -> Any:
    from crewai import Crew, Task

    return Crew(agents=[], tasks=[Task(description="a", expected_output="b")])


def _no_tasks() -> Any:
    return _crew().__class__(agents=_crew().agents, tasks=[])


def _no_start() -> Any:
    from crewai.flow import Flow

    class Idle(Flow):  # type: ignore[type-arg]
        pass

    return Idle()


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (_no_start, r"the flow Idle has no method to begin with; decorate one with @start\(\)$"),
        (_boom, r"RuntimeError: no such shop \(test_crewai_sources.py, line \d+\)$"),
        (_no_tasks, r"the crew has no tasks; give it at least one, .* \(test_crewai_sources.py, line \d+\)$"),
        (_no_agents, r"Agent is missing in the task .* \(test_crewai_sources.py, line \d+\)$"),
        (lambda: None, r"returned a NoneType; return a Crew or a Flow \(test_crewai_sources.py, line \d+\)$"),
    ],
)
async def test_what_is_wrong_is_said_with_the_authors_own_line(model: OfflineModel, build: Any, sentence: str) -> None:
    with pytest.raises(RunError, match=sentence) as raised:
        await events_of(CrewAIAdapter(build), context(model))
    assert "\n" not in str(raised.value)


def test_what_only_one_run_could_use_is_refused() -> None:
    class Shop:
        def crew(self) -> Any: ...

    with pytest.raises(BadInput, match=r"an instance of Shop, .*give the class, CrewAIAdapter\(Shop\)"):
        CrewAIAdapter(Shop())
    with pytest.raises(BadInput, match="takes a crew, a class decorated with @CrewBase"):
        CrewAIAdapter(5)


def test_a_class_that_asks_for_something_else_is_refused() -> None:
    class Shop:
        def __init__(self, budget: int) -> None: ...

    with pytest.raises(BadInput, match=r"Shop has the parameter 'budget'.*use any of llm, tools, context"):
        CrewAIAdapter(Shop)


@pytest.mark.parametrize("inputs", [{"trade": "bicycles"}, lambda ctx: {"trade": f"what {ctx.owner.subject} rides"}])
async def test_an_author_adds_inputs(model: OfflineModel, inputs: Any) -> None:
    await events_of(CrewAIAdapter(lambda: _crew("{message} {trade}"), inputs=inputs), context(model, "Sell"))
    assert re.search("Sell (bicycles|what ada rides)", _asked(model))


async def test_the_only_placeholder_gets_the_message(model: OfflineModel) -> None:
    await events_of(CrewAIAdapter(lambda: _crew("About {topic} in {current_year}")), context(model, "bicycles"))
    assert f"About bicycles in {datetime.now(UTC).year}" in _asked(model)


async def test_a_message_that_is_an_object_fills_placeholders(model: OfflineModel) -> None:
    adapter = CrewAIAdapter(lambda: _crew("{topic} for {audience}"))
    await events_of(adapter, context(model, '{"topic": "bicycles", "audience": "children"}'))
    assert "bicycles for children" in _asked(model)


async def test_a_placeholder_without_an_input_is_named(model: OfflineModel) -> None:
    with pytest.raises(
        RunError, match=r"no input for \{audience}, \{topic}; .*inputs=\{\"audience\": …, \"topic\": …}"
    ):
        await events_of(CrewAIAdapter(lambda: _crew("{topic} for {audience}")), context(model))
    assert not model.requests


def _more(inputs: dict[str, Any]) -> dict[str, Any]:
    return inputs | {"topic": "bicycles", "audience": "children"}


async def test_a_crew_may_add_its_inputs_before_it_starts(model: OfflineModel) -> None:
    await events_of(
        CrewAIAdapter(lambda: _crew("{topic} for {audience}", before_kickoff_callbacks=[_more])), context(model)
    )
    assert "bicycles for children" in _asked(model)


def _flow() -> Any:
    from crewai.flow.flow import Flow, listen, start
    from crewai.utilities.llm_utils import create_llm

    class Talk(Flow):  # type: ignore[type-arg]
        @start()
        def draft(self) -> str:
            return str(_crew("draft: {message}").kickoff(inputs={"message": self.state["message"]}).raw)

        @listen(draft)
        async def polish(self, text: str) -> str:
            llm = create_llm()
            assert llm is not None
            return str(llm.call(f"polish {text} after {self.state['history']}"))

    return Talk


async def test_a_flow_answers_with_its_last_methods_words(model: OfflineModel) -> None:
    scripted(model, {"when": {"user": "^polish"}, "say": "A polished text."}, {"say": "A draft."})
    adapter = CrewAIAdapter(_flow())
    events = await events_of(adapter, context(model, "Write", history=(TurnMessage("user", "I am Ada"),)))
    assert answer(events) == "A polished text."
    assert "polish A draft. after Person: I am Ada" in _asked(model)
    steps = [(event.name, event.phase) for event in events if isinstance(event, Step)]
    assert steps == [
        ("draft", "start"),
        ("draft: Write", "start"),
        ("draft: Write", "end"),
        ("draft", "end"),
        ("polish", "start"),
        ("polish", "end"),
    ]
    assert used(events) == counted(model)
    assert not adapter.capabilities.recover


async def test_a_flows_own_state_gets_what_it_has_room_for(model: OfflineModel) -> None:
    from crewai.flow.flow import Flow, start
    from pydantic import BaseModel, ConfigDict

    class State(BaseModel):
        model_config = ConfigDict(extra="forbid")
        id: str = ""
        message: str = ""
        tone: str = ""

    class Talk(Flow[State]):
        @start()
        def say(self) -> dict[str, str]:
            return {"said": self.state.message, "tone": self.state.tone}

    def build() -> Any:
        return Talk()

    events = await events_of(CrewAIAdapter(build, inputs={"tone": "calm"}), context(model, "Hello"))
    assert answer(events) == '{"said":"Hello","tone":"calm"}'


async def test_what_a_flow_raises_is_said_with_its_line(model: OfflineModel) -> None:
    from crewai.flow.flow import Flow, start

    class Talk(Flow):  # type: ignore[type-arg]
        @start()
        def say(self) -> str:
            raise KeyError("shop")

    with pytest.raises(RunError, match=r"KeyError: 'shop' \(test_crewai_sources.py, line \d+\)"):
        await events_of(CrewAIAdapter(Talk), context(model))
    with pytest.raises(BadInput, match="an instance of Talk"):
        CrewAIAdapter(Talk())


async def test_ten_flows_at_once_never_mix(model: OfflineModel) -> None:
    scripted(
        model,
        {"when": {"user": "polish .*(?P<who>user\\d)"}, "say": "For ${who}.", "delay": "2ms"},
        {"when": {"user": "(?P<who>user\\d)"}, "say": "draft for ${who}"},
    )
    users = [f"user{number}" for number in range(10)]
    adapter = CrewAIAdapter(_flow())
    runs = await asyncio.gather(*(events_of(adapter, context(model, user, user=user)) for user in users))
    assert [answer(events) for events in runs] == [f"For {user}." for user in users]


async def test_a_flows_last_crew_and_agent_are_heard_while_they_speak(model: OfflineModel) -> None:
    from crewai.flow.flow import Flow, start

    class Crewed(Flow):  # type: ignore[type-arg]
        @start()
        def say(self) -> Any:
            return _crew("Say it").kickoff()

    class Alone(Flow):  # type: ignore[type-arg]
        @start()
        async def say(self) -> Any:
            from crewai import Agent

            clerk = Agent(role="the clerk", goal="Help", backstory="Brief")
            return await clerk.kickoff_async("Say it")

    scripted(model, {"say": "one two three four five"})
    for flow in (Crewed, Alone):
        events = await events_of(CrewAIAdapter(flow), context(model))
        assert answer(events) == "one two three four five"
        assert len([event for event in events if isinstance(event, TextDelta)]) == 5


async def test_a_flow_whose_last_method_gives_nothing_back(model: OfflineModel) -> None:
    from crewai.flow.flow import Flow, listen, start

    class Poem(Flow):  # type: ignore[type-arg]
        @start()
        def write(self) -> None:
            self.state["poem"] = str(_crew("Write").kickoff())

        @listen(write)
        def send(self) -> None: ...

    scripted(model, {"say": "Roses are red."})
    assert answer(await events_of(CrewAIAdapter(Poem), context(model))) == "Roses are red."


async def test_methods_of_a_flow_that_speak_at_once_do_not_mix(model: OfflineModel) -> None:
    from crewai.flow.flow import Flow, start

    class Both(Flow):  # type: ignore[type-arg]
        @start()
        def north(self) -> str:
            return str(_crew("north").kickoff())

        @start()
        def south(self) -> str:
            return str(_crew("south").kickoff())

    scripted(
        model,
        {"when": {"user": "north"}, "say": "n1 n2 n3 n4", "delay": "10ms"},
        {"when": {"user": "south"}, "say": "s1 s2 s3 s4", "delay": "10ms"},
    )
    said = answer(await events_of(CrewAIAdapter(Both), context(model)))
    assert said.split("\n\n")[-1] in ("n1 n2 n3 n4", "s1 s2 s3 s4")
    assert set(said.split("\n\n")) <= {"n1 n2 n3 n4", "s1 s2 s3 s4"}
