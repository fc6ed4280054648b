"""A graph's run that was cut off goes on where it was: no finished node twice, and nothing missing from the answer."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from elf_sdk.adapters.langgraph import LangGraphAdapter
from elf_sdk.models.offline import OfflineModel
from elf_sdk.runs.adapter import RunContext, RunError
from elf_sdk.runs.checkpoints import MemoryCheckpoints
from elf_sdk.runs.events import (
    Artifact,
    Event,
    LoggedEvent,
    Rewound,
    Started,
    Step,
    TextDelta,
    ToolCall,
    Usage,
    answer_text,
    holding,
)
from elf_sdk.runs.writer import coalesce
from tests.adapters.support import context, events_of, scripted

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Dark(BaseException):
    """The process is gone."""


class Failing(MemoryCheckpoints):
    """Checkpoints of a process that dies at the save after so many."""

    def __init__(self, saves: int | None) -> None:
        super().__init__()
        self.left = saves

    async def save(self, entries: Mapping[str, bytes | None]) -> None:
        if self.left == 0:
            raise RuntimeError("dark")
        if self.left is not None:
            self.left -= 1
        await super().save(entries)


def logged(events: Sequence[Event], first: int = 1) -> tuple[LoggedEvent, ...]:
    return tuple(LoggedEvent("run-ada", seq, NOW, event) for seq, event in enumerate(events, start=first))


async def until_dark(adapter: LangGraphAdapter, ctx: RunContext) -> tuple[list[Event], bool]:
    """What the adapter gave, and whether it came to the end."""
    events: list[Event] = []

    async def all_of_it() -> None:
        async for event in adapter.run(ctx):
            events.append(event)  # noqa: PERF401 - what comes before an error counts

    try:
        await all_of_it()
    except RunError as error:
        if "dark" not in str(error):
            raise
        return events, False
    return events, True


async def with_crashes(
    adapter: LangGraphAdapter, ctx: RunContext, saves: Sequence[int], dice: random.Random
) -> tuple[LoggedEvent, ...]:
    """The log of a run whose process dies after so many saves, each time with only a part of its events stored."""
    checkpoints = Failing(None)
    log: tuple[LoggedEvent, ...] = logged([Started()])
    for attempt, left in enumerate([*saves, None], start=1):
        checkpoints.left = left
        again = replace(ctx, checkpoints=checkpoints, attempt=attempt, before=log if attempt > 1 else ())
        events, ended = await until_dark(adapter, again)
        if not ended:
            events = events[: dice.randint(0, len(events))]
        log += logged(coalesce(events), len(log) + 1)
        if ended:
            break
        log += logged([Started(attempt + 1)], len(log) + 1)
    return log


def _inner(ran: Counter[str]) -> Any:
    from langchain_core.messages import AIMessage
    from langgraph.graph import END, START, MessagesState, StateGraph

    async def one(state: MessagesState) -> Any:
        ran["one"] += 1
        return {"messages": [AIMessage("inner one, ")]}

    async def two(state: MessagesState) -> Any:
        ran["two"] += 1
        return {"messages": [AIMessage("inner two.")]}

    graph = StateGraph(MessagesState)
    graph.add_node("one", one)
    graph.add_node("two", two)
    graph.add_edge(START, "one")
    graph.add_edge("one", "two")
    graph.add_edge("two", END)
    return graph.compile()


def _nested(ran: Counter[str]) -> Any:
    """Two nodes at once, then a graph in the graph, then one more; all of them say something."""
    from langchain_core.messages import AIMessage
    from langgraph.config import get_stream_writer
    from langgraph.graph import END, START, MessagesState, StateGraph

    async def left(state: MessagesState) -> Any:
        ran["left"] += 1
        get_stream_writer()({"left": 1})
        return {"messages": [AIMessage("Left. ", id=f"left{ran['left']}")]}

    async def right(state: MessagesState) -> Any:
        ran["right"] += 1
        await asyncio.sleep(0.002)
        return {"messages": [AIMessage("Right. ", id=f"right{ran['right']}")]}

    async def last(state: MessagesState) -> Any:
        ran["last"] += 1
        return {"messages": [AIMessage("The end.", id=f"last{ran['last']}")]}

    graph = StateGraph(MessagesState)
    graph.add_node("left", left)
    graph.add_node("right", right)
    graph.add_node("inner", _inner(ran))
    graph.add_node("last", last)
    graph.add_edge(START, "left")
    graph.add_edge(START, "right")
    graph.add_edge(["left", "right"], "inner")
    graph.add_edge("inner", "last")
    # All of them answer.
    for node in ("left", "right", "inner"):
        graph.add_conditional_edges(node, lambda state: [], [END])
    graph.add_edge("last", END)
    return graph.compile()


async def _whole(model: OfflineModel) -> str:
    return answer_text(logged(await events_of(LangGraphAdapter(_nested(Counter())), context(model))))


@pytest.mark.parametrize("seed", range(40))
async def test_wherever_it_is_cut_off_the_answer_is_whole(seed: int, model: OfflineModel) -> None:
    dice = random.Random(seed)  # noqa: S311 - a repeatable choice
    ran: Counter[str] = Counter()
    crashes = [dice.randrange(4) for _ in range(dice.randint(1, 3))]
    log = await with_crashes(LangGraphAdapter(_nested(ran)), context(model), crashes, dice)
    said = answer_text(log)
    assert sorted(said.split("\n\n")) == sorted((await _whole(model)).split("\n\n"))
    # The two at the beginning may come in either order; the rest comes in its own.
    assert said.index("inner one") < said.index("inner two") < said.index("The end.")
    # Each crash makes that run again which was not kept: never more than one step of the graph or of the inner one.
    assert all(times <= 1 + len(crashes) for times in ran.values())
    # Which of two nodes at once has written it, nobody knows; so it may come twice, and never not at all.
    custom = [event.data for event in live(log) if isinstance(event, Artifact)]
    assert {"left": 1} in custom


def live(log: Sequence[LoggedEvent]) -> list[Event]:
    """What still holds."""
    return [entry.event for entry in holding(log)]


def _three(ran: Counter[str], fail_in: str = "") -> Any:
    from langchain_core.messages import AIMessage
    from langgraph.graph import END, START, MessagesState, StateGraph

    def node(name: str) -> Any:
        async def run(state: MessagesState) -> Any:
            ran[name] += 1
            if name == fail_in and ran[name] == 1:
                raise RuntimeError("dark")
            return {"messages": [AIMessage(f"{name}.")]}

        return run

    graph = StateGraph(MessagesState)
    for name in ("one", "two", "three"):
        graph.add_node(name, node(name))
    graph.add_edge(START, "one")
    graph.add_edge("one", "two")
    graph.add_edge("two", "three")
    graph.add_edge("three", END)
    return graph.compile()


async def test_only_the_node_that_was_not_done_runs_again(model: OfflineModel) -> None:
    ran: Counter[str] = Counter()
    adapter = LangGraphAdapter(_three(ran, "two"))
    ctx = replace(context(model), checkpoints=MemoryCheckpoints())
    events, ended = await until_dark(adapter, ctx)
    assert not ended
    before = logged([Started(), *events, Started(2)])
    again = await events_of(adapter, replace(ctx, attempt=2, before=before))
    assert ran == {"one": 1, "two": 2, "three": 1}
    # The log had the beginning of two, which is void.
    (begun,) = (entry.seq for entry in before if entry.event == Step("two"))
    assert again[0] == Rewound(begun - 1)
    assert Step("one") not in again
    assert answer_text((*before, *logged(again, len(before) + 1))) == "three."


async def test_what_the_log_lost_is_said_again_though_its_node_is_done(model: OfflineModel) -> None:
    scripted(model, {"say": "A long answer in many pieces."})

    def build(model: Any) -> Any:
        from langgraph.graph import END, START, MessagesState, StateGraph

        async def write(state: MessagesState) -> Any:
            return {"messages": [await model.ainvoke(state["messages"])]}

        async def dies(state: MessagesState) -> Any:
            if not died:
                died.append(True)
                raise RuntimeError("dark")
            return {}

        died: list[bool] = [] if not deaths else [True]
        deaths.append(True)
        graph = StateGraph(MessagesState)
        graph.add_node("write", write)
        graph.add_node("dies", dies)
        graph.add_edge(START, "write")
        graph.add_edge("write", "dies")
        graph.add_edge("dies", END)
        return graph

    deaths: list[bool] = []
    adapter = LangGraphAdapter(build, answer_node="write")
    ctx = replace(context(model), checkpoints=MemoryCheckpoints())
    events, _ = await until_dark(adapter, ctx)
    # The last words were not stored.
    pieces = [place for place, event in enumerate(events) if isinstance(event, TextDelta)]
    assert len(pieces) > 2
    stored = coalesce(events[: pieces[-2]])
    before = logged([Started(), *stored, Started(2)])
    again = await events_of(adapter, replace(ctx, attempt=2, before=before))
    assert answer_text((*before, *logged(again, len(before) + 1))) == "A long answer in many pieces."
    # The model was asked once, and its usage, which the log does not have, is there once.
    assert len(model.requests) == 1
    assert len([event for event in again if isinstance(event, Usage)]) == 1
    assert not any(isinstance(event, Rewound) for event in again)


async def test_usage_that_was_logged_is_not_counted_twice(model: OfflineModel) -> None:
    scripted(model, {"say": "Yes."})

    def build(model: Any) -> Any:
        from langgraph.graph import END, START, MessagesState, StateGraph

        async def write(state: MessagesState) -> Any:
            return {"messages": [await model.ainvoke(state["messages"])]}

        async def dies(state: MessagesState) -> Any:
            calls.append(1)
            if len(calls) == 1:
                raise RuntimeError("dark")
            return {}

        graph = StateGraph(MessagesState)
        graph.add_node("write", write)
        graph.add_node("dies", dies)
        graph.add_edge(START, "write")
        graph.add_edge("write", "dies")
        graph.add_edge("dies", END)
        return graph

    calls: list[int] = []
    adapter = LangGraphAdapter(build)
    ctx = replace(context(model), checkpoints=MemoryCheckpoints())
    events, _ = await until_dark(adapter, ctx)
    # With the price that the engine has added.
    stored = [replace(event, cost=0) if isinstance(event, Usage) else event for event in events]
    again = await events_of(adapter, replace(ctx, attempt=2, before=logged([Started(), *stored, Started(2)])))
    assert not any(isinstance(event, Usage) for event in again)


async def test_a_run_that_was_cut_off_before_anything_was_done_begins_anew(model: OfflineModel) -> None:
    ran: Counter[str] = Counter()
    ctx = replace(context(model), attempt=2, before=logged([Started(), Started(2)]))
    events = await events_of(LangGraphAdapter(_three(ran)), ctx)
    assert ran == {"one": 1, "two": 1, "three": 1}
    assert not any(isinstance(event, Rewound) for event in events)


async def test_a_graph_that_had_come_to_its_end_only_says_it(model: OfflineModel) -> None:
    ran: Counter[str] = Counter()
    adapter = LangGraphAdapter(_three(ran))
    ctx = replace(context(model), checkpoints=MemoryCheckpoints())
    events = await events_of(adapter, ctx)
    before = logged([Started(), *events, Started(2)])
    again = await events_of(adapter, replace(ctx, attempt=2, before=before))
    assert ran == {"one": 1, "two": 1, "three": 1}
    assert answer_text((*before, *logged(again, len(before) + 1))) == "three."


async def test_an_agent_in_a_plain_node_is_not_asked_again_for_what_it_has_done(model: OfflineModel) -> None:
    """An agent that a plain function calls keeps its own steps, from the function's thread."""
    scripted(
        model,
        {"when": {"user": "price"}, "call": {"tool": "price_of", "arguments": {"thing": "lamp"}}},
        {"when": {"after_tool": "price_of", "result": "(?P<price>\\d+)"}, "say": "It costs ${price}."},
    )
    tool_calls: list[str] = []

    def build(model: Any) -> Any:
        from langchain.agents import create_agent
        from langchain_core.tools import tool
        from langgraph.graph import END, START, MessagesState, StateGraph

        @tool
        def price_of(thing: str) -> str:
            """Look up a price."""
            tool_calls.append(thing)
            return "49"

        asking: Any = create_agent(model, [price_of])

        def seller(state: MessagesState) -> Any:
            found: Any = asking.invoke({"messages": state["messages"]})
            died.append(True)
            if len(died) == 1:
                raise RuntimeError("dark")
            return {"messages": found["messages"][-1:]}

        graph = StateGraph(MessagesState)
        graph.add_node("seller", seller)
        graph.add_edge(START, "seller")
        graph.add_edge("seller", END)
        return graph

    died: list[bool] = []
    adapter = LangGraphAdapter(build)
    ctx = replace(context(model, "What is the price?"), checkpoints=MemoryCheckpoints())
    events, _ = await until_dark(adapter, ctx)
    before = logged([Started(), *coalesce(events), Started(2)])
    again = await events_of(adapter, replace(ctx, attempt=2, before=before))
    log = (*before, *logged(again, len(before) + 1))
    assert tool_calls == ["lamp"]
    assert len(model.requests) == 2
    assert answer_text(log) == "It costs 49."
    assert len([event for event in live(log) if isinstance(event, ToolCall)]) == 1


async def test_an_async_node_that_calls_a_graph_in_the_loop_does_not_stop_it(model: OfflineModel) -> None:
    ran: Counter[str] = Counter()

    def build() -> Any:
        from langgraph.graph import END, START, MessagesState, StateGraph

        inner = StateGraph(MessagesState)
        inner.add_node("one", lambda state: ran.update(["one"]) or {"messages": [("ai", "Inner.")]})
        inner.add_edge(START, "one")
        inner.add_edge("one", END)
        compiled = inner.compile()

        async def outer(state: MessagesState) -> Any:
            return {"messages": compiled.invoke({"messages": state["messages"]})["messages"][-1:]}

        graph = StateGraph(MessagesState)
        graph.add_node("outer", outer)
        graph.add_edge(START, "outer")
        graph.add_edge("outer", END)
        return graph

    async with asyncio.timeout(10):
        events = await events_of(LangGraphAdapter(build), context(model))
    assert answer_text(logged(events)) == "Inner."
    assert ran == {"one": 1}
