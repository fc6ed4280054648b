"""What goes wrong with a model, told by every adapter in one sentence; and its fallbacks. Against real HTTP."""

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import pytest

from elf_sdk.adapters.crewai import CrewAIAdapter
from elf_sdk.adapters.function import FunctionAdapter, FunctionContext
from elf_sdk.adapters.langgraph import LangGraphAdapter
from elf_sdk.models.llm import Endpoint
from elf_sdk.models.offline import OfflineModel
from elf_sdk.models.script import OfflineScript
from elf_sdk.runs.adapter import Adapter, RunContext, RunError
from elf_sdk.runs.events import ToolCall, Usage
from tests.adapters.support import answer, context, events_of, scripted

KEY = "a-secret-key-of-the-team"


async def _function(ctx: FunctionContext) -> AsyncGenerator[str, None]:
    async for piece in ctx.stream():
        yield piece


def _agent(model: Any) -> Any:
    """A node that asks the model, and one tool."""
    from langchain_core.tools import tool
    from langgraph.graph import END, START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode, tools_condition

    @tool
    def look_up(what: str) -> str:
        """Look something up."""
        return f"all about {what}"

    asking = model.bind_tools([look_up])

    async def agent(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await asking.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("agent", agent)
    graph.add_node("tools", ToolNode([look_up]))
    graph.add_edge(START, "agent")
    graph.add_conditional_edges("agent", tools_condition, {"tools": "tools", END: END})
    graph.add_edge("tools", "agent")
    return graph


def _crew(llm: Any) -> Any:
    """One agent with the same tool."""
    from crewai import Agent, Crew, Task
    from crewai.tools import tool

    @tool("look_up")  # type: ignore[misc, unused-ignore]
    def look_up(what: str) -> str:
        """Look something up."""
        return f"all about {what}"

    clerk = Agent(role="the clerk", goal="Answer", backstory="Brief", llm=llm, tools=[look_up])
    return Crew(agents=[clerk], tasks=[Task(description="{message}", expected_output="text", agent=clerk)])


ADAPTERS: dict[str, Adapter] = {
    "function": FunctionAdapter(_function),
    "langgraph": LangGraphAdapter(_agent),
    "crewai": CrewAIAdapter(_crew),
}


@pytest.fixture(params=sorted(ADAPTERS))
def adapter(request: pytest.FixtureRequest) -> Adapter:
    return ADAPTERS[request.param]


def _ctx(server: OfflineModel, **fields: Any) -> RunContext:
    ctx = context(server, timeout=fields.pop("timeout", 10.0), retries=fields.pop("retries", 0))
    given: dict[str, Any] = {"api_key": KEY} | fields
    return replace(ctx, endpoint=replace(ctx.endpoint, **given))


FAULTS: dict[str, tuple[dict[str, Any], str, str, bool]] = {
    # name: (rule, what the message says, code, retryable)
    "401": (
        {"fault": {"status": 401, "message": f"Incorrect API key provided: {KEY}"}},
        "the model 'offline' at 127.0.0.1:PORT refused the key; check the provider's API key (HTTP 401)",
        "model",
        False,
    ),
    "403": ({"fault": {"status": 403}}, "does not allow this key to do that; check the key's rights", "model", False),
    "404": ({"fault": {"status": 404}}, "knows no such model or address; check llm.model and", "model", False),
    "429": ({"fault": {"status": 429}}, "is asked too often; try again later (HTTP 429)", "model", True),
    "429 with a wait": (
        {"fault": {"status": 429, "retry_after": 77}},
        "is asked too often; try again in 77 s (HTTP 429)",
        "model",
        True,
    ),
    "500": ({"fault": {"status": 500}}, "failed; try again later (HTTP 500)", "model", True),
    "400": (
        {"fault": {"status": 400, "message": f"temperature is odd, {KEY}"}},
        "did not accept the request (HTTP 400): temperature is odd, …",
        "model",
        False,
    ),
    "context too long": (
        {"fault": {"context_too_long": True}},
        "the conversation is too long for the model 'offline' at 127.0.0.1:PORT (HTTP 400): This model's maximum",
        "input",
        False,
    ),
    "reset in mid-stream": (
        {"say": "one two three four", "fault": {"reset_after": 2}},
        "the connection to the model 'offline' at 127.0.0.1:PORT broke or could not be made",
        "model",
        True,
    ),
    "hang in mid-stream": (
        {"say": "one two three four", "fault": {"hang_after": 2}},
        "the model 'offline' at 127.0.0.1:PORT gave no sign of life for 0.5 s; try again, or raise llm.timeout",
        "model",
        True,
    ),
    "hang": (
        {"fault": {"hang_after": 0}},
        "the model 'offline' at 127.0.0.1:PORT gave no sign of life for 0.5 s; try again, or raise llm.timeout",
        "model",
        True,
    ),
    "empty": ({"finish": "stop"}, "the model 'offline' at 127.0.0.1:PORT gave an empty answer", "model", True),
    "filtered": ({"finish": "content_filter"}, "refused to answer: its filter let nothing pass", "model", False),
}


# The words are the same whoever asks; these are what frameworks wrap, try again or take for an answer in their own
# ways. The suite for adapters asks each of them for the codes of the rest.
OF_EACH = ("401", "429 with a wait", "400", "context too long", "reset in mid-stream", "empty", "filtered")


@pytest.mark.parametrize(
    ("framework", "name"),
    [("function", name) for name in FAULTS] + [(each, name) for each in ("crewai", "langgraph") for name in OF_EACH],
)
async def test_what_goes_wrong_is_one_sentence(framework: str, model: OfflineModel, name: str) -> None:
    adapter = ADAPTERS[framework]
    rule, says, code, retryable = FAULTS[name]
    scripted(model, rule)
    with pytest.raises(RunError) as raised:
        await events_of(adapter, _ctx(model, timeout=0.5 if "hang" in name else 10.0))
    told = str(raised.value)
    assert says.replace("PORT", model.root.rpartition(":")[2]) in told
    assert (raised.value.code, raised.value.retryable) == (code, retryable)
    assert KEY not in told
    assert "\n" not in told
    # Nobody tries again of his own accord. CrewAI shortens what is too long, and does a task again after a 400.
    assert len(model.requests) == 1 or (adapter.name == "crewai" and name in ("context too long", "400"))


async def test_a_tool_call_that_nobody_can_read(model: OfflineModel) -> None:
    scripted(
        model,
        {"when": {"after_tool": ".*"}, "say": "I am sorry."},
        {"call": {"tool": "look_up", "raw": "what = tea"}},
    )
    # A graph ends there, without a word.
    with pytest.raises(
        RunError, match="called the tool 'look_up' with arguments that are not JSON; try again"
    ) as raised:
        await events_of(ADAPTERS["langgraph"], _ctx(model))
    assert (raised.value.code, raised.value.retryable) == ("model", True)
    # CrewAI tells the model, which may do better.
    assert answer(await events_of(ADAPTERS["crewai"], _ctx(model))) == "I am sorry."


async def test_two_tools_in_one_message(adapter: Adapter, model: OfflineModel) -> None:
    if adapter.name == "function":
        pytest.skip("a function's own stream offers no tools")
    calls = [{"tool": "look_up", "arguments": {"what": what}} for what in ("tea", "cake")]
    scripted(model, {"calls": calls}, {"when": {"after_tool": "look_up"}, "say": "Found."})
    events = await events_of(adapter, _ctx(model))
    assert answer(events) == "Found."
    assert sorted(event.arguments["what"] for event in events if isinstance(event, ToolCall)) == ["cake", "tea"]


async def test_a_name_that_nobody_knows(adapter: Adapter, model: OfflineModel) -> None:
    ctx = _ctx(model, base_url="http://no-such-host.invalid/v1", provider="compatible")
    with pytest.raises(RunError) as raised:
        await events_of(adapter, ctx)
    assert "the name of the host of the model 'offline' at no-such-host.invalid is not known" in str(raised.value)
    assert (raised.value.code, raised.value.retryable) == ("model", True)


async def test_tries_do_not_multiply(adapter: Adapter, model: OfflineModel) -> None:
    scripted(model, {"fault": {"status": 429, "retry_after": 0}})
    with pytest.raises(RunError, match="is asked too often"):
        await events_of(adapter, _ctx(model, retries=2))
    assert len(model.requests) == 3


def _with_fallback(model: OfflineModel, **fields: Any) -> RunContext:
    model.add("second", OfflineScript.model_validate({"rules": [{"say": "Instead."}]}))
    second = Endpoint("compatible", "other-model", model.url("second"), "key-of-the-second", 0.9)
    return _ctx(model, fallbacks=(second,), **fields)


@pytest.mark.parametrize("fault", [{"status": 401}, {"status": 503}, {"reset_after": 0}], ids=["401", "503", "reset"])
async def test_the_fallback_answers_and_is_named(adapter: Adapter, model: OfflineModel, fault: dict[str, Any]) -> None:
    scripted(model, {"say": "x", "fault": fault})
    events = await events_of(adapter, _with_fallback(model))
    assert answer(events) == "Instead."
    assert [(request.team, request.key) for request in model.requests] == [("", KEY), ("second", "key-of-the-second")]
    [usage] = [event for event in events if isinstance(event, Usage)]
    assert (usage.model, usage.provider) == ("other-model", "compatible")


async def test_the_error_of_a_fallback_names_the_fallback(adapter: Adapter, model: OfflineModel) -> None:
    scripted(model, {"fault": {"status": 503}})
    ctx = _with_fallback(model)
    rule = {"fault": {"status": 401, "message": "Wrong key: key-of-the-second"}}
    model.add("second", OfflineScript.model_validate({"rules": [rule]}))
    with pytest.raises(RunError, match=r"the model 'other-model' at .* refused the key"):
        await events_of(adapter, ctx)


@pytest.mark.parametrize("name", ["langgraph", "crewai", "function"])
async def test_anthropic(name: str, model: OfflineModel) -> None:
    """Frameworks speak its own API, with its own clients; a function speaks the OpenAI-compatible one."""
    rules: list[dict[str, Any]] = [
        {"when": {"after_tool": "look_up", "result": "about (?P<what>\\w+)"}, "say": "I know ${what} now."},
        {"call": {"tool": "look_up", "arguments": {"what": "tea"}}},
        {"say": "I know tea now."},
    ]
    scripted(model, *rules)
    ctx = _ctx(model, provider="anthropic", model="claude-sonnet-4-5", base_url=model.root)
    events = await events_of(ADAPTERS[name], ctx)
    assert answer(events) == "I know tea now."
    paths = {request.path for request in model.requests}
    assert paths == {"/v1/chat/completions" if name == "function" else "/v1/messages"}
    assert {request.key for request in model.requests} == {KEY}
    used = [event for event in events if isinstance(event, Usage)]
    assert {event.model for event in used} == {"claude-sonnet-4-5"}
    assert sum(event.output_tokens for event in used) == sum(request.output_tokens for request in model.requests)


@pytest.mark.parametrize("name", ["langgraph", "crewai"])
@pytest.mark.parametrize(
    ("fault", "says", "code"),
    [
        ({"status": 401}, "the model 'claude-sonnet-4-5' at .* refused the key", "model"),
        ({"status": 429, "retry_after": 9}, "try again in 9 s", "model"),
        ({"status": 529}, "failed; try again later .HTTP 529", "model"),
        ({"context_too_long": True}, "the conversation is too long for the model", "input"),
        ({"reset_after": 2}, "the connection to the model 'claude-sonnet-4-5'", "model"),
    ],
    ids=["401", "429", "529", "context", "reset"],
)
async def test_errors_of_anthropic(name: str, model: OfflineModel, fault: dict[str, Any], says: str, code: str) -> None:
    scripted(model, {"say": "one two three", "fault": fault})
    ctx = _ctx(model, provider="anthropic", model="claude-sonnet-4-5", base_url=model.root)
    with pytest.raises(RunError, match=says) as raised:
        await events_of(ADAPTERS[name], ctx)
    assert raised.value.code == code
