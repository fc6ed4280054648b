"""What the example's adapter gives an agent of the team: its tools, its model with fallbacks, and its questions."""

from __future__ import annotations

from dataclasses import replace

import pytest
from elf_pydantic_ai import PydanticAIAdapter
from pydantic_ai import Agent

from elf_sdk.models.llm import Endpoint
from elf_sdk.models.offline import OfflineModel
from elf_sdk.models.script import OfflineScript
from elf_sdk.runs.adapter import RunError
from elf_sdk.runs.events import InputRequired, ToolResult, Usage
from tests.adapters.servers import alive, having, program
from tests.adapters.support import answer, context, events_of, scripted

ADAPTER = PydanticAIAdapter(Agent(instructions="You lead."))


async def test_tools_of_the_team_are_the_agents_and_what_fails_is_said_to_it(model: OfflineModel) -> None:
    shop = program()
    calls = [
        {"tool": "broken"},
        {"tool": "price_of", "arguments": {"thing": "lamp"}},
        {"tool": "broken"},
    ]
    scripted(model, {"calls": calls}, {"when": {"after_tool": ".*"}, "say": "A lamp, but it is closed."})
    events = await events_of(ADAPTER, having(context(model), shop))
    assert answer(events) == "A lamp, but it is closed."
    results = [event for event in events if isinstance(event, ToolResult)]
    assert sorted(result.is_error for result in results) == [False, True, True]
    assert [result.output for result in results if not result.is_error] == ["49 euros"]
    assert all("the shop is closed" in result.output for result in results if result.is_error)
    assert not alive(shop.mark)


async def test_a_fallback_answers_and_is_named(model: OfflineModel) -> None:
    scripted(model, {"fault": {"status": 503, "retry_after": 0}})
    model.add("second", OfflineScript.model_validate({"rules": [{"say": "Instead."}]}))
    ctx = context(model, retries=2)
    second = Endpoint("compatible", "other-model", model.url("second"), "key-of-the-second")
    events = await events_of(ADAPTER, replace(ctx, endpoint=replace(ctx.endpoint, fallbacks=(second,))))
    assert answer(events) == "Instead."
    assert [request.team for request in model.requests] == ["", "", "", "second"]
    [usage] = [event for event in events if isinstance(event, Usage)]
    assert (usage.model, usage.provider) == ("other-model", "compatible")


async def test_tries_do_not_multiply(model: OfflineModel) -> None:
    scripted(model, {"fault": {"status": 429, "retry_after": 0}})
    with pytest.raises(RunError, match="is asked too often"):
        await events_of(ADAPTER, context(model, retries=2))
    assert len(model.requests) == 3


async def test_questions_are_answered_one_by_one(model: OfflineModel) -> None:
    asked = [{"tool": "ask_person", "arguments": {"question": question}} for question in ("Which one?", "By when?")]
    scripted(model, {"calls": asked}, {"when": {"after_tool": "ask_person"}, "say": "Then I begin."})
    ctx = context(model)
    questions = [event for event in await events_of(ADAPTER, ctx) if isinstance(event, InputRequired)]
    assert {question.prompt for question in questions} == {"Which one?", "By when?"}
    first, second = questions
    one = replace(ctx, answers={first.question_id: "the red one"})
    assert await events_of(ADAPTER, one) == [second]
    assert len(model.requests) == 1
    both = replace(one, answers={**one.answers, second.question_id: "soon"})
    assert answer(await events_of(ADAPTER, both)) == "Then I begin."
    sent = str(model.requests[-1].body["messages"])
    assert "the red one" in sent
    assert "soon" in sent
