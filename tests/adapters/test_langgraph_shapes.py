"""What authors bring, and what they are told when it does not fit."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.channels import UntrackedValue
from pydantic import BaseModel

from elf_sdk.adapters.langgraph import LangGraphAdapter
from elf_sdk.errors import BadInput
from elf_sdk.models.offline import OfflineModel
from elf_sdk.runs.adapter import RunError, TurnMessage
from elf_sdk.runs.events import Artifact, Event, Step, TextDelta, ToolCall, ToolResult
from tests.adapters.support import answer, context, counted, events_of, scripted, used


def graph_of(state: Any, *nodes: Any, **compiled: Any) -> Any:
    """A compiled graph of these functions, one after the other."""
    from langgraph.graph import END, START, StateGraph

    graph = StateGraph(state)
    names = [node.__name__ for node in nodes]
    for name, node in zip(names, nodes, strict=True):
        graph.add_node(name, node)
    for before, after in zip([START, *names], [*names, END], strict=True):
        graph.add_edge(before, after)
    return graph.compile(**compiled)


class Topic(TypedDict):
    topic: str
    plan: str
    steps: list[str]


class Question(BaseModel):
    question: str = ""
    answer: str = ""
    draft: str = ""


@dataclass
class Query:
    query: str
    result: str = ""
    notes: str = ""


class Unclear(TypedDict):
    left: str
    right: str


async def plan(state: Topic) -> dict[str, Any]:
    return {"plan": f"A plan for {state['topic']}."}


async def reply(state: Question) -> dict[str, Any]:
    return {"answer": f"{state.question}? Yes.", "draft": "a draft"}


async def look(state: Query) -> dict[str, Any]:
    return {"result": f"Found {state.query}."}


async def turn(state: Unclear) -> dict[str, Any]:
    return {"right": state["left"]}


@pytest.mark.parametrize(
    ("state", "node", "expected"),
    [(Topic, plan, "A plan for tea."), (Question, reply, "tea? Yes."), (Query, look, "Found tea.")],
    ids=["typed dictionary", "model", "dataclass"],
)
async def test_a_state_without_messages_whose_fields_say_it(
    state: Any, node: Any, expected: str, model: OfflineModel
) -> None:
    assert answer(await events_of(LangGraphAdapter(graph_of(state, node)), context(model, "tea"))) == expected


def test_a_state_that_cannot_be_guessed_is_refused_at_once() -> None:
    with pytest.raises(
        BadInput, match=r"has the fields left, right and no messages.*input=lambda ctx, messages: \{'left'"
    ):
        LangGraphAdapter(graph_of(Unclear, turn))


async def test_a_factory_of_such_a_state_fails_in_the_same_sentence(model: OfflineModel) -> None:
    with pytest.raises(BadInput, match="has the fields left, right and no messages"):
        await events_of(LangGraphAdapter(lambda: graph_of(Unclear, turn)), context(model))


def test_an_answering_node_that_is_not_there() -> None:
    with pytest.raises(BadInput, match=r"no node 'wirter' to give the answer; its nodes are plan"):
        LangGraphAdapter(graph_of(Topic, plan), answer_node="wirter")


def test_another_runnable_is_no_graph() -> None:
    from langchain_core.runnables import RunnableLambda

    with pytest.raises(
        BadInput, match="a RunnableLambda is a runnable of another kind; make it the node of a StateGraph"
    ):
        LangGraphAdapter(RunnableLambda(str))


async def test_a_coroutine_that_builds(model: OfflineModel) -> None:
    async def build(model: Any) -> Any:
        await asyncio.sleep(0)
        return graph_of(Topic, plan)

    assert answer(await events_of(LangGraphAdapter(build), context(model, "tea"))) == "A plan for tea."


async def test_a_factory_that_raises_is_named_with_its_line(model: OfflineModel) -> None:
    def build() -> Any:
        raise KeyError("no such prompt")

    with pytest.raises(RunError, match=r"KeyError: 'no such prompt' \(test_langgraph_shapes\.py, line \d+\)"):
        await events_of(LangGraphAdapter(build), context(model))


async def test_a_circle_is_named(model: OfflineModel) -> None:
    from langgraph.graph import START, StateGraph

    async def one(state: Topic) -> dict[str, Any]:
        return {"plan": "one"}

    async def two(state: Topic) -> dict[str, Any]:
        return {"plan": "two"}

    graph = StateGraph(Topic)
    graph.add_node("one", one)
    graph.add_node("two", two)
    graph.add_edge(START, "one")
    graph.add_edge("one", "two")
    graph.add_edge("two", "one")
    adapter = LangGraphAdapter(graph.compile().with_config(recursion_limit=12))
    with pytest.raises(
        RunError, match=r"took 12 steps without coming to an end, the last of them in one, two: end that"
    ):
        await events_of(adapter, context(model))


async def test_what_cannot_be_kept_is_named_with_its_node_and_field(model: OfflineModel) -> None:
    class State(TypedDict):
        topic: str
        lock: Any

    async def hold(state: State) -> dict[str, Any]:
        return {"lock": threading.Lock()}

    async def answering(state: State) -> dict[str, Any]:
        return {}

    adapter = LangGraphAdapter(graph_of(State, hold, answering), input=lambda ctx, _: {"topic": "x"}, output=str)
    with pytest.raises(
        RunError, match=r"the node 'hold' left something in 'lock' of the graph's state that cannot be kept"
    ):
        await events_of(adapter, context(model))


async def test_what_is_not_to_be_kept_is_left_alone(model: OfflineModel) -> None:
    class State(TypedDict):
        topic: str
        answer: str
        lock: Annotated[Any, UntrackedValue]

    async def hold(state: State) -> dict[str, Any]:
        return {"lock": threading.Lock()}

    async def reply(state: State) -> dict[str, Any]:
        return {"answer": type(state["lock"]).__name__}

    assert answer(await events_of(LangGraphAdapter(graph_of(State, hold, reply)), context(model))) == "lock"


async def test_an_update_that_does_not_fit_names_its_node(model: OfflineModel) -> None:
    async def wrong(state: Topic) -> Any:
        return 5

    with pytest.raises(
        RunError, match=r"after the node 'wrong' the graph's state cannot be updated: Expected dict, got 5"
    ):
        await events_of(LangGraphAdapter(graph_of(Topic, wrong)), context(model))


async def test_an_input_with_nothing_in_it(model: OfflineModel) -> None:
    adapter = LangGraphAdapter(graph_of(Topic, plan), input=lambda ctx, messages: None)
    with pytest.raises(RunError, match=r"the input of the graph gives none of its fields \(topic, plan, steps\)"):
        await events_of(adapter, context(model))


async def test_a_node_that_raises_is_named_with_its_line(model: OfflineModel) -> None:
    async def fails(state: Topic) -> Any:
        raise ValueError("no tea")

    with pytest.raises(RunError, match=r"ValueError: no tea \(test_langgraph_shapes\.py, line \d+\)"):
        await events_of(LangGraphAdapter(graph_of(Topic, fails)), context(model))


async def test_custom_events(model: OfflineModel) -> None:
    from langgraph.config import get_stream_writer
    from langgraph.graph import END, START, StateGraph

    async def inner(state: Topic) -> dict[str, Any]:
        get_stream_writer()({"text": "From inside. "})
        await asyncio.sleep(0.01)
        return {}

    async def outer(state: Topic) -> dict[str, Any]:
        write = get_stream_writer()
        write("looking")
        write({"step": "search", "agent": "Scout"})
        write({"step": "search", "phase": "end"})
        write({"hits": 3, "text": "not alone"})
        write(Artifact("mine", "notes", text="n"))
        write({"text": "Said."})
        await asyncio.sleep(0.01)
        return {"plan": "not said, because something was"}

    graph = StateGraph(Topic)
    graph.add_node("outer", outer)
    graph.add_node("inner", graph_of(Topic, inner))
    graph.add_edge(START, "outer")
    graph.add_edge("outer", "inner")
    graph.add_edge("inner", END)
    events = await events_of(LangGraphAdapter(graph), context(model, "tea"))
    assert events == [
        Step("outer"),
        Step("looking"),
        Step("search", agent="Scout"),
        Step("search", "end"),
        Artifact("custom-4", "custom", "application/json", data={"hits": 3, "text": "not alone"}),
        Artifact("mine", "notes", text="n"),
        TextDelta("Said."),
        Step("outer", "end"),
        Step("inner"),
        Step("inner/inner"),
        TextDelta("From inside. "),
        Step("inner/inner", "end"),
        Step("inner", "end"),
    ]


def _shop(model: Any) -> Any:
    from langchain.agents import create_agent
    from langchain_core.tools import tool

    @tool
    def price_of(thing: str) -> str:
        """Look up a price."""
        threads.append(threading.current_thread().name)
        return f"{len(thing)}9"

    return create_agent(model, [price_of], system_prompt="You sell.")


threads: list[str] = []


async def test_langchains_agent_with_a_plain_tool(model: OfflineModel) -> None:
    scripted(
        model,
        {"when": {"user": "price"}, "call": {"tool": "price_of", "arguments": {"thing": "lamp"}}},
        {"when": {"after_tool": "price_of", "result": "(?P<price>\\d+)"}, "say": "It costs ${price} in all."},
    )
    history = (TurnMessage("user", "I am Ada"), TurnMessage("team", "Hello"))
    events = await events_of(LangGraphAdapter(_shop), context(model, "What is the price?", history=history))
    assert answer(events) == "It costs 49 in all."
    assert len([event for event in events if isinstance(event, TextDelta)]) > 2, "it came in pieces"
    (call,) = [event for event in events if isinstance(event, ToolCall)]
    assert (call.name, call.arguments) == ("price_of", {"thing": "lamp"})
    assert ToolResult(call.call_id, "49") in events
    assert used(events) == counted(model)
    assert "I am Ada" in str(model.requests[0].body["messages"])


async def test_an_agent_with_a_structured_answer(model: OfflineModel) -> None:
    class Price(BaseModel):
        thing: str
        amount: int

    scripted(model, {"call": {"tool": "Price", "arguments": {"thing": "lamp", "amount": 49}}})

    def build(model: Any) -> Any:
        from langchain.agents import create_agent
        from langchain.agents.structured_output import ToolStrategy

        return create_agent(model, [], response_format=ToolStrategy(Price))

    events = await events_of(LangGraphAdapter(build), context(model, "What is the price?"))
    assert [event for event in events if isinstance(event, Artifact)] == [
        Artifact("structured_response", "structured_response", "application/json", data={"thing": "lamp", "amount": 49})
    ]


async def test_an_agent_with_middleware_streams_its_answer(model: OfflineModel) -> None:
    scripted(model, {"say": "one two three four"})

    def build(model: Any) -> Any:
        from langchain.agents import create_agent
        from langchain.agents.middleware import after_agent, after_model

        @after_model
        def looked_at(state: Any, runtime: Any) -> None:
            """Look at it."""

        @after_agent
        def done(state: Any, runtime: Any) -> None:
            """Look at it once more."""

        return create_agent(model, [], middleware=[looked_at, done])

    events = await events_of(LangGraphAdapter(build), context(model))
    assert answer(events) == "one two three four"
    assert len([event for event in events if isinstance(event, TextDelta)]) > 2


async def test_usage_of_every_call_once_wherever_it_is_made(model: OfflineModel) -> None:
    """In parallel nodes, plain ones, subgraphs, and with a structured answer."""
    scripted(model, {"say": "Some words."})

    def build(model: Any) -> Any:
        from langgraph.graph import END, START, MessagesState, StateGraph

        def plain(state: MessagesState) -> Any:
            return {"messages": [model.invoke(state["messages"])]}

        async def coroutine(state: MessagesState) -> Any:
            return {"messages": [await model.ainvoke(state["messages"])]}

        inner = StateGraph(MessagesState)
        inner.add_node("plain", plain)
        inner.add_node("coroutine", coroutine)
        inner.add_edge(START, "plain")
        inner.add_edge(START, "coroutine")
        graph = StateGraph(MessagesState)
        graph.add_node("left", plain)
        graph.add_node("right", coroutine)
        graph.add_node("inner", inner.compile())
        for node in ("left", "right", "inner"):
            graph.add_edge(START, node)
            graph.add_edge(node, END)
        return graph

    events = await events_of(LangGraphAdapter(build), context(model))
    assert len(model.requests) == 4
    assert used(events) == counted(model)
    assert answer(events).count("Some") == 4
    assert answer(events).count("words.") == 4


async def test_what_a_model_thinks_is_no_answer(model: OfflineModel) -> None:
    from langchain_core.messages import AIMessage
    from langgraph.graph import MessagesState

    async def think(state: MessagesState) -> Any:
        content: Any = [{"type": "reasoning", "reasoning": "Hm."}, {"type": "text", "text": "Yes."}]
        return {"messages": [AIMessage(content)]}

    assert answer(await events_of(LangGraphAdapter(graph_of(MessagesState, think)), context(model))) == "Yes."


async def test_a_function_with_an_entrypoint(model: OfflineModel) -> None:
    from langgraph.func import entrypoint, task

    ran: list[str] = []

    @task
    async def shout(text: str) -> str:
        ran.append(text)
        return text.upper()

    @entrypoint()
    async def work(text: str) -> str:
        return f"{await shout(text)}!"

    events = await events_of(LangGraphAdapter(work), context(model, "tea"))
    assert answer(events) == "TEA!"
    assert Step("work/shout") in events


async def test_ten_runs_of_one_compiled_graph(model: OfflineModel) -> None:
    adapter = LangGraphAdapter(graph_of(Topic, plan))
    runs = await asyncio.gather(
        *(events_of(adapter, context(model, f"topic {number}", user=f"user{number}")) for number in range(10))
    )
    assert [answer(events) for events in runs] == [f"A plan for topic {number}." for number in range(10)]


def _plain(state: Topic) -> dict[str, Any]:
    return {"plan": "x"}


def _is_done(state: Topic) -> str:
    return "__end__"


async def _is_done_async(state: Topic) -> str:
    return "__end__"


def _branching(path: Any) -> Any:
    from langgraph.graph import START, StateGraph

    graph = StateGraph(Topic)
    graph.add_node("plan", plan)
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", path, ["__end__"])
    return graph.compile()


def _tools(*tools: Any) -> Any:
    from langgraph.graph import END, START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode

    graph = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode([*tools]))
    graph.add_edge(START, "tools")
    graph.add_edge("tools", END)
    return graph.compile()


async def _slowly(thing: str) -> str:
    """A tool."""
    return thing


def _quickly(thing: str) -> str:
    """A tool."""
    return thing


@pytest.mark.parametrize(
    ("make", "blocking"),
    [
        (lambda: graph_of(Topic, plan), False),
        (lambda: graph_of(Topic, _plain), True),
        (lambda: _branching(_is_done_async), False),
        (lambda: _branching(_is_done), True),
        (lambda: _tools(_slowly), False),
        (lambda: _tools(_slowly, _quickly), True),
    ],
    ids=["coroutine", "plain node", "coroutine edge", "plain edge", "coroutine tool", "plain tool"],
)
def test_whether_it_holds_up_a_loop(make: Any, blocking: bool) -> None:
    capabilities = LangGraphAdapter(make()).capabilities
    assert capabilities.blocking is blocking
    assert capabilities.cancel == ("cooperative" if blocking else "certain")
    assert capabilities.recover
    assert capabilities.human


def test_a_plain_node_in_a_graph_of_the_graph_holds_up_a_loop() -> None:
    from langgraph.graph import END, START, StateGraph

    graph = StateGraph(Topic)
    graph.add_node("inner", graph_of(Topic, _plain))
    graph.add_edge(START, "inner")
    graph.add_edge("inner", END)
    assert LangGraphAdapter(graph.compile()).capabilities.blocking


async def test_cancelling_a_coroutine_stops_it(model: OfflineModel) -> None:
    stopped: list[float] = []

    async def waits(state: Topic) -> dict[str, Any]:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.append(time.monotonic())
        return {}

    async with aclosing(LangGraphAdapter(graph_of(Topic, waits)).run(context(model, "tea"))) as events:
        first: Event = await anext(events)
    assert first == Step("waits")
    assert stopped


@dataclass
class Shop:
    name: str = "bicycles"
    hours: str = "nine to five"


class Owner(BaseModel):
    owner: str


def _with_context(schema: Any, node: Any) -> Any:
    from langgraph.graph import StateGraph

    return StateGraph(Line, context_schema=schema).add_node("node", node).add_edge("__start__", "node").compile()


class Line(TypedDict):
    """One field in all: it is what was asked and then the answer."""

    line: str


async def test_a_context_is_made_of_its_defaults(model: OfflineModel) -> None:
    async def node(state: Line, runtime: Any) -> Line:
        return {"line": f"{state['line']}: {runtime.context.name}, {runtime.context.hours}"}

    adapter = LangGraphAdapter(_with_context(Shop, node))
    assert answer(await events_of(adapter, context(model, "Open?"))) == "Open?: bicycles, nine to five"


async def test_a_context_is_made_of_the_run(model: OfflineModel) -> None:
    async def node(state: Line, runtime: Any) -> Line:
        return {"line": runtime.context.owner}

    adapter = LangGraphAdapter(_with_context(Owner, node), context=lambda ctx: Owner(owner=ctx.owner.subject))
    assert answer(await events_of(adapter, context(model, user="bob"))) == "bob"


async def test_a_context_and_a_store_that_are_not_there_are_told(model: OfflineModel) -> None:
    async def reads(state: Line, runtime: Any) -> Line:
        return {"line": runtime.context.owner}

    async def looks(state: Line, runtime: Any) -> Line:
        return {"line": runtime.context.get("topic")}

    async def keeps(state: Line, runtime: Any) -> Line:
        await runtime.store.aput(("memories",), "1", {})
        return state

    place = r"\(test_langgraph_shapes\.py, line \d+\)"
    for schema, node, sentence in (
        (Owner, reads, f"looks into its context {place}, and was given none; give it: .*lambda ctx: Owner"),
        (Topic, looks, f"looks into its context {place}, and was given none; give it: .*lambda ctx: Topic"),
        (Owner, keeps, f"calls aput of its store {place}, and was compiled without one"),
    ):
        with pytest.raises(RunError, match=sentence):
            await events_of(LangGraphAdapter(_with_context(schema, node)), context(model))


def test_a_name_that_can_name_nothing_is_refused() -> None:
    with pytest.raises(BadInput, match=r"'graph\.py' names nothing in a module; write the module, a colon"):
        LangGraphAdapter("graph.py")
