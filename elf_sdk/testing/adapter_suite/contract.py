"""What the adapter alone keeps, towards whoever closes, counts and reads."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from elf_sdk.models.offline import OfflineModel
from elf_sdk.runs.adapter import Adapter, AdapterCapabilities, TurnMessage
from elf_sdk.runs.events import (
    DelegationProposed,
    Event,
    InputRequired,
    LoggedEvent,
    Started,
    TextDelta,
    ToolCall,
    ToolResult,
    answer_text,
    encode,
    is_terminal,
)
from elf_sdk.testing.adapter_suite.setting import (
    BRAND,
    Setting,
    answer,
    asynchronous,
    counted,
    events_of,
    script,
    sockets,
    until,
    used,
)
from elf_sdk.testing.process import family
from elf_sdk.testing.tools import request

__all__ = ["Contract"]


class Contract(Setting):
    """Runs the adapter in the process of the tests."""

    def test_it_says_what_it_is(self) -> None:
        """It has a name, capabilities, and one method."""
        adapter = self.adapter_of(self.agent)
        assert isinstance(adapter, Adapter)
        assert adapter.name
        assert isinstance(adapter.capabilities, AdapterCapabilities)

    @asynchronous
    async def test_the_answer_is_what_the_model_said(self, model: OfflineModel) -> None:
        """Events can be stored, and none of them is terminal: the engine alone ends a run."""
        script(model, {"say": "Bicycles are fun."})
        events = await events_of(self.adapter_of(self.agent), self.context(model, "What is fun?"))
        assert answer(events).strip() == "Bicycles are fun."
        assert not any(is_terminal(event) for event in events)
        assert all(encode(event) for event in events)
        assert "What is fun?" in str(model.requests[0].body["messages"])

    @asynchronous
    async def test_text_arrives_while_the_model_still_writes(self, model: OfflineModel) -> None:
        """Nothing is waited for: the model says three words, and then no more."""
        self.claimed(self.agent, "stream")
        script(model, {"say": "one two three four", "fault": {"hang_after": 3}})
        said = ""
        async with asyncio.timeout(15), aclosing(self.adapter_of(self.agent).run(self.context(model))) as events:
            async for event in events:
                said += event.text if isinstance(event, TextDelta) else ""
                if said.strip() == "one two three":
                    break
        assert said.strip() == "one two three"

    @asynchronous
    async def test_usage_adds_up_to_what_the_model_counted(self, model: OfflineModel) -> None:
        """Also where several calls are made."""
        self.has("lookup")
        script(
            model,
            {"when": {"user": "use lookup"}, "call": {"tool": "lookup", "arguments": {"topic": "lamps"}}},
            {"when": {"after_tool": "lookup"}, "say": "There are some."},
            {"say": "Bicycles are fun."},
        )
        for text in ("Hello", request("lookup", topic="lamps")):
            model.requests.clear()
            assert used(await events_of(self.adapter_of(self.agent), self.context(model, text))) == counted(model)

    @asynchronous
    async def test_earlier_messages_reach_the_model(self, model: OfflineModel) -> None:
        """Those of both sides."""
        history = (TurnMessage("user", "I am Ada"), TurnMessage("team", "Hello Ada, the first"))
        await events_of(self.adapter_of(self.agent), self.context(model, history=history))
        sent = str(model.requests[0].body["messages"])
        assert "I am Ada" in sent
        assert "Hello Ada, the first" in sent

    @asynchronous
    async def test_ten_at_once_never_mix(self, model: OfflineModel) -> None:
        """Each gets its own answer, to the letter."""
        script(model, {"when": {"user": "marker-(?P<who>\\w+)"}, "say": "This is for ${who} only.", "delay": "5ms"})
        adapter, users = self.adapter_of(self.agent), [f"user{number}" for number in range(10)]
        runs = await asyncio.gather(
            *(events_of(adapter, self.context(model, f"marker-{user}", user=user)) for user in users)
        )
        assert [answer(events).strip() for events in runs] == [f"This is for {user} only." for user in users]

    @asynchronous
    async def test_a_tool_is_called_and_its_result_comes_back(self, model: OfflineModel) -> None:
        """The call, then its result under the same id, then what the model makes of it."""
        self.has("lookup")
        script(
            model,
            {"when": {"user": "use lookup"}, "call": {"tool": "lookup", "arguments": {"topic": "lamps"}}},
            {"when": {"after_tool": "lookup"}, "say": "It says: ${result}"},
        )
        events = await events_of(self.adapter_of(self.agent), self.context(model, request("lookup", topic="lamps")))
        [call] = [event for event in events if isinstance(event, ToolCall)]
        [result] = [event for event in events if isinstance(event, ToolResult)]
        assert (call.name, call.arguments) == ("lookup", {"topic": "lamps"})
        assert (result.call_id, result.output, result.is_error) == (call.call_id, "lamps: 42", False)
        assert answer(events).strip().endswith("It says: lamps: 42")
        last = max(index for index, event in enumerate(events) if isinstance(event, TextDelta))
        assert events.index(call) < events.index(result) < last

    @asynchronous
    async def test_a_proposal_is_an_event_and_sends_nothing(self, model: OfflineModel) -> None:
        """A team's tool to propose work to another one."""
        if not self.delegates:
            pytest.skip("the adapter offers no tools to propose work: delegates is False")
        arguments = {"title": "A tone of voice", "description": "For the launch.", "requirements": ["short"]}
        script(
            model,
            {"when": {"user": "propose"}, "call": {"tool": "delegate_to_brand_team", "arguments": arguments}},
            {"say": "Please confirm."},
            {
                "when": {"after_tool": "delegate_to_brand_team", "result": "nothing has been sent"},
                "say": "Please confirm.",
            },
        )
        ctx = self.context(model, "Please propose it", delegates=(BRAND,))
        events = await events_of(self.adapter_of(self.agent), ctx)
        [proposal] = [event for event in events if isinstance(event, DelegationProposed)]
        assert (proposal.target, proposal.title) == ("brand-team", "A tone of voice")
        assert proposal.proposal_id.startswith(f"{ctx.run_id}-")
        assert proposal.requirements == ("short",)
        assert answer(events).strip().endswith("Please confirm.")

    @pytest.mark.parametrize("words", [3, 0], ids=["in mid-token", "before the first token"])
    @asynchronous
    async def test_closing_closes_the_connection_to_the_model(self, model: OfflineModel, words: int) -> None:
        """Within a second, and no other call is made."""
        script(model, {"say": "one two three four", "fault": {"hang_after": words}})
        run = asyncio.create_task(events_of(self.adapter_of(self.agent), self.context(model)))
        await until(lambda: bool(model.requests) and model.requests[-1].output_tokens == words, 30)
        run.cancel()
        await until(lambda: model.requests[-1].outcome == "gone", 1)
        await asyncio.gather(run, return_exceptions=True)
        assert len(model.requests) == 1

    @asynchronous
    async def test_closed_runs_leave_no_thread_and_no_process_behind(self, model: OfflineModel) -> None:
        """And no socket: as many as there were after the first one."""
        script(model, {"say": "one two three four", "fault": {"hang_after": 2}})
        threads: list[int] = []
        children: list[int] = []
        open_sockets: list[int] = []
        for _ in range(4):
            model.requests.clear()
            run = asyncio.create_task(events_of(self.adapter_of(self.agent), self.context(model)))
            await until(lambda: bool(model.requests), 30)
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)
            if threads:
                await until(lambda: threading.active_count() <= threads[0] + 1, 5)
                await until(lambda: len(family(os.getpid())) <= children[0], 5)
                await until(lambda: sockets("self") <= open_sockets[0], 5)
            else:
                await asyncio.sleep(1)
            threads.append(threading.active_count())
            children.append(len(family(os.getpid())))
            open_sockets.append(sockets("self"))

    @asynchronous
    async def test_a_question_is_asked_and_the_answer_goes_on(self, model: OfflineModel) -> None:
        """The run returns after its question, and is called again with the answer."""
        adapter = self.adapter_of(self.claimed(self.asking, "human"))
        script(model, *PAINTING)
        ctx = self.context(model, "Please paint it.")
        [question] = [event for event in await events_of(adapter, ctx) if isinstance(event, InputRequired)]
        assert "colour" in question.prompt
        events = await events_of(adapter, replace(ctx, answers={question.question_id: "blue"}))
        assert not any(isinstance(event, InputRequired) for event in events)
        assert "Painted blue" in answer(events)

    @asynchronous
    async def test_what_was_cut_off_goes_on_without_what_was_done(self, model: OfflineModel) -> None:
        """The second attempt does the second step alone, and says what of it is repeated."""
        adapter = self.adapter_of(self.claimed(self.recovering, "recover"))
        script(model, *TWO_STEPS)
        ctx = self.context(model, "Do both.")
        log = [_logged(1, Started())]
        run = asyncio.create_task(_collect(adapter, ctx, log))
        await until(lambda: _asked(model, "second") and model.requests[-1].output_tokens > 0, 30)
        await asyncio.sleep(0.2)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        log.append(_logged(len(log) + 1, Started(2)))
        async with asyncio.timeout(30):
            await _collect(adapter, replace(ctx, attempt=2, before=tuple(log)), log)
        assert sum("You are the first." in str(each.body["messages"]) for each in model.requests) == 1
        assert answer_text(log).strip().endswith("Both are done.")
        assert answer_text(log).count("Both") == 1


