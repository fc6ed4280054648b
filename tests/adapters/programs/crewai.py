"""The suite's programs as crews and flows of CrewAI."""

from __future__ import annotations

from typing import Any

from elf_sdk.adapters.crewai import CrewAIAdapter
from elf_sdk.runs.adapter import RunContext
from elf_sdk.server.team_server import TeamServer
from elf_sdk.testing.tools import TOOLS


def agent(llm: Any, tools: list[Any]) -> Any:
    """One agent with one task."""
    from crewai import Agent, Crew, Task
    from crewai.tools import tool

    own = [*tools, *(tool(function.__name__)(function) for function in TOOLS)]
    lead = Agent(role="the lead", goal="Answer", backstory="Brief.", llm=llm, tools=own)
    return Crew(agents=[lead], tasks=[Task(description="{message}\n\n{history}", expected_output="text", agent=lead)])


def asking(llm: Any) -> Any:
    """A flow whose first step waits for a person, and whose second asks the model."""
    from crewai.flow.flow import Flow, listen, start
    from crewai.flow.human_feedback import human_feedback

    class Painting(Flow):  # type: ignore[type-arg]
        @start()
        @human_feedback(message="Which colour?")
        def sketch(self) -> str:
            return "a sketch"

        @listen(sketch)
        def paint(self, result: Any) -> str:
            return str(llm.call(f"It shall be {result.feedback}."))

    return Painting()


def recovering(llm: Any) -> Any:
    """Two tasks, each of an agent of its own."""
    from crewai import Agent, Crew, Task

    first = Agent(role="the first", goal="Begin", backstory="Quick.", llm=llm)
    second = Agent(role="the second", goal="End", backstory="Calm.", llm=llm)
    return Crew(
        agents=[first, second],
        tasks=[
            Task(name="first", description="{message}", expected_output="notes", agent=first),
            Task(name="second", description="{message}", expected_output="text", agent=second),
        ],
    )


def endless(context: RunContext) -> Any:
    """A flow whose only step never ends."""
    from crewai.flow.flow import Flow, start

    while context.text == "In the factory.":
        sum(range(1000))

    class Circle(Flow):  # type: ignore[type-arg]
        @start()
        def circle(self) -> str:
            while True:
                sum(range(1000))

    return Circle()


def failing() -> Any:
    raise ValueError("no such thing")


def mistaken() -> Any:
    return 5


class Agent(TeamServer):
    adapter = CrewAIAdapter(agent)


class Asking(TeamServer):
    adapter = CrewAIAdapter(asking)


class Recovering(TeamServer):
    adapter = CrewAIAdapter(recovering)


class Failing(TeamServer):
    adapter = CrewAIAdapter(failing)


class Mistaken(TeamServer):
    adapter = CrewAIAdapter(mistaken)


class Endless(TeamServer):
    adapter = CrewAIAdapter(endless)
