"""Tools of the author and of the team: what reaches the model, what becomes an event, and what goes wrong."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from elf_sdk import Tool, ToolError, effect_key, team_tools
from elf_sdk.adapters.crewai import CrewAIAdapter
from elf_sdk.adapters.function import FunctionAdapter, FunctionContext, SyncFunctionContext
from elf_sdk.adapters.langgraph import LangGraphAdapter
from elf_sdk.adapters.langgraph.tool import graph_place, graph_tool
from elf_sdk.adapters.toolbox import open_tools
from elf_sdk.adapters.tools import called, failed, returned
from elf_sdk.errors import BadInput
from elf_sdk.models.llm import Endpoint
from elf_sdk.models.offline import OfflineModel
from elf_sdk.runs.adapter import Adapter, Delegate, RunContext, RunError
from elf_sdk.runs.events import DelegationProposed, Event, ToolCall, ToolResult, encode
from tests.adapters.support import BRAND, answer, context, events_of, scripted

WORK = {"title": "A tone of voice", "description": "For the launch."}


def _result(events: list[Event]) -> ToolResult:
    [call] = [event for event in events if isinstance(event, ToolCall)]
    [result] = [event for event in events if isinstance(event, ToolResult)]
    assert result.call_id == call.call_id
    return result


async def _collect(adapter: Adapter, ctx: RunContext, events: list[Event]) -> None:
    async for event in adapter.run(ctx):
        events.append(event)  # noqa: PERF401 - what came before it failed counts


def _agent(model: Any, tools: list[Any], **handling: Any) -> Any:
    from langgraph.graph import END, START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode, tools_condition

    async def agent(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.bind_tools(tools).ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("agent", agent)
    graph.add_node("tools", ToolNode(tools, **handling))
    graph.add_edge(START, "agent")
    graph.add_conditional_edges("agent", tools_condition, {"tools": "tools", END: END})
    graph.add_edge("tools", "agent")
    return graph


def _clerk(llm: Any, tools: list[Any]) -> Any:
    from crewai import Agent, Crew, Task

    clerk = Agent(role="the clerk", goal="Answer", backstory="Brief", llm=llm, tools=tools)
    return Crew(agents=[clerk], tasks=[Task(description="{message}", expected_output="text", agent=clerk)])


def _price(thing: str) -> str:
    """Look up a price."""
    raise LookupError(f"no such {thing}")


def _authors_graph(**handling: Any) -> LangGraphAdapter:
    def build(model: Any) -> Any:
        from langchain_core.tools import tool

        return _agent(model, [tool("price_of")(_price)], **handling)

    return LangGraphAdapter(build)


def _authors_crew() -> CrewAIAdapter:
    def build(llm: Any) -> Any:
        from crewai.tools import tool

        return _clerk(llm, [tool("price_of")(_price)])

    return CrewAIAdapter(build)


TEAMS: dict[str, Callable[[], Adapter]] = {
    "langgraph": lambda: LangGraphAdapter(_agent),
    "crewai": lambda: CrewAIAdapter(_clerk),
}
AUTHORS: dict[str, Callable[[], Adapter]] = {
    "langgraph": lambda: _authors_graph(handle_tool_errors=True),
    "crewai": _authors_crew,
}


@pytest.mark.parametrize("framework", sorted(AUTHORS))
async def test_an_authors_tool_that_raises(framework: str, model: OfflineModel) -> None:
    scripted(
        model,
        {"when": {"user": "lamp"}, "call": {"tool": "price_of", "arguments": {"thing": "lamp"}}},
        {"when": {"after_tool": "price_of"}, "say": "I was told: ${result}"},
    )
    events = await events_of(AUTHORS[framework](), context(model, "a lamp"))
    line = _price.__code__.co_firstlineno + 2
    result = _result(events)
    assert result.is_error
    assert result.output in (
        f"LookupError: no such lamp (test_tools.py, line {line})",
        f"LookupError: 'no such lamp' (test_tools.py, line {line})",
    )
    assert "no such lamp" in answer(events)


async def test_a_graph_that_lets_its_tools_errors_through_fails_with_the_line(model: OfflineModel) -> None:
    scripted(model, {"when": {"user": "lamp"}, "call": {"tool": "price_of", "arguments": {"thing": "lamp"}}})
    events: list[Event] = []
    with pytest.raises(RunError, match=r"^LookupError: .*no such lamp.* \(test_tools\.py, line \d+\)$"):
        await _collect(_authors_graph(), context(model, "a lamp"), events)
    assert "(test_tools.py, line " in _result(events).output


@pytest.mark.parametrize("framework", sorted(TEAMS))
async def test_arguments_that_do_not_fit(framework: str, model: OfflineModel) -> None:
    tool = "delegate_to_brand_team"
    scripted(
        model,
        {"when": {"user": "propose"}, "call": {"tool": tool, "arguments": {"title": "A tone of voice"}}},
        {"when": {"after_tool": tool}, "say": "I was told: ${result}"},
    )
    events = await events_of(TEAMS[framework](), context(model, "propose it", delegates=(BRAND,)))
    result = _result(events)
    assert result.is_error
    assert result.output == f"the arguments of {tool} do not fit: description: Field required"
    assert answer(events) == f"I was told: {result.output}"
    assert not any(isinstance(event, DelegationProposed) for event in events)


class _Muddled(BaseHTTPRequestHandler):
    """A model that first gives arguments which are no JSON, and answers when it is asked again."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        told = [message["content"] for message in body["messages"] if message["role"] == "tool"]
        tool = body["tools"][0]["function"]["name"]
        delta: dict[str, Any] = {"role": "assistant", "content": f"I was told: {told[-1]}" if told else None}
        if not told:
            function = {"name": tool, "arguments": "title: a tone"}
            delta["tool_calls"] = [{"index": 0, "id": "call_1", "type": "function", "function": function}]
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        choices: list[dict[str, Any]] = [{"delta": delta}]
        choices.append({"delta": {}, "finish_reason": "stop" if told else "tool_calls"})
        for choice in choices:
            chunk = {"id": "1", "object": "chat.completion.chunk", "model": "m", "created": 0}
            self.wfile.write(f"data: {json.dumps({**chunk, 'choices': [{'index': 0, **choice}]})}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def muddled(model: OfflineModel) -> Iterator[RunContext]:
    with closing(_serving()) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        endpoint = Endpoint("compatible", "m", url, "not-needed", timeout=10, retries=0)
        yield replace(context(model, "propose it", delegates=(BRAND,)), endpoint=endpoint)
        server.shutdown()


def _serving() -> Any:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Muddled)
    server.close = server.server_close  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


