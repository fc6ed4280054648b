"""A run's context, for all adapter tests; what reads its events is the suite's."""

import asyncio
import time
from collections.abc import Callable

from elf_sdk.models.llm import Endpoint
from elf_sdk.models.offline import OfflineModel
from elf_sdk.runs.adapter import Delegate, Owner, RunContext, TurnMessage
from elf_sdk.team.spec import TeamSpec
from elf_sdk.testing.adapter_suite.setting import answer, counted, events_of, used
from elf_sdk.testing.adapter_suite.setting import script as scripted

__all__ = ["BRAND", "SPEC", "answer", "context", "counted", "events_of", "scripted", "until", "used"]

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


async def until(condition: Callable[[], bool], seconds: float = 1.0) -> float:
    """Wait for `condition`, and say how long it took."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > seconds:
            raise AssertionError(f"it did not happen within {seconds} s")
        await asyncio.sleep(0.01)
    return time.monotonic() - begun
