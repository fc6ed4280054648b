"""What goes wrong, and how the adapter says it: in one sentence, with the right code, and without the key."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from elf_sdk.models.offline import OfflineModel
from elf_sdk.runs.adapter import RunError
from elf_sdk.runs.events import ToolResult
from elf_sdk.server.team_server import TeamServer
from elf_sdk.testing.adapter_suite.setting import KEY, Setting, answer, asynchronous, events_of, script
from elf_sdk.testing.tools import request

__all__ = ["Errors"]

_FAULTS = {
    "401": ({"status": 401, "message": f"Incorrect API key provided: {KEY}"}, False),
    "429": ({"status": 429, "retry_after": 0}, True),
    "500": ({"status": 500}, True),
    "reset before the first token": ({"reset_after": 0}, True),
    "reset in mid-stream": ({"reset_after": 2}, True),
    "hang": ({"hang_after": 2}, True),
}


class Errors(Setting):
    """Runs the adapter in the process of the tests, against a model that fails."""

    @pytest.mark.parametrize("fault", _FAULTS)
    @asynchronous
    async def test_an_error_of_the_model_is_said(self, model: OfflineModel, fault: str) -> None:
        """Code `model`, and whether it may work later."""
        happens, retryable = _FAULTS[fault]
        script(model, {"say": "one two three four", "fault": happens})
        error = await self._fails(self.agent, model, timeout=1.5)
        assert (error.code, error.retryable) == ("model", retryable), error

    @asynchronous
    async def test_a_conversation_that_is_too_long_is_said(self, model: OfflineModel) -> None:
        """With code `input`, in the model's words: nobody else knows how much it takes."""
        script(model, {"fault": {"context_too_long": True}})
        error = await self._fails(self.agent, model)
        assert (error.code, error.retryable) == ("input", False)
        assert "maximum context length" in str(error)

    @asynchronous
    async def test_a_model_that_is_not_there_is_said(self, model: OfflineModel) -> None:
        """Nobody listens at its address."""
        ctx = self.context(model)
        model.stop()
        with pytest.raises(RunError) as raised:
            await events_of(self.adapter_of(self.agent), ctx)
        assert (raised.value.code, raised.value.retryable) == ("model", True)
        _is_one_sentence(raised.value)

    @asynchronous
    async def test_a_fault_that_passes_is_tried_again(self, model: OfflineModel) -> None:
        """As often as `llm.retries` says."""
        script(model, {"say": "never", "fault": {"status": 503, "retry_after": 0, "times": 1}}, {"say": "Here I am."})
        events = await events_of(self.adapter_of(self.agent), self.context(model, retries=2))
        assert answer(events).strip() == "Here I am."

    @pytest.mark.parametrize(
        "given", [{"arguments": {"nonsense": [1]}}, {"raw": '{"topic": "lam'}], ids=["misfit", "no JSON"]
    )
    @asynchronous
    async def test_a_malformed_tool_call_is_no_crash(self, model: OfflineModel, given: dict[str, Any]) -> None:
        """The model hears of it, or the run fails in one sentence."""
        self.has("lookup")
        script(
            model,
            {"when": {"user": "use lookup"}, "call": {"tool": "lookup", **given}},
            {"when": {"after_tool": "lookup"}, "say": "I called it wrongly."},
        )
        ctx = self.context(model, request("lookup", nonsense=[1]))
        try:
            events = await events_of(self.adapter_of(self.agent), ctx)
        except RunError as error:
            _is_one_sentence(error)
        else:
            assert answer(events).strip().endswith("I called it wrongly.")

    @asynchronous
    async def test_a_tool_that_fails_is_said(self, model: OfflineModel) -> None:
        """As a result that is an error, or as the end of the run, with the reason."""
        self.has("fail")
        script(
            model,
            {"when": {"user": "use fail"}, "call": {"tool": "fail", "arguments": {"reason": "the shop is shut"}}},
            {"when": {"after_tool": "fail"}, "say": "It failed."},
        )
        ctx = self.context(model, request("fail", reason="the shop is shut"))
        try:
            events = await events_of(self.adapter_of(self.agent), ctx)
        except RunError as error:
            _is_one_sentence(error)
            said = str(error)
        else:
            [result] = [event for event in events if isinstance(event, ToolResult)]
            assert result.is_error
            said = result.output
        assert "the shop is shut" in said

    @asynchronous
    async def test_a_factory_that_raises_is_said_with_the_authors_own_line(self, model: OfflineModel) -> None:
        """The file and the line where it was raised, and not one of the framework."""
        if self.failing is None:
            pytest.skip("there is no program whose factory raises")
        error = await self._fails(self.failing, model)
        assert error.code == "team"
        assert "no such thing" in str(error)
        assert re.search(rf"{Path(inspect.getfile(self.failing)).name}\W+line \d+", str(error)), error

    @asynchronous
    async def test_a_factory_that_gives_something_else_is_said(self, model: OfflineModel) -> None:
        """In one sentence that names what it gave."""
        if self.mistaken is None:
            pytest.skip("there is no program whose factory gives something else")
        error = await self._fails(self.mistaken, model)
        assert error.code == "team"
        assert "int" in str(error)

    async def _fails(self, program: type[TeamServer], model: OfflineModel, **changed: Any) -> RunError:
        with pytest.raises(RunError) as raised:
            await events_of(self.adapter_of(program), self.context(model, **changed))
        _is_one_sentence(raised.value)
        return raised.value


def _is_one_sentence(error: RunError) -> None:
    assert str(error)
    assert "\n" not in str(error)
    assert KEY not in str(error), "the message holds the model's key"