async def test_arguments_that_are_no_json_in_a_crew(muddled: RunContext) -> None:
    events = await events_of(CrewAIAdapter(_clerk), muddled)
    result = _result(events)
    assert (result.output, result.is_error) == ("the model gave arguments that are no JSON", True)
    assert "valid JSON" in answer(events)


async def test_arguments_that_are_no_json_in_a_graph(muddled: RunContext) -> None:
    events: list[Event] = []
    with pytest.raises(
        RunError, match="called the tool 'delegate_to_brand_team' with arguments that are not JSON"
    ) as raised:
        await _collect(LangGraphAdapter(_agent), muddled, events)
    assert (raised.value.code, raised.value.retryable) == ("model", True)
    result = _result(events)
    assert (result.output, result.is_error) == ("the model gave arguments that are no JSON", True)


async def test_the_manager_of_a_hierarchical_crew_proposes(model: OfflineModel) -> None:
    tool = "delegate_to_brand_team"
    scripted(
        model,
        {"when": {"system": "the manager"}, "call": {"tool": tool, "arguments": WORK}},
        {"when": {"system": "the manager", "after_tool": tool}, "say": "Please confirm."},
    )

    def build(llm: Any, tools: list[Any]) -> Any:
        from crewai import Agent, Crew, Process, Task

        manager = Agent(role="the manager", goal="Lead", backstory="Calm", llm=llm, allow_delegation=True)
        helper = Agent(role="the helper", goal="Help", backstory="Quick", llm=llm)
        task = Task(description="{message}", expected_output="text", tools=tools)
        return Crew(agents=[helper], tasks=[task], manager_agent=manager, process=Process.hierarchical)

    events = await events_of(CrewAIAdapter(build), context(model, delegates=(BRAND,)))
    [proposal] = [event for event in events if isinstance(event, DelegationProposed)]
    assert (proposal.target, proposal.title) == ("brand-team", "A tone of voice")
    assert answer(events) == "Please confirm."


async def test_the_same_proposal_twice_is_two_in_a_crew(model: OfflineModel) -> None:
    # CrewAI would answer the second call from its cache.
    def build(llm: Any, tools: list[Any]) -> Any:
        from crewai import Agent, Crew, Task

        clerks = [
            Agent(role=f"the clerk {n}", goal="Answer", backstory="Brief", llm=llm, tools=tools, cache=True)
            for n in (1, 2)
        ]
        tasks = [Task(description="{message}", expected_output="text", agent=clerk) for clerk in clerks]
        return Crew(agents=clerks, tasks=tasks, cache=True)

    tool = "delegate_to_brand_team"
    scripted(
        model,
        {"when": {"user": "propose"}, "call": {"tool": tool, "arguments": WORK}},
        {"when": {"after_tool": tool}, "say": "Done."},
    )
    events = await events_of(CrewAIAdapter(build), context(model, "propose it", delegates=(BRAND,)))
    proposals = [event.proposal_id for event in events if isinstance(event, DelegationProposed)]
    assert len(set(proposals)) == len(proposals) == 2


