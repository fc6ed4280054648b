import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from elf_sdk.adapters.function import FunctionAdapter, FunctionContext, SyncFunctionContext
from elf_sdk.errors import BadInput
from elf_sdk.models.offline import OfflineModel
from elf_sdk.runs.adapter import RunContext, RunError, TurnMessage
from elf_sdk.runs.events import (
    Artifact,
    DelegationProposed,
    Event,
    InputRequired,
    LoggedEvent,
    Rewound,
    Started,
    Step,
    TextDelta,
    Usage,
    answer_text,
)
from elf_sdk.team.spec import TeamSpec
from tests.adapters.support import BRAND, SPEC, answer, context, counted, events_of, scripted, until, used


def under(isolation: str, ctx: RunContext) -> RunContext:
    spec = TeamSpec.model_validate({**SPEC.model_dump(), "runs": {"isolation": isolation}})
    return replace(ctx, spec=spec)


def after(ctx: RunContext, events: list[Event], **answers: str) -> RunContext:
    """The context with which a run goes on once these questions are answered."""
    logged = (LoggedEvent(ctx.run_id, number, datetime.now(UTC), event) for number, event in enumerate(events, 1))
    before = (*ctx.before, *logged)
    return replace(ctx, before=before, answers={**ctx.answers, **{k.replace("_", "-"): v for k, v in answers.items()}})


async def test_a_plain_function_runs_beside_the_loop(model: OfflineModel) -> None:
    def slow(ctx: SyncFunctionContext) -> str:
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


@pytest.mark.parametrize("isolation", ["thread", "inline"])
async def test_a_plain_function_calls_what_others_await(model: OfflineModel, isolation: str) -> None:
    scripted(model, {"say": "one two three"})

    def ask(ctx: SyncFunctionContext) -> Generator[str, None, None]:
        yield f"{ctx.user} said {[turn.text for turn in ctx.history()]}; "
        yield ctx.complete("short") + "; "
        yield from ctx.stream()

    adapter = FunctionAdapter(ask)
    assert adapter.capabilities.stream
    events = await events_of(adapter, under(isolation, context(model, history=(TurnMessage("user", "earlier"),))))
    assert answer(events) == "ada said ['earlier']; one two three; one two three"
    assert used(events) == counted(model)
    assert len(model.requests) == 2


@pytest.mark.parametrize("isolation", ["process", "thread"])
async def test_closing_wakes_a_plain_function_that_waits_for_the_model(model: OfflineModel, isolation: str) -> None:
    scripted(model, {"say": "on and " * 2000, "delay": "10ms"})

    def ask(ctx: SyncFunctionContext) -> Generator[str, None, None]:
        yield from ctx.stream()

    async with aclosing(FunctionAdapter(ask).run(under(isolation, context(model)))) as events:
        await anext(events)
    await until(lambda: model.requests[-1].outcome == "gone")
    await until(lambda: not any(thread.name == "elf-run" for thread in threading.enumerate()))


async def test_inline_holds_the_loop(model: OfflineModel) -> None:
    def where(ctx: SyncFunctionContext) -> str:
        return threading.current_thread().name

    assert answer(await events_of(FunctionAdapter(where), under("inline", context(model)))) == "MainThread"
    assert not any(thread.name == "elf-portal" for thread in threading.enumerate())


async def test_what_has_to_be_awaited_is_defined_so(model: OfflineModel) -> None:
    async def late(ctx: FunctionContext) -> str:
        return "late"

    class Called:
        async def __call__(self, ctx: FunctionContext) -> str:
            return "called"

    assert answer(await events_of(FunctionAdapter(Called()), context(model))) == "called"
    hidden: Callable[[Any], Any] = lambda ctx: late(ctx)  # noqa: E731 - such as a decorator makes
    with pytest.raises(RunError, match="define it with `async def`"):
        await events_of(FunctionAdapter(hidden), context(model))


async def test_an_async_function_that_leaves_ends_its_run_alone(model: OfflineModel) -> None:
    async def leaves(ctx: FunctionContext) -> str:
        raise SystemExit(3)

    with pytest.raises(RunError, match=r"the team's code ended with SystemExit: 3 \(test_function.py, line \d+\)"):
        await events_of(FunctionAdapter(leaves), context(model))


async def _trip(ctx: FunctionContext) -> AsyncGenerator[str, None]:
    yield "Let us see. "
    ctx.delegate("brand-team", "A poster", "For the trip.")
    await ctx.complete("Where to?")
    city = await ctx.ask("Which city?")
    yield f"{city} it is. "
    ctx.delegate("brand-team", "A song", "For the trip.")
    if await ctx.ask(f"Is {city} far?") == "yes":
        yield "By train. "
    ctx.step("packing")
    yield "Done."


def _trip_plainly(ctx: SyncFunctionContext) -> Generator[str, None, None]:
    yield "Let us see. "
    ctx.delegate("brand-team", "A poster", "For the trip.")
    ctx.complete("Where to?")
    city = ctx.ask("Which city?")
    yield f"{city} it is. "
    ctx.delegate("brand-team", "A song", "For the trip.")
    if ctx.ask(f"Is {city} far?") == "yes":
        yield "By train. "
    ctx.step("packing")
    yield "Done."


