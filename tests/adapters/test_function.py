import asyncio
import threading
import time
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from elf_sdk.adapters.function import FunctionAdapter, FunctionContext
from elf_sdk.errors import BadInput
from elf_sdk.models.offline import OfflineModel
from elf_sdk.runs.adapter import RunError
from elf_sdk.runs.events import Artifact, TextDelta
from tests.adapters.support import BRAND, answer, context, events_of


async def test_a_plain_function_runs_beside_the_loop(model: OfflineModel) -> None:
    def slow(ctx: FunctionContext) -> str:
        ctx.step("work")
        time.sleep(0.2)
        return f"{ctx.text}, {threading.current_thread().name}"

    adapter = FunctionAdapter(slow)
    assert (adapter.capabilities.cancel, adapter.capabilities.stream) == ("cooperative", False)
    run = asyncio.create_task(events_of(adapter, context(model)))
    ticks = 0
    while not run.done():
        await asyncio.sleep(0.01)
        ticks += 1
    assert answer(await run) == "Hello, elf-run"
    assert ticks > 5


async def test_a_generator_may_give_events_beside_text(model: OfflineModel) -> None:
    async def both(ctx: FunctionContext) -> AsyncGenerator[Any, None]:
        yield "See the file."
        yield Artifact("a1", "plan.md", text="# Plan")

    events = await events_of(FunctionAdapter(both), context(model))
    assert events == [TextDelta("See the file."), Artifact("a1", "plan.md", text="# Plan")]


async def test_the_model_hears_who_the_team_is(model: OfflineModel) -> None:
    async def ask(ctx: FunctionContext) -> str:
        return await ctx.complete()

    assert "the manager of the team bike-team" in answer(await events_of(FunctionAdapter(ask), context(model)))


async def test_delegating_to_a_stranger_is_refused(model: OfflineModel) -> None:
    async def ask(ctx: FunctionContext) -> str:
        return ctx.delegate("nobody-team", "x", "y")

    with pytest.raises(BadInput, match="bike-team cannot delegate to 'nobody-team'; it may to: brand-team"):
        await events_of(FunctionAdapter(ask), context(model, delegates=(BRAND,)))


@pytest.mark.parametrize("ending", [StopIteration, SystemExit, ValueError])
async def test_whatever_a_plain_function_raises_ends_the_run_alone(
    model: OfflineModel, ending: type[BaseException]
) -> None:
    def bad(ctx: FunctionContext) -> str:
        raise ending("broken")

    with pytest.raises(RunError, match=f"{ending.__name__}"):
        await events_of(FunctionAdapter(bad), context(model))


async def test_an_answer_of_the_wrong_type_is_named(model: OfflineModel) -> None:
    async def number(ctx: FunctionContext) -> Any:
        return 5

    with pytest.raises(RunError, match="the team's function gave a int; give text"):
        await events_of(FunctionAdapter(number), context(model))


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(BadInput, match="takes a function, not str"):
        FunctionAdapter("answer")  # type: ignore[arg-type]


async def test_a_function_knows_who_asks_and_for_which_team_it_works(model: OfflineModel) -> None:
    async def who(ctx: FunctionContext) -> str:
        return f"{ctx.user} of {ctx.spec.name}"

    assert answer(await events_of(FunctionAdapter(who), context(model))) == "ada of bike-team"