@pytest.mark.parametrize("framework", sorted(TEAMS))
async def test_the_longest_team_name_makes_a_tool(framework: str, model: OfflineModel) -> None:
    team = Delegate("a" + "-b" * 22, "", "")
    assert len(team.name) == 45
    scripted(
        model,
        {"when": {"user": "propose"}, "call": {"tool": "delegate_to_a" + "_b" * 22, "arguments": WORK}},
        {"when": {"after_tool": "delegate"}, "say": "Please confirm."},
    )
    events = await events_of(TEAMS[framework](), context(model, "propose it", delegates=(team,)))
    assert answer(events) == "Please confirm."


async def test_a_compiled_graph_asks_for_the_teams_tools(model: OfflineModel) -> None:
    from langgraph.graph import END, START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode

    from elf_sdk.adapters.langgraph import chat_model

    chat = chat_model(context(model).endpoint)

    async def agent(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await chat.bind_tools(team_tools()).ainvoke(state["messages"])]}

    async def act(state: MessagesState) -> Any:
        return await ToolNode(team_tools()).ainvoke(state)

    graph: Any = StateGraph(MessagesState)
    graph.add_node("agent", agent)
    graph.add_node("act", act)
    graph.add_edge(START, "agent")
    graph.add_conditional_edges("agent", lambda state: "act" if state["messages"][-1].tool_calls else END, ["act", END])
    graph.add_edge("act", "agent")
    tool = "delegate_to_brand_team"
    scripted(
        model,
        {"when": {"user": "propose"}, "call": {"tool": tool, "arguments": WORK}},
        {"when": {"after_tool": tool}, "say": "Please confirm."},
    )
    adapter = LangGraphAdapter(graph.compile())
    events = await events_of(adapter, context(model, "propose it", delegates=(BRAND,)))
    assert [event.target for event in events if isinstance(event, DelegationProposed)] == ["brand-team"]
    assert answer(events) == "Please confirm."


async def test_a_sync_node_calls_a_tool_by_itself(model: OfflineModel) -> None:
    def build() -> Any:
        from langchain_core.messages import AIMessage
        from langgraph.graph import END, START, MessagesState, StateGraph

        def node(_: MessagesState) -> dict[str, Any]:
            [tool] = team_tools()
            said = [tool.invoke(WORK), tool.invoke({"title": "Only a title"})]
            return {"messages": [AIMessage("\n".join(said))]}

        graph: Any = StateGraph(MessagesState)
        graph.add_node("node", node)
        graph.add_edge(START, "node")
        graph.add_edge("node", END)
        return graph

    events = await events_of(LangGraphAdapter(build), context(model, delegates=(BRAND,)))
    assert "nothing has been sent yet" in answer(events)
    assert "do not fit: description: Field required" in answer(events)
    assert [event.is_error for event in events if isinstance(event, ToolResult)] == [False, True]


async def test_a_crew_base_class_asks_for_the_teams_tools(model: OfflineModel) -> None:
    from crewai import LLM, Agent, Crew, Task, project

    llm = LLM(model="offline", custom_openai=True, base_url=model.url(), api_key="not-needed", stream=True)

    @project.CrewBase
    class Sellers:
        agents_config: ClassVar[dict[str, Any]] = {}
        tasks_config: ClassVar[dict[str, Any]] = {}

        @project.agent
        def clerk(self) -> Agent:
            return Agent(role="the clerk", goal="Answer", backstory="Brief", llm=llm, tools=team_tools())

        @project.task
        def answering(self: Any) -> Task:
            return Task(description="{message}", expected_output="text", agent=self.clerk())

        @project.crew
        def crew(self: Any) -> Crew:
            return Crew(agents=[self.clerk()], tasks=[self.answering()])

    tool = "delegate_to_brand_team"
    scripted(
        model,
        {"when": {"user": "propose"}, "call": {"tool": tool, "arguments": WORK}},
        {"when": {"after_tool": tool}, "say": "Please confirm."},
    )
    events = await events_of(CrewAIAdapter(Sellers), context(model, "propose it", delegates=(BRAND,)))
    assert [event.target for event in events if isinstance(event, DelegationProposed)] == ["brand-team"]