@pytest.mark.parametrize("function", [_trip, _trip_plainly], ids=["async", "plain"])
async def test_a_function_goes_on_after_an_answer_and_repeats_nothing(model: OfflineModel, function: Any) -> None:
    scripted(model, {"say": "To Rome."})
    adapter = FunctionAdapter(function)
    assert adapter.capabilities.human
    ctx = context(model, delegates=(BRAND,))
    first = await events_of(adapter, ctx)
    assert first[-1] == InputRequired("ask-1", "Which city?")
    assert answer(first) == "Let us see. "
    ctx = after(ctx, first, ask_1="Rome")
    second = await events_of(adapter, ctx)
    assert second[-1] == InputRequired("ask-2", "Is Rome far?")
    assert answer(second) == "Rome it is. "
    third = await events_of(adapter, after(ctx, second, ask_2="yes"))
    assert answer(third) == "By train. Done."
    proposals = [event for event in (*first, *second, *third) if isinstance(event, DelegationProposed)]
    assert [(each.proposal_id, each.title) for each in proposals] == [
        ("run-ada-1", "A poster"),
        ("run-ada-2", "A song"),
    ]
    assert [event for event in (*first, *second, *third) if isinstance(event, Step)] == [Step("packing")]
    # The model was really asked three times, and that costs.
    assert [len([event for event in part if isinstance(event, Usage)]) for part in (first, second, third)] == [1, 1, 1]


async def test_questions_at_once_are_asked_at_once(model: OfflineModel) -> None:
    async def both(ctx: FunctionContext) -> AsyncGenerator[str, None]:
        yield "Two things. "
        yield " and ".join(await asyncio.gather(ctx.ask("Where?"), ctx.ask("When?")))

    adapter, ctx = FunctionAdapter(both), context(model)
    first = await events_of(adapter, ctx)
    assert first == [TextDelta("Two things. "), InputRequired("ask-1", "Where?"), InputRequired("ask-2", "When?")]
    # Only the second is answered: the first is asked again, and nothing is said again.
    ctx = after(ctx, first, ask_2="now")
    second = await events_of(adapter, ctx)
    assert second == [InputRequired("ask-1", "Where?")]
    assert answer(await events_of(adapter, after(ctx, second, ask_1="here"))) == "here and now"


@pytest.mark.parametrize("plain", [False, True])
async def test_a_function_that_goes_another_way_after_an_answer_is_heard(model: OfflineModel, plain: bool) -> None:
    satisfied: list[bool] = []

    async def asking(ctx: FunctionContext) -> AsyncGenerator[str, None]:
        yield "Let us see. "
        city = await ctx.ask("Which city?")
        yield f"{city} it is. "
        if not satisfied:
            await ctx.ask("Which hotel?")
        yield "Booked."

    def asking_plainly(ctx: SyncFunctionContext) -> Generator[str, None, None]:
        yield "Let us see. "
        city = ctx.ask("Which city?")
        yield f"{city} it is. "
        if not satisfied:
            ctx.ask("Which hotel?")
        yield "Booked."

    adapter, ctx = FunctionAdapter(asking_plainly if plain else asking), context(model)
    ctx = after(ctx, [Started(), *await events_of(adapter, ctx)], ask_1="Rome")
    second = await events_of(adapter, ctx)
    assert second[-1] == InputRequired("ask-2", "Which hotel?")
    ctx = replace(ctx, before=_numbered(ctx, *(each.event for each in ctx.before), *second))
    satisfied.append(True)
    last = await events_of(adapter, after(ctx, [], ask_2="any"))
    assert last[0] == Rewound(1)
    whole = _numbered(ctx, *(each.event for each in ctx.before), *last)
    assert answer_text(whole) == "Let us see. Rome it is. Booked."


def _numbered(ctx: RunContext, *events: Event) -> tuple[LoggedEvent, ...]:
    return tuple(LoggedEvent(ctx.run_id, seq, datetime.now(UTC), event) for seq, event in enumerate(events, 1))


@pytest.mark.parametrize("caught", [Exception, BaseException])
async def test_a_function_that_catches_everything_asks_all_the_same(
    model: OfflineModel, caught: type[BaseException]
) -> None:
    def stubborn(ctx: SyncFunctionContext) -> str:
        try:
            return ctx.ask("Really?")
        except caught:
            ctx.step("went on")
            return "I do not care"
        finally:
            [][0]

    adapter, ctx = FunctionAdapter(stubborn), context(model)
    assert await events_of(adapter, ctx) == [InputRequired("ask-1", "Really?")]
    with pytest.raises(RunError, match="IndexError"):
        await events_of(adapter, after(ctx, [InputRequired("ask-1", "Really?")], ask_1="yes"))


async def test_questions_in_a_group_of_tasks_are_asked(model: OfflineModel) -> None:
    async def groups(ctx: FunctionContext) -> str:
        async with asyncio.TaskGroup() as group:
            city = group.create_task(ctx.ask("Which city?"))
        return city.result()

    ctx = context(model)
    first = await events_of(FunctionAdapter(groups), ctx)
    assert first == [InputRequired("ask-1", "Which city?")]
    assert answer(await events_of(FunctionAdapter(groups), after(ctx, first, ask_1="Rome"))) == "Rome"


async def test_a_function_that_waits_can_be_asked_where(model: OfflineModel) -> None:
    async def deeper() -> AsyncGenerator[str, None]:
        yield "a"
        await asyncio.Event().wait()

    async def waits(ctx: FunctionContext) -> AsyncGenerator[str, None]:
        async for piece in deeper():
            yield piece

    ctx = context(model)
    async with aclosing(FunctionAdapter(waits).run(ctx)) as events:
        await anext(events)
        reading = asyncio.create_task(anext(events))
        await asyncio.sleep(0.05)
        line = deeper.__code__.co_firstlineno + 2
        assert await ctx.whereabouts.place() == f"test_function.py, line {line}"
        reading.cancel()
        await asyncio.wait({reading})


@pytest.mark.parametrize("ending", [StopIteration, SystemExit, ValueError])
async def test_whatever_a_plain_function_raises_ends_the_run_alone(
    model: OfflineModel, ending: type[BaseException]
) -> None:
    def bad(ctx: SyncFunctionContext) -> str:
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