PAINTING = (
    {"when": {"after_tool": ".*", "result": "(?P<colour>blue)"}, "say": "Painted ${colour}."},
    {"when": {"user": "blue"}, "say": "Painted blue."},
    {"when": {"user": "(?i)paint"}, "call": {"tool": "ask_person", "arguments": {"question": "Which colour?"}}},
    {"say": "I know no colour."},
)
"""A model that asks by a tool where there is one, and otherwise leaves it to the program."""

TWO_STEPS = (
    {"when": {"system": "the first"}, "say": "Notes."},
    {"when": {"system": "the second"}, "say": "Both are done.", "fault": {"hang_after": 1, "times": 1}},
    {"when": {"system": "the second"}, "say": "Both are done."},
)


def _logged(seq: int, event: Event) -> LoggedEvent:
    return LoggedEvent("run-of-ada", seq, datetime.now(UTC), event)


def _asked(model: OfflineModel, step: str) -> bool:
    return any(f"You are the {step}." in str(each.body["messages"]) for each in list(model.requests))


async def _collect(adapter: Adapter, ctx: object, log: list[LoggedEvent]) -> None:
    async with aclosing(adapter.run(ctx)) as events:  # type: ignore[arg-type]
        async for event in events:
            log.append(_logged(len(log) + 1, event))
