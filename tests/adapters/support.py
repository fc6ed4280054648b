"""A run's context, and an adapter's events collected, for all adapter tests."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from elf_sdk.models.llm import Endpoint
from elf_sdk.models.offline import OfflineModel
from elf_sdk.models.script import OfflineScript
from elf_sdk.runs.adapter import Adapter, Delegate, Owner, RunContext, TurnMessage
from elf_sdk.runs.events import Event, TextDelta, Usage
from elf_sdk.team.spec import TeamSpec

SPEC = TeamSpec.model_validate(
    {"name": "bike-team", "purpose": "We sell bicycles.", "members": [{"role": "manager", "is_manager": True}]}
)
BRAND = Delegate("brand-team", "Brand Team", "How we sound.")


def context(
    model: OfflineModel,
    text: str = "Hello",
    *,
    user: str = "ada",
    team: str = "",
    delegates: tuple[Delegate, ...] = (),
    history: tuple[TurnMessage, ...] = (),
    retries: int = 0,
    timeout: float = 10.0,
) -> RunContext:
    async def earlier() -> tuple[TurnMessage, ...]:
        return history

    return RunContext(
        run_id=f"run-{user}",
        spec=SPEC,
        owner=Owner("test", user),
        conversation=f"talk-{user}",
        text=text,
        endpoint=Endpoint("offline", "offline", model.url(team), "not-needed", timeout=timeout, retries=retries),
        delegates=delegates,
        history=earlier,
    )


def scripted(model: OfflineModel, *rules: dict[str, Any], delay: str = "0ms") -> None:
    model.add("", OfflineScript.model_validate({"delay": delay, "rules": rules}))


async def events_of(adapter: Adapter, ctx: RunContext) -> list[Event]:
    return [event async for event in adapter.run(ctx)]


def answer(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def used(events: list[Event]) -> tuple[int, int]:
    calls = [event for event in events if isinstance(event, Usage)]
    return sum(call.input_tokens for call in calls), sum(call.output_tokens for call in calls)


def counted(model: OfflineModel) -> tuple[int, int]:
    return sum(r.input_tokens for r in model.requests), sum(r.output_tokens for r in model.requests)


async def until(condition: Callable[[], bool], seconds: float = 1.0) -> float:
    """Wait for `condition`, and say how long it took."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > seconds:
            raise AssertionError(f"it did not happen within {seconds} s")
        await asyncio.sleep(0.01)
    return time.monotonic() - begun
