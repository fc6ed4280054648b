"""What holds for every adapter, against the real HTTP offline model."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import pytest

from elf_sdk.adapters.crewai import CrewAIAdapter
from elf_sdk.adapters.function import FunctionAdapter, FunctionContext
from elf_sdk.adapters.langgraph import LangGraphAdapter
from elf_sdk.models.offline import OfflineModel
from elf_sdk.runs.adapter import Adapter, Owner, RunError, TurnMessage
from elf_sdk.runs.events import DelegationProposed, Step, TextDelta, ToolCall, ToolResult, encode, is_terminal
from tests.adapters.support import BRAND, answer, context, counted, events_of, scripted, until, used


async def _function(ctx: FunctionContext) -> AsyncGenerator[str, None]:
    if "propose" in ctx.text:
        ctx.delegate("brand-team", "A tone of voice", "For it.", requirements=["short"])
    async for piece in ctx.stream():
        yield piece


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
    "function": lambda: FunctionAdapter(_function),
    "langgraph": lambda: LangGraphAdapter(_graph),
    "crewai": lambda: CrewAIAdapter(_crew),
}


@pytest.fixture(params=sorted(MAKERS))
def adapter(request: pytest.FixtureRequest) -> Adapter:
    return MAKERS[request.param]()


async def test_the_answer_is_what_the_last_one_said(adapter: Adapter, model: OfflineModel) -> None:
    scripted(model, {"when": {"system": "researcher"}, "say": "Notes."}, {"say": "Bicycles are fun."})
    events = await events_of(adapter, context(model))
    assert answer(events) == "Bicycles are fun."
    assert not any(is_terminal(event) for event in events)
    assert all(encode(event) for event in events)


async def test_text_arrives_while_the_model_still_writes(adapter: Adapter, model: OfflineModel) -> None:
    scripted(
        model, {"when": {"system": "researcher"}, "say": "Notes."}, {"say": "one two three four five", "delay": "60ms"}
    )
    arrivals = [time.monotonic() async for event in adapter.run(context(model)) if isinstance(event, TextDelta)]
    assert arrivals[-1] - arrivals[0] > 0.15


async def test_usage_is_what_the_model_counted(adapter: Adapter, model: OfflineModel) -> None:
    scripted(model, {"say": "Bicycles are fun."})
    assert used(await events_of(adapter, context(model))) == counted(model)


async def test_earlier_messages_reach_the_model(adapter: Adapter, model: OfflineModel) -> None:
    history = (TurnMessage("user", "I am Ada"), TurnMessage("team", "Hello Ada"))
    await events_of(adapter, context(model, history=history))
    assert "I am Ada" in str(model.requests[-1].body["messages"])


async def test_ten_at_once_never_mix(adapter: Adapter, model: OfflineModel) -> None:
    scripted(model, {"when": {"user": "marker-(?P<who>\\w+)"}, "say": "This is for ${who} only.", "delay": "5ms"})
    users = [f"user{number}" for number in range(10)]
    runs = await asyncio.gather(*(events_of(adapter, context(model, f"marker-{user}", user=user)) for user in users))
    assert [answer(events) for events in runs] == [f"This is for {user} only." for user in users]


async def test_closing_closes_the_connection_to_the_model(adapter: Adapter, model: OfflineModel) -> None:
    scripted(model, {"when": {"system": "researcher"}, "say": "Notes."}, {"say": "on and " * 2000, "delay": "10ms"})
    async with aclosing(adapter.run(context(model))) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                break
    await until(lambda: model.requests[-1].outcome == "gone")
    asked = len(model.requests)
    await until(lambda: not any(thread.name == "elf-run" for thread in threading.enumerate()))
    assert len(model.requests) == asked


async def test_closing_while_the_model_hangs(adapter: Adapter, model: OfflineModel) -> None:
    scripted(model, {"fault": {"hang_after": 0}, "say": "never"})
    run = asyncio.create_task(events_of(adapter, context(model, timeout=60)))
    await until(lambda: bool(model.requests), 15)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    await until(lambda: model.requests[-1].outcome == "gone")
    await until(lambda: not any(thread.name == "elf-run" for thread in threading.enumerate()))


@pytest.mark.parametrize(
    ("fault", "sentence", "retryable"),
    [
        ({"status": 401, "message": "Incorrect API key provided: sk-0123456789abcdef"}, "refused the key", False),
        ({"status": 500}, "failed; try again later (HTTP 500)", True),
        ({"status": 429, "retry_after": 0}, "too often", True),
        ({"status": 400, "message": "the context is too long"}, "the context is too long", False),
        ({"reset_after": 2}, "the connection to the model", True),
    ],
    ids=["401", "500", "429", "400", "reset"],
)
async def test_an_error_of_the_model_is_one_clear_sentence(
    adapter: Adapter, model: OfflineModel, fault: dict[str, Any], sentence: str, retryable: bool
) -> None:
    if adapter.name == "crewai" and fault.get("status") == 429:
        pytest.skip("CrewAI tries three times of its own accord, which takes 9 s")
    scripted(model, {"say": "one two three four", "fault": fault})
    with pytest.raises(RunError) as raised:
        await events_of(adapter, context(model))
    assert sentence in str(raised.value)
    assert (raised.value.code, raised.value.retryable) == ("model", retryable)
    assert "sk-0123" not in str(raised.value)
    assert "\n" not in str(raised.value)


async def test_a_model_that_is_not_there(adapter: Adapter, model: OfflineModel) -> None:
    ctx = context(model)
    model.stop()
    with pytest.raises(RunError, match=r"the connection to the model at 127\.0\.0\.1:\d+ broke or could not be made"):
        await events_of(adapter, ctx)


async def test_a_fault_that_passes_is_retried(adapter: Adapter, model: OfflineModel) -> None:
    scripted(model, {"fault": {"status": 503, "retry_after": 0, "times": 1}}, {"say": "Here I am."})
    assert answer(await events_of(adapter, context(model, retries=2))) == "Here I am."


async def test_a_proposal_is_an_event_and_sends_nothing(adapter: Adapter, model: OfflineModel) -> None:
    arguments = {"title": "A tone of voice", "description": "For the launch.", "requirements": ["short"]}
    scripted(
        model,
        {"when": {"system": "researcher"}, "say": "Notes."},
        {"when": {"user": "propose"}, "call": {"tool": "delegate_to_brand_team", "arguments": arguments}},
        {"when": {"after_tool": "delegate_to_brand_team"}, "say": "Please confirm."},
        {"say": "Please confirm."},
    )
    events = await events_of(adapter, context(model, "Please propose it", delegates=(BRAND,)))
    [proposal] = [event for event in events if isinstance(event, DelegationProposed)]
    assert (proposal.target, proposal.title) == ("brand-team", "A tone of voice")
    assert proposal.proposal_id.startswith("run-ada-")
    assert proposal.requirements == ("short",)
    assert answer(events) == "Please confirm."
    if adapter.name != "function":
        [call] = [event for event in events if isinstance(event, ToolCall)]
        [result] = [event for event in events if isinstance(event, ToolResult)]
        assert call.name == "delegate_to_brand_team"
        assert call.arguments["title"] == "A tone of voice"
        assert result.call_id == call.call_id
        assert "nothing has been sent yet" in result.output
        assert events.index(call) < events.index(proposal) < events.index(result)


async def test_steps_begin_and_end(model: OfflineModel) -> None:
    for name, expected in (("langgraph", ["researcher", "writer"]), ("crewai", ["research", "write"])):
        events = await events_of(MAKERS[name](), context(model))
        steps = [(event.name, event.phase) for event in events if isinstance(event, Step)]
        assert steps == [(step, phase) for step in expected for phase in ("start", "end")]


async def test_the_owner_is_known_to_a_function(model: OfflineModel) -> None:
    async def who(ctx: FunctionContext) -> str:
        return f"{ctx.user} of {ctx.spec.name}"

    assert answer(await events_of(FunctionAdapter(who), context(model))) == "ada of bike-team"
    assert context(model).owner == Owner("test", "ada")
