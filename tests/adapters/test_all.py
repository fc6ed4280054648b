"""What holds for every framework whose work has several steps; what each adapter keeps is in the suite."""

from collections.abc import Callable
from typing import Any

import pytest

from elf_sdk.adapters.crewai import CrewAIAdapter
from elf_sdk.adapters.langgraph import LangGraphAdapter
from elf_sdk.models.offline import OfflineModel
from elf_sdk.runs.adapter import Adapter
from elf_sdk.runs.events import Step
from tests.adapters.support import answer, context, events_of, scripted


def _graph(model: Any, tools: list[Any]) -> Any:
    from langgraph.graph import END, START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode, tools_condition

    asking = model.bind_tools(tools) if tools else model

    async def researcher(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke([("system", "You are the researcher."), *state["messages"]])]}

    async def writer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await asking.ainvoke([("system", "You are the writer."), *state["messages"]])]}

    graph = StateGraph(MessagesState)
    graph.add_node("researcher", researcher)
    graph.add_node("writer", writer)
    graph.add_node("tools", ToolNode(tools))
    graph.add_edge(START, "researcher")
    graph.add_edge("researcher", "writer")
    graph.add_conditional_edges("writer", tools_condition, {"tools": "tools", END: END})
    graph.add_edge("tools", "writer")
    return graph


def _crew(llm: Any, tools: list[Any]) -> Any:
    from crewai import Agent, Crew, Task

    researcher = Agent(role="the researcher", goal="Find out", backstory="Curious", llm=llm)
    writer = Agent(role="the writer", goal="Write", backstory="Terse", llm=llm, tools=tools)
    return Crew(
        agents=[researcher, writer],
        tasks=[
            Task(name="research", description="{message}", expected_output="notes", agent=researcher),
            Task(name="write", description="{message}\n\n{history}", expected_output="an answer", agent=writer),
        ],
    )


MAKERS: dict[str, Callable[[], Adapter]] = {
    "langgraph": lambda: LangGraphAdapter(_graph),
    "crewai": lambda: CrewAIAdapter(_crew),
}


@pytest.fixture(params=sorted(MAKERS))
def adapter(request: pytest.FixtureRequest) -> Adapter:
    return MAKERS[request.param]()


async def test_the_answer_is_what_the_last_one_said(adapter: Adapter, model: OfflineModel) -> None:
    scripted(model, {"when": {"system": "researcher"}, "say": "Notes."}, {"say": "Bicycles are fun."})
    assert answer(await events_of(adapter, context(model))) == "Bicycles are fun."


async def test_steps_begin_and_end(model: OfflineModel) -> None:
    for name, expected in (("langgraph", ["researcher", "writer"]), ("crewai", ["research", "write"])):
        events = await events_of(MAKERS[name](), context(model))
        steps = [(event.name, event.phase) for event in events if isinstance(event, Step)]
        assert steps == [(step, phase) for step in expected for phase in ("start", "end")]