async def test_a_function_calls_a_tool(model: OfflineModel) -> None:
    async def ask(ctx: FunctionContext) -> str:
        assert [tool.name for tool in ctx.tools] == [tool.name for tool in team_tools()] == ["delegate_to_brand_team"]
        assert ctx.tools[0].parameters["required"] == ["title", "description"]
        with pytest.raises(BadInput, match="bike-team has no tool 'sell'; it has: delegate_to_brand_team"):
            await ctx.call("sell")
        with pytest.raises(ToolError, match="do not fit: description"):
            await ctx.call("delegate_to_brand_team", title="Only a title")
        return await ctx.call("delegate_to_brand_team", **WORK)

    events = await events_of(FunctionAdapter(ask), context(model, delegates=(BRAND,)))
    assert "nothing has been sent yet" in answer(events)
    calls = [event for event in events if isinstance(event, ToolCall)]
    results = [event for event in events if isinstance(event, ToolResult)]
    assert [call.call_id for call in calls] == [result.call_id for result in results]
    assert [result.is_error for result in results] == [True, False]


async def test_a_plain_function_calls_a_tool(model: OfflineModel) -> None:
    def ask(ctx: SyncFunctionContext) -> str:
        return ctx.tools[0].call_blocking(WORK)

    events = await events_of(FunctionAdapter(ask), context(model, delegates=(BRAND,)))
    assert "nothing has been sent yet" in answer(events)
    assert not _result(events).is_error


def test_outside_of_a_run_there_are_no_tools_and_no_keys() -> None:
    with pytest.raises(BadInput, match=r"team_tools\(\) was called outside of a run"):
        team_tools()
    with pytest.raises(BadInput, match=r"effect_key\(\) was called outside of a run"):
        effect_key()


async def test_effects_of_a_function_are_counted(model: OfflineModel) -> None:
    async def pay(_: FunctionContext) -> str:
        return f"{effect_key()} {effect_key()}"

    assert answer(await events_of(FunctionAdapter(pay), context(model))) == "run-ada-1 run-ada-2"


async def test_a_node_that_is_repeated_has_the_keys_that_it_had(model: OfflineModel) -> None:
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.graph import END, START, StateGraph
    from langgraph.types import RetryPolicy

    keys: list[str] = []

    def first(_: dict[str, Any]) -> None:
        keys.append(effect_key())

    async def second(_: dict[str, Any]) -> None:
        keys.extend([effect_key(), effect_key()])
        if len(keys) < 9:
            raise ConnectionError

    graph: Any = StateGraph(dict)
    graph.add_node("first", first)
    graph.add_node("second", second, retry_policy=RetryPolicy(max_attempts=2, initial_interval=0.01))
    graph.add_edge(START, "first")
    graph.add_edge("first", "second")
    graph.add_edge("second", END)
    config = {"configurable": {"thread_id": "one"}}
    saver = InMemorySaver()
    attempts: list[dict[str, Any] | None] = [{}, None]
    for given in attempts:  # the second run goes on where the first one broke off
        async with open_tools(context(model), lambda _: None, place=graph_place):
            work = graph.compile(saver).ainvoke(given, config)
            await asyncio.gather(work, return_exceptions=given is not None)
    assert len(keys) == 9
    assert keys[1:3] == keys[3:5] == keys[5:7] == keys[7:9]
    assert len(set(keys)) == 3


async def test_a_tool_that_is_waited_for_in_the_loop_itself_says_so() -> None:
    async def work(_: Any) -> str:
        return "never"

    tool = Tool("price_of", "Look up a price.", {"type": "object", "properties": {}}, work)
    assert "set runs.isolation to process or thread" in graph_tool(tool).invoke({})
    assert await graph_tool(tool).ainvoke({}) == "never"


@pytest.mark.parametrize(
    ("given", "arguments"),
    [
        ({"thing": "lamp"}, {"thing": "lamp"}),
        ('{"thing": "lamp"}', {"thing": "lamp"}),
        ("lamp", {"input": "lamp"}),
        ([1], {"input": [1]}),
        ("[1]", {"input": [1]}),
        ({1: {2, 3}}, {"1": "{2, 3}"}),
        ({"thing": "\ud800\x00"}, {"thing": "\ufffd\ufffd"}),
    ],
)
def test_whatever_a_model_gives_is_an_event(given: Any, arguments: dict[str, Any]) -> None:
    event = called("1", "price_of", given)
    assert event.arguments == arguments
    assert encode(event)


@pytest.mark.parametrize("character", ["x", "\x01", "\U0001f6b2"])
def test_what_is_too_large_for_an_event_is_cut(character: str) -> None:
    for event in (
        called("1", "price_of", {"thing": character * 1_000_000}),
        returned("1", character * 1_000_000),
        failed("1", ValueError(character * 1_000_000)),
    ):
        assert b"[cut: " in encode(event)
