"""A graph's interrupts: each a question, all of them answered before it goes on, whatever process asked."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import orjson
import pytest

from elf_sdk.adapters.langgraph import LangGraphAdapter
from elf_sdk.adapters.langgraph.questions import prompt, resumed
from elf_sdk.models.llm import Endpoint
from elf_sdk.models.offline import OfflineModel
from elf_sdk.runs.adapter import Adapter
from elf_sdk.runs.durable import DurableLog
from elf_sdk.runs.engine import Engine
from elf_sdk.runs.events import Failed, Finished, InputRequired, Rewound, ToolCall, ToolResult, answer_text
from elf_sdk.runs.memory import MemoryLog
from elf_sdk.store import store_at
from tests.adapters.support import scripted
from tests.runs.support import ADA, BOB, ask, ended, team


class Replicas:
    """Engines on one log or database, one after the other, each as a process would have it."""

    def __init__(self, model: OfflineModel, path: Path | None, url: str) -> None:
        self._endpoint = Endpoint("offline", "offline", model.url(), "not-needed")
        self._path = path
        self._url = url
        self._memory = MemoryLog()
        self._closing: list[Any] = []

    async def start(self, adapter: Adapter) -> Engine:
        if self._path is None:
            engine = Engine(team(), adapter, self._memory, self._endpoint)
        else:
            store = store_at(self._path, self._url)
            await store.open()
            log = DurableLog(store)
            await log.open()
            engine = Engine(team(), adapter, log, self._endpoint)
            self._closing += [store, log]
        await engine.open()
        self._closing.append(engine)
        return engine

    async def close(self) -> None:
        while self._closing:
            await self._closing.pop().close()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def replicas(
    request: pytest.FixtureRequest, tmp_path: Path, model: OfflineModel
) -> AsyncGenerator[Replicas, None]:
    url = request.getfixturevalue("database") if request.param == "postgres" else ""
    path = None if request.param == "memory" else tmp_path / "elf.db"
    replicas = Replicas(model, path, url)
    yield replicas
    await replicas.close()


async def open_questions(engine: Engine, run_id: str) -> list[InputRequired]:
    """What the run waits for; the latest asking of each."""
    run = await engine.settled(run_id, ADA)
    assert run.state.waits, [entry.event for entry in await engine.events(run_id, ADA)]
    events = [entry.event for entry in await engine.events(run_id, ADA)]
    asked = {event.question_id: event for event in events if isinstance(event, InputRequired)}
    return [event for event in asked.values() if not _answered(events, event.question_id)]


def _answered(events: list[Any], question_id: str) -> bool:
    return any(type(event).__name__ == "Answered" and event.question_id == question_id for event in events)


async def said(engine: Engine, run_id: str) -> str:
    assert await ended(engine, run_id) == Finished()
    return answer_text(await engine.events(run_id, ADA))


def _parallel(ran: Counter[str]) -> Any:
    """Two nodes that ask at once, one of them in a graph of its own, and one that does not."""
    from langchain_core.messages import AIMessage
    from langgraph.graph import END, START, MessagesState, StateGraph
    from langgraph.types import interrupt

    async def size(state: MessagesState) -> Any:
        ran["size"] += 1
        return {"messages": [AIMessage(f"size {interrupt('Which size?')}")]}

    async def colour(state: MessagesState) -> Any:
        ran["colour"] += 1
        first = interrupt({"question": "Which colour?", "choices": ["red", "blue"]})
        second = interrupt("Glossy?")
        return {"messages": [AIMessage(f"colour {first} {second}")]}

    async def plain(state: MessagesState) -> Any:
        ran["plain"] += 1
        return {"messages": [AIMessage("plain")]}

    async def last(state: MessagesState) -> Any:
        texts = sorted(str(message.text) for message in state["messages"] if message.type == "ai")
        return {"messages": [AIMessage("; ".join(texts))]}

    inner = StateGraph(MessagesState)
    inner.add_node("colour", colour)
    inner.add_edge(START, "colour")
    inner.add_edge("colour", END)
    graph = StateGraph(MessagesState)
    graph.add_node("size", size)
    graph.add_node("inner", inner.compile())
    graph.add_node("plain", plain)
    graph.add_node("last", last)
    for node in ("size", "inner", "plain"):
        graph.add_edge(START, node)
    graph.add_edge(["size", "inner", "plain"], "last")
    graph.add_edge("last", END)
    return graph.compile()


async def test_several_at_once_one_after_the_other_and_in_a_graph_of_the_graph(replicas: Replicas) -> None:
    ran: Counter[str] = Counter()
    engine = await replicas.start(LangGraphAdapter(_parallel(ran)))
    run = await engine.start(ask("A lamp"))
    # The graph around the one that asks repeats its question; that is still one.
    first = await open_questions(engine, run.id)
    assert sorted(question.prompt for question in first) == ["Which colour?\nChoices: red, blue", "Which size?"]
    by_prompt = {question.prompt[:9]: question.question_id for question in first}
    await engine.answer(run.id, ADA, by_prompt["Which col"], "red")
    # Nothing goes on until all are answered.
    assert [question.prompt for question in await open_questions(engine, run.id)] == ["Which size?"]
    assert ran == {"size": 1, "colour": 1, "plain": 1}
    await engine.answer(run.id, ADA, by_prompt["Which siz"], "small")
    (glossy,) = await open_questions(engine, run.id)
    assert glossy.prompt == "Glossy?"
    assert glossy.question_id not in by_prompt.values()
    await engine.answer(run.id, ADA, glossy.question_id, "no")
    assert await said(engine, run.id) == "colour red no; plain; size small"
    # What was done is not done again.
    assert ran["plain"] == 1
    assert ran["size"] == 2


async def test_an_answer_at_another_replica(tmp_path: Path, model: OfflineModel, database: str) -> None:
    for url in ("", database):
        ran: Counter[str] = Counter()
        replicas = Replicas(model, tmp_path / "elf.db", url)
        engine = await replicas.start(LangGraphAdapter(_parallel(ran)))
        run = await engine.start(ask("A lamp"))
        asked = await open_questions(engine, run.id)
        if not url:
            # One process has a file.
            await replicas.close()
        other = await replicas.start(LangGraphAdapter(_parallel(ran)))
        for question in asked:
            await other.answer(run.id, ADA, question.question_id, "small")
            await other.settled(run.id, ADA)
        (glossy,) = await open_questions(other, run.id)
        await other.answer(run.id, ADA, glossy.question_id, "yes")
        assert await said(other, run.id) == "colour small yes; plain; size small"
        assert ran["plain"] == 1
        await replicas.close()


async def test_a_graph_that_has_lost_the_node_which_asked(replicas: Replicas) -> None:
    def graph(name: str) -> Any:
        from langgraph.graph import END, START, MessagesState, StateGraph
        from langgraph.types import interrupt

        async def asks(state: MessagesState) -> dict[str, Any]:
            return {"messages": [("ai", interrupt("Which city?"))]}

        return StateGraph(MessagesState).add_node(name, asks).add_edge(START, name).add_edge(name, END).compile()

    engine = await replicas.start(LangGraphAdapter(graph("before")))
    run = await engine.start(ask("go"))
    (question,) = await open_questions(engine, run.id)
    await replicas.close()
    engine = await replicas.start(LangGraphAdapter(graph("after")))
    await engine.answer(run.id, ADA, question.question_id, "Rome")
    end = await ended(engine, run.id)
    assert isinstance(end, Failed)
    assert "the graph has changed since it asked 'Which city?'" in end.message


async def test_a_question_that_a_node_does_not_ask_again(replicas: Replicas) -> None:
    """It called a graph that asked; with the answer it goes another way, and the graph inside never hears of it."""
    from langchain_core.messages import AIMessage
    from langgraph.graph import END, START, MessagesState, StateGraph
    from langgraph.types import interrupt

    async def asks(state: MessagesState) -> Any:
        return {"messages": [AIMessage(str(interrupt("Which?")))]}

    inner = StateGraph(MessagesState)
    inner.add_node("asks", asks)
    inner.add_edge(START, "asks")
    inner.add_edge("asks", END)
    compiled = inner.compile()
    calls: list[int] = []

    async def outer(state: MessagesState) -> Any:
        calls.append(1)
        if len(calls) == 1:
            await compiled.ainvoke({"messages": state["messages"]})
        return {"messages": [AIMessage("Done without it.")]}

    graph = StateGraph(MessagesState)
    graph.add_node("outer", outer)
    graph.add_edge(START, "outer")
    graph.add_edge("outer", END)
    engine = await replicas.start(LangGraphAdapter(graph.compile()))
    run = await engine.start(ask("Go"))
    (question,) = await open_questions(engine, run.id)
    await engine.answer(run.id, ADA, question.question_id, "this")
    assert await said(engine, run.id) == "Done without it."


def _draft(ran: Counter[str]) -> Any:
    from langchain_core.messages import AIMessage
    from langgraph.config import get_stream_writer
    from langgraph.graph import END, START, MessagesState, StateGraph
    from langgraph.types import interrupt

    async def intro(state: MessagesState) -> Any:
        ran["intro"] += 1
        return {"messages": [AIMessage("Intro.")]}

    async def draft(state: MessagesState) -> Any:
        ran["draft"] += 1
        get_stream_writer()({"text": f"Draft {ran['draft']}."})
        await asyncio.sleep(0.01)
        return {"messages": [AIMessage(f"Published: {interrupt('Publish?')}")]}

    graph = StateGraph(MessagesState)
    graph.add_node("intro", intro)
    graph.add_node("draft", draft)
    graph.add_edge(START, "intro")
    graph.add_conditional_edges("intro", lambda state: "draft", ["draft", END])
    graph.add_edge("draft", END)
    return graph.compile()


async def test_text_of_a_node_that_comes_again_is_not_there_twice(replicas: Replicas) -> None:
    engine = await replicas.start(LangGraphAdapter(_draft(Counter())))
    run = await engine.start(ask("Write"))
    (question,) = await open_questions(engine, run.id)
    assert answer_text(await engine.events(run.id, ADA)) == "Intro.\n\nDraft 1."
    await engine.answer(run.id, ADA, question.question_id, "yes")
    assert await said(engine, run.id) == "Intro.\n\nDraft 2.\n\nPublished: yes"
    assert any(isinstance(entry.event, Rewound) for entry in await engine.events(run.id, ADA))


def _agent(calls: list[str], **options: Any) -> Any:
    def build(model: Any) -> Any:
        from langchain.agents import create_agent
        from langchain.agents.middleware import HumanInTheLoopMiddleware
        from langchain_core.tools import tool

        @tool
        def send_mail(to: str) -> str:
            """Send a mail."""
            calls.append(to)
            return "sent to " + to

        middleware = HumanInTheLoopMiddleware(interrupt_on={"send_mail": True}, **options)
        return create_agent(model, [send_mail], middleware=[middleware])

    return build


@pytest.mark.parametrize("mode", ["batched", "per_call"])
@pytest.mark.parametrize("answer", ["approve", "json", "No: she is away"])
async def test_langchains_question_whether_a_tool_may_be_called(
    mode: str, answer: str, replicas: Replicas, model: OfflineModel
) -> None:
    scripted(
        model,
        {"when": {"after_tool": "send_mail", "result": "sent to (?P<whom>\\w+)"}, "say": "Mail sent to ${whom}."},
        {"when": {"after_tool": "send_mail", "result": "she is away"}, "say": "Not sent."},
        {"when": {"user": "mail"}, "call": {"tool": "send_mail", "arguments": {"to": "ada"}}},
    )
    calls: list[str] = []
    engine = await replicas.start(LangGraphAdapter(_agent(calls, interrupt_mode=mode)))
    run = await engine.start(ask("Send a mail"))
    (question,) = await open_questions(engine, run.id)
    assert 'send_mail({"to":"ada"})' in question.prompt
    assert "approve" in question.prompt
    assert "reject" in question.prompt
    assert calls == []
    if answer == "json":
        decision = {"type": "edit", "edited_action": {"name": "send_mail", "args": {"to": "bob"}}}
        answer = orjson.dumps(decision if mode == "per_call" else {"decisions": [decision]}).decode()
    await engine.answer(run.id, ADA, question.question_id, answer)
    text = await said(engine, run.id)
    if answer.startswith("No"):
        assert (text, calls) == ("Not sent.", [])
    elif answer == "approve":
        assert (text, calls) == ("Mail sent to ada.", ["ada"])
    else:
        assert (text, calls) == ("Mail sent to bob.", ["bob"])


async def test_a_tool_that_asks(replicas: Replicas, model: OfflineModel) -> None:
    scripted(
        model,
        {"when": {"after_tool": "order", "result": "(?P<what>.+)"}, "say": "Ordered: ${what}"},
        {"when": {"user": "lamp"}, "call": {"tool": "order", "arguments": {"thing": "lamp"}}},
    )

    def build(model: Any) -> Any:
        from langchain.agents import create_agent
        from langchain_core.tools import tool
        from langgraph.types import interrupt

        @tool
        def order(thing: str) -> str:
            """Order a thing."""
            return f"{interrupt({'message': f'How many of {thing}?'})} of {thing}"

        return create_agent(model, [order])

    engine = await replicas.start(LangGraphAdapter(build))
    run = await engine.start(ask("A lamp"))
    (question,) = await open_questions(engine, run.id)
    assert question.prompt == "How many of lamp?"
    await engine.answer(run.id, ADA, question.question_id, "3")
    assert await said(engine, run.id) == "Ordered: 3 of lamp"
    events = [entry.event for entry in await engine.events(run.id, ADA)]
    # The call is one call, and has one result.
    assert len({event.call_id for event in events if isinstance(event, ToolCall)}) == 1
    assert [event.output for event in events if isinstance(event, ToolResult)] == ["3 of lamp"]
    assert len(model.requests) == 2


async def test_a_graph_that_was_compiled_to_stop(replicas: Replicas) -> None:
    def build() -> Any:
        from langchain_core.messages import AIMessage
        from langgraph.graph import END, START, MessagesState, StateGraph

        graph = StateGraph(MessagesState)
        graph.add_node("plan", lambda state: {"messages": [AIMessage("A plan.")]})
        graph.add_node("act", lambda state: {"messages": [AIMessage("Done.")]})
        graph.add_edge(START, "plan")
        graph.add_edge("plan", "act")
        graph.add_edge("act", END)
        return graph.compile(interrupt_before=["act"])

    engine = await replicas.start(LangGraphAdapter(build))
    run = await engine.start(ask("Go"))
    (question,) = await open_questions(engine, run.id)
    assert question.prompt == "The graph stopped before act. Any answer lets it go on."
    await engine.answer(run.id, ADA, question.question_id, "go on")
    assert await said(engine, run.id) == "Done."


async def test_owners_and_runs_of_one_conversation_share_nothing(replicas: Replicas) -> None:
    """One compiled graph, compiled with a memory of its own, whose thread everybody would share."""
    from langchain_core.messages import AIMessage
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.graph import END, START, MessagesState, StateGraph
    from langgraph.types import interrupt

    async def node(state: MessagesState) -> Any:
        answer = interrupt(f"{state['messages'][-1].text}?")
        return {"messages": [AIMessage(f"{len(state['messages'])} {state['messages'][-1].text} {answer}")]}

    graph = StateGraph(MessagesState)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    graph.add_edge("node", END)
    engine = await replicas.start(LangGraphAdapter(graph.compile(checkpointer=InMemorySaver())))
    runs = []
    for owner in (ADA, BOB):
        for number in range(5):
            runs.append((owner, await engine.start(ask(f"{owner.subject} {number}", context="same", owner=owner))))
            await engine.settled(runs[-1][1].id, owner)

    async def finish(owner: Any, run_id: str, text: str) -> str:
        events = [entry.event for entry in await engine.events(run_id, owner)]
        (question,) = [event for event in events if isinstance(event, InputRequired)]
        assert question.prompt == f"{text}?"
        await engine.answer(run_id, owner, question.question_id, f"to {text}")
        assert await ended(engine, run_id, owner) == Finished()
        return answer_text(await engine.events(run_id, owner))

    texts = [f"{owner.subject} {number}" for owner in (ADA, BOB) for number in range(5)]
    found = await asyncio.gather(*(finish(owner, run.id, text) for (owner, run), text in zip(runs, texts, strict=True)))
    assert [one.partition(" ")[2] for one in found] == [f"{text} to {text}" for text in texts]


class _Asked:
    def __init__(self, value: Any, schema: Any = None) -> None:
        self.value = value
        self.response_schema = schema


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Which?", "Which?"),
        ({"question": "Which?", "more": 1}, "Which?"),
        ({"prompt": "Which?", "options": [1, "two"]}, "Which?\nChoices: 1, two"),
        ({"draft": "x", "n": 2}, '{"draft":"x","n":2}'),
        ([1, 2], "[1,2]"),
        (None, "null"),
    ],
)
def test_prompts(value: Any, expected: str) -> None:
    assert prompt(_Asked(value)) == expected


@pytest.mark.parametrize(
    ("value", "schema", "answer", "expected"),
    [
        ("How many?", None, "3", "3"),
        ("Which?", None, '{"a": 1}', '{"a": 1}'),
        ({"question": "How many?"}, None, "3", "3"),
        ({"question": "Which?"}, None, '{"a": 1}', {"a": 1}),
        ({"question": "Which?"}, None, "{not json", "{not json"),
        ("How many?", {"type": "integer"}, "3", 3),
        ("Who?", {"type": "string"}, "Ada", "Ada"),
        ({"action_requests": [{"name": "f"}, {"name": "g"}]}, None, "Yes.", {"decisions": [{"type": "approve"}] * 2}),
        ({"action_requests": [{"name": "f"}]}, None, "no", {"decisions": [{"type": "reject"}]}),
        ({"type": "tool_approval"}, {}, "too dear", {"type": "reject", "message": "too dear"}),
    ],
)
def test_answers(value: Any, schema: Any, answer: str, expected: Any) -> None:
    assert resumed(_Asked(value, schema), answer) == expected
