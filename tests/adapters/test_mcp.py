"""MCP servers as tools: real ones, made with the SDK, over stdio and streamable HTTP."""

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from elf_sdk import FunctionContext, Tool, ToolError
from elf_sdk.adapters.crewai import CrewAIAdapter
from elf_sdk.adapters.function import FunctionAdapter
from elf_sdk.adapters.langgraph import LangGraphAdapter
from elf_sdk.adapters.mcp import connection
from elf_sdk.adapters.toolbox import open_tools
from elf_sdk.errors import Missing
from elf_sdk.models.offline import OfflineModel
from elf_sdk.runs.adapter import Adapter, Delegate, RunError
from elf_sdk.runs.events import Artifact, Event, ToolCall, ToolResult, encode
from tests.adapters.servers import Server, alive, having, is_alive, program, website
from tests.adapters.support import answer, context, events_of, scripted, until

SHOP_SAYS = {"when": {"after_tool": "price_of|sleep|wait|broken|die"}, "say": "The shop says: ${result}"}


@pytest.fixture(scope="module")
def shop() -> Iterator[Server]:
    with website() as running:
        yield running


@pytest.fixture(params=["stdio", "http"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """One server of its own for the test."""
    with nullcontext(program()) if request.param == "stdio" else website() as running:
        yield running


@asynccontextmanager
async def opened(
    model: OfflineModel, *servers: Server, delegates: tuple[Delegate, ...] = ()
) -> AsyncGenerator[tuple[dict[str, Tool], list[Event]], None]:
    happened: list[Event] = []
    ctx = having(context(model, delegates=delegates), *servers)
    async with open_tools(ctx, happened.append) as tools:
        yield {tool.name: tool for tool in tools}, happened


def _graph(model: Any, tools: list[Any]) -> Any:
    from langgraph.graph import END, START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode, tools_condition

    async def agent(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.bind_tools(tools).ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("agent", agent)
    graph.add_node("tools", ToolNode(tools))
    graph.add_edge(START, "agent")
    graph.add_conditional_edges("agent", tools_condition, {"tools": "tools", END: END})
    graph.add_edge("tools", "agent")
    return graph


def _crew(llm: Any, tools: list[Any]) -> Any:
    from crewai import Agent, Crew, Task

    clerk = Agent(role="the clerk", goal="Answer", backstory="Brief", llm=llm, tools=tools)
    return Crew(agents=[clerk], tasks=[Task(description="{message}", expected_output="text", agent=clerk)])


async def _function(ctx: FunctionContext) -> str:
    name, _, given = ctx.text.partition(" ")
    arguments = {key: int(value) if value.isdecimal() else value for key, value in _pairs(given)}
    try:
        return f"The shop says: {await ctx.call(name, **arguments)}"
    except ToolError as error:
        return f"The shop says: {error}"


def _pairs(text: str) -> list[tuple[str, str]]:
    return [(key, value) for key, _, value in (pair.partition("=") for pair in text.split())]


MAKERS: dict[str, Callable[[], Adapter]] = {
    "function": lambda: FunctionAdapter(_function),
    "langgraph": lambda: LangGraphAdapter(_graph),
    "crewai": lambda: CrewAIAdapter(_crew),
}


@pytest.fixture(params=sorted(MAKERS))
def adapter(request: pytest.FixtureRequest) -> Adapter:
    return MAKERS[request.param]()


def asked(model: OfflineModel, tool: str, **arguments: Any) -> str:
    """Script the model to call a tool; returns what to ask, in the words that the function understands."""
    scripted(model, {"when": {"user": rf"\b{tool}\b"}, "call": {"tool": tool, "arguments": arguments}}, SHOP_SAYS)
    return " ".join([tool, *(f"{key}={value}" for key, value in arguments.items())])


async def test_a_model_calls_a_tool(adapter: Adapter, server: Server, model: OfflineModel) -> None:
    text = asked(model, "price_of", thing="lamp")
    events = await events_of(adapter, having(context(model, text), server))
    assert answer(events) == "The shop says: 49 euros"
    [call] = [event for event in events if isinstance(event, ToolCall)]
    [result] = [event for event in events if isinstance(event, ToolResult)]
    assert (call.name, call.arguments) == ("price_of", {"thing": "lamp"})
    assert result == ToolResult(call.call_id, "49 euros")


async def test_the_model_is_told_the_schema_of_the_server(shop: Server, model: OfflineModel) -> None:
    for name in ("langgraph", "crewai"):
        await events_of(MAKERS[name](), having(context(model, "Hello"), shop.but(tools=["price_of"])))
        [offered] = model.requests[-1].body["tools"]
        assert offered["function"]["description"] == "Look up a price."
        properties = offered["function"]["parameters"]["properties"]
        assert properties["thing"]["type"] == "string"
        assert properties["pieces"]["type"] == "integer"


async def test_a_tool_that_fails_is_an_event_and_a_text_for_the_model(
    adapter: Adapter, server: Server, model: OfflineModel
) -> None:
    events = await events_of(adapter, having(context(model, asked(model, "broken")), server))
    [result] = [event for event in events if isinstance(event, ToolResult)]
    assert result.is_error
    assert "the shop is closed" in result.output
    assert "the shop is closed" in answer(events)


async def test_a_server_that_dies_in_mid_call(adapter: Adapter, server: Server, model: OfflineModel) -> None:
    events = await events_of(adapter, having(context(model, asked(model, "die")), server))
    [result] = [event for event in events if isinstance(event, ToolResult)]
    assert result.is_error
    assert "the MCP server 'shop'" in result.output
    assert "was lost while it worked" in result.output
    assert "was lost while it worked" in answer(events)


async def test_cancel_in_mid_call_ends_the_program(adapter: Adapter, model: OfflineModel) -> None:
    server = program()
    text = asked(model, "sleep", seconds=600)
    seen: list[Event] = []

    async def run() -> None:
        async for event in adapter.run(having(context(model, text), server)):
            seen.append(event)  # noqa: PERF401 - what has come so far counts

    before = set(threading.enumerate())
    task = asyncio.create_task(run())
    await until(lambda: any(isinstance(event, ToolCall) for event in seen), 30)
    assert alive(server.mark)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert alive(server.mark) == []
    await until(lambda: not [one for one in threading.enumerate() if one not in before and one.name == "elf-run"])


async def test_nothing_is_left_behind(adapter: Adapter, model: OfflineModel) -> None:
    server = program()
    text = asked(model, "price_of", thing="lamp")
    ctx = having(context(model, text), server)
    await events_of(adapter, ctx)  # frameworks and the SDK keep threads of their own from their first use on
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    files = _files()
    await events_of(adapter, ctx)
    await until(lambda: asyncio.all_tasks() <= tasks and set(threading.enumerate()) <= threads)
    assert alive(server.mark) == []
    assert _files() <= files


async def test_ten_runs_at_once_have_their_own_answers(adapter: Adapter, shop: Server, model: OfflineModel) -> None:
    scripted(
        model,
        {"when": {"user": "(?P<thing>la+mp)"}, "call": {"tool": "price_of", "arguments": {"thing": "${thing}"}}},
        SHOP_SAYS,
    )
    texts = [f"price_of thing=l{'a' * number}mp" for number in range(1, 11)]
    runs = [having(context(model, text, user=f"user{number}"), shop) for number, text in enumerate(texts)]
    answers = [answer(events) for events in await asyncio.gather(*(events_of(adapter, run) for run in runs))]
    assert answers == [f"The shop says: {number + 3}9 euros" for number in range(1, 11)]


def _files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_program_ends_with_all_that_it_started(model: OfflineModel) -> None:
    server = program()
    async with opened(model, server) as (tools, _):
        child = int(await tools["child"].call({}))
        assert is_alive(child)
    await until(lambda: not is_alive(child))
    assert alive(server.mark) == []


async def test_a_program_ends_when_the_process_of_the_run_is_killed() -> None:
    server = program()
    code = f"""\
import asyncio
from elf_sdk.adapters.toolbox import open_tools
from elf_sdk.models.offline import OfflineModel
from tests.adapters.servers import Server, having
from tests.adapters.support import context

async def main():
    with OfflineModel() as model:
        async with open_tools(having(context(model), Server({server.entry!r}, "")), print) as tools:
            print("ready", flush=True)
            [sleep] = [tool for tool in tools if tool.name == "sleep"]
            await sleep.call({{"seconds": 600}})

asyncio.run(main())
"""
    root = Path(__file__).parents[2]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, cwd=root, start_new_session=True
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    assert alive(server.mark)
    os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
    await until(lambda: alive(server.mark) == [], 2)


async def test_a_lost_server_is_connected_with_again(model: OfflineModel) -> None:
    async with opened(model, program()) as (tools, _):
        first = await tools["pid"].call({})
        with pytest.raises(ToolError, match="exit code 3"):
            await tools["die"].call({})
        assert await tools["pid"].call({}) != first
        for _ in range(3):
            with pytest.raises(ToolError):
                await tools["die"].call({})
        with pytest.raises(ToolError, match="was lost, and tried again 3 times in this run"):
            await tools["pid"].call({})


async def test_an_address_that_is_gone_for_good(model: OfflineModel) -> None:
    with website() as server:
        async with opened(model, server) as (tools, _):
            with pytest.raises(ToolError, match="was lost while it worked: the connection broke"):
                await tools["die"].call({})
            with pytest.raises(ToolError, match="is out of reach"):
                await tools["pid"].call({})


async def test_a_tool_that_hangs_is_left_after_its_timeout(server: Server, model: OfflineModel) -> None:
    async with opened(model, server.but(timeout="300ms")) as (tools, _):
        with pytest.raises(ToolError, match="did not answer within 300ms"):
            await tools["wait"].call({"seconds": 600})
        assert await tools["price_of"].call({"thing": "lamp"}) == "49 euros"


async def test_what_a_server_floods_is_bounded(server: Server, model: OfflineModel) -> None:
    async with opened(model, server) as (tools, _):
        assert len(await tools["flood"].call({"characters": 500_000})) == 500_000
        with pytest.raises(ToolError, match=r"it sent .*over 16 MB"):
            await tools["flood"].call({"characters": 20_000_000})
        assert await tools["noise"].call({}) == "quiet again"


async def test_a_large_result_is_cut_in_the_log_and_not_for_the_model(
    adapter: Adapter, shop: Server, model: OfflineModel
) -> None:
    scripted(
        model,
        {"when": {"user": "flood"}, "call": {"tool": "flood", "arguments": {"characters": 300_000}}},
        {"when": {"after_tool": "flood"}, "say": "Much."},
    )
    events = await events_of(adapter, having(context(model, "flood characters=300000"), shop))
    [result] = [event for event in events if isinstance(event, ToolResult)]
    assert not result.is_error
    assert result.output.endswith("[cut: 300000 characters, of which the first 40000 are kept here]")
    assert encode(result)
    if adapter.name == "langgraph":  # CrewAI keeps it in a file, and gives its model a tool to read that with
        assert len(str(model.requests[-1].body["messages"])) > 300_000


async def test_what_is_no_text_becomes_artifacts(server: Server, model: OfflineModel) -> None:
    async with opened(model, server) as (tools, happened):
        assert await tools["picture"].call({}) == "[image/png, which the person sees]"
        [picture] = happened
        assert isinstance(picture, Artifact)
        assert (picture.media_type, picture.append, picture.last) == ("image/png", False, True)
        await tools["picture"].call({"kilobytes": 400})
        parts = [event for event in happened[1:] if isinstance(event, Artifact)]
        assert len({part.artifact_id for part in [picture, *parts]}) == 2
        assert [(part.append, part.last) for part in parts] == [(False, False), (True, False), (True, True)]
        assert all(encode(part) for part in parts)
        happened.clear()
        assert await tools["table"].call({}) == '{\n  "rows": [\n    1,\n    2,\n    3\n  ]\n}'
        assert await tools["papers"].call({}) == "See:\nThe notes.\n[manual, https://example.com/manual.pdf]"
        [link] = happened
        assert isinstance(link, Artifact)
        assert (link.name, link.url) == ("manual", "https://example.com/manual.pdf")


async def test_two_servers_with_tools_of_one_name(shop: Server, model: OfflineModel) -> None:
    other = shop.but(name="market", tools=["price_of", "table"])
    async with opened(model, shop.but(tools=["price_of", "pid"]), other) as (tools, _):
        assert sorted(tools) == ["market_price_of", "pid", "shop_price_of", "table"]
        assert await tools["market_price_of"].call({"thing": "lamp"}) == "49 euros"


async def test_a_name_and_arguments_that_frameworks_use_themselves(
    adapter: Adapter, shop: Server, model: OfflineModel
) -> None:
    scripted(
        model,
        {
            "when": {"user": "odd"},
            "call": {"tool": "odd_name_of_a_tool", "arguments": {"config": "one", "run_manager": "two"}},
        },
        {"when": {"after_tool": "odd"}, "say": "The shop says: ${result}"},
    )
    ctx = having(context(model, "odd_name_of_a_tool config=one run_manager=two"), shop)
    assert answer(await events_of(adapter, ctx)) == "The shop says: onetwo"


async def test_a_tool_that_is_named_and_not_there(shop: Server, model: OfflineModel) -> None:
    with pytest.raises(RunError, match=r"has no tool 'sell', which .* names; it has: broken, child, die, ") as raised:
        async with opened(model, shop.but(tools=["sell", "table"])):
            pass
    assert not raised.value.retryable


@pytest.mark.parametrize("adapter_name", sorted(MAKERS))
async def test_a_server_that_is_not_there_fails_the_run(adapter_name: str, model: OfflineModel) -> None:
    gone = Server({"name": "shop", "url": "http://127.0.0.1:9/mcp"}, "")
    with pytest.raises(RunError, match=r"the MCP server 'shop' .* is out of reach: the connection could not") as raised:
        await events_of(MAKERS[adapter_name](), having(context(model), gone))
    assert raised.value.retryable
    assert not model.requests


async def test_an_optional_server_that_is_not_there(shop: Server, model: OfflineModel) -> None:
    gone = Server({"name": "gone", "url": "http://127.0.0.1:9/mcp", "optional": True}, "")
    nothing = Server({"name": "nothing", "command": ["no-such-program"], "optional": True}, "")
    async with opened(model, gone, nothing, shop.but(tools=["pid"])) as (tools, _):
        assert sorted(tools) == ["pid"]


async def test_a_program_that_is_not_there(model: OfflineModel) -> None:
    with pytest.raises(Missing, match=r"'shop' \(no-such-program\) cannot be started: there is no such program"):
        async with opened(model, Server({"name": "shop", "command": ["no-such-program"]}, "")):
            pass


async def test_a_program_that_ends_at_once(model: OfflineModel) -> None:
    with pytest.raises(RunError, match="is out of reach: it ended with exit code 7"):
        async with opened(model, Server({"name": "shop", "command": ["sh", "-c", "exit 7"]}, "")):
            pass


async def test_a_server_that_never_says_a_word(model: OfflineModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_REACH", 0.5)
    monkeypatch.setattr(connection, "_START", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        silent = Server({"name": "shop", "url": f"http://127.0.0.1:{listener.getsockname()[1]}/"}, "")
        for server in (silent, Server({"name": "shop", "command": ["sleep", "600"]}, "")):
            with pytest.raises(RunError, match=r"did not say within 0\.5 s which tools|it does not answer"):
                async with opened(model, server):
                    pass


async def test_an_address_that_is_something_else(shop: Server, model: OfflineModel) -> None:
    elsewhere = shop.but(url=shop.entry["url"].replace("/mcp", "/elsewhere?key=open-sesame"))
    with pytest.raises(RunError, match="it answered HTTP 404; check its url") as raised:
        async with opened(model, elsewhere):
            pass
    assert "open-sesame" not in str(raised.value)


async def test_a_token_comes_from_the_environment_or_a_file(
    model: OfflineModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with website("shop", "token=open-sesame", tools=["pid"], token_env="SHOP_TOKEN") as server:
        with pytest.raises(Missing, match="needs SHOP_TOKEN, which is not set; set it, or mount a file and set SHOP_"):
            async with opened(model, server):
                pass
        monkeypatch.setenv("SHOP_TOKEN", "guessed")
        with pytest.raises(RunError, match="it answered HTTP 401; check the token that token_env names") as raised:
            async with opened(model, server):
                pass
        assert "guessed" not in str(raised.value)
        monkeypatch.setenv("SHOP_TOKEN", "open-sesame")
        async with opened(model, server) as (tools, _):
            assert await tools["pid"].call({})
        (tmp_path / "token").write_text("open-sesame\n")
        monkeypatch.setenv("SHOP_TOKEN", "guessed")
        monkeypatch.setenv("SHOP_TOKEN_FILE", str(tmp_path / "token"))
        async with opened(model, server) as (tools, _):
            assert await tools["pid"].call({})


async def test_a_program_gets_only_the_variables_that_are_named(
    model: OfflineModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_KEY", "for the shop")
    monkeypatch.setenv("OPENAI_API_KEY", "for nobody else")
    async with opened(model, program(env=["SHOP_KEY"])) as (tools, _):
        assert await tools["variable"].call({"name": "SHOP_KEY"}) == "for the shop"
        assert await tools["variable"].call({"name": "OPENAI_API_KEY"}) == "nothing"
        assert await tools["variable"].call({"name": "PATH"}) != "nothing"


_MALFORMED = """\
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if "id" in asked:
        results = {
            "initialize": {
                "protocolVersion": "2025-06-18",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "odd", "version": "1"},
            },
            "tools/list": {"tools": [{"name": "odd", "inputSchema": {}}]},
        }
        result = results.get(asked["method"], {"content": "no list"})
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
"""


async def test_an_answer_of_another_shape(model: OfflineModel) -> None:
    odd = Server({"name": "shop", "command": [sys.executable, "-c", _MALFORMED]}, "")
    async with opened(model, odd) as (tools, _):
        assert tools["odd"].parameters == {"type": "object", "properties": {}}
        with pytest.raises(ToolError, match="answered what it should not"):
            await tools["odd"].call({})


async def test_calls_at_the_same_time_do_not_wait_for_each_other(server: Server, model: OfflineModel) -> None:
    async with opened(model, server) as (tools, _):
        waiting = asyncio.create_task(tools["wait"].call({"seconds": 600}))
        assert await tools["price_of"].call({"thing": "lamp"}) == "49 euros"
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


@pytest.mark.parametrize("words", [("stateless",), ("stateless", "json"), ("json",)], ids="-".join)
async def test_servers_without_sessions_or_streams(words: tuple[str, ...], model: OfflineModel) -> None:
    with website("shop", *words) as server:
        async with opened(model, server) as (tools, _):
            assert await tools["price_of"].call({"thing": "lamp"}) == "49 euros"


async def test_a_tool_is_called_from_a_thread_and_from_another_loop(server: Server, model: OfflineModel) -> None:
    async with opened(model, server) as (tools, _):
        tool, given = tools["price_of"], {"thing": "lamp"}
        assert await asyncio.to_thread(tool.call_blocking, given) == "49 euros"
        assert await asyncio.to_thread(lambda: asyncio.run(_own_loop(tool, given))) == "49 euros"
        with pytest.raises(ToolError, match="called synchronously in the run's event loop"):
            tool.call_blocking(given)


async def _own_loop(tool: Tool, arguments: dict[str, Any]) -> str:
    return await tool.call(arguments)
