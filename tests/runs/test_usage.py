"""What calls to models cost, and what is kept of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from elf_sdk.errors import Conflict
from elf_sdk.models.llm import Endpoint
from elf_sdk.runs.adapter import Owner, RunContext
from elf_sdk.runs.durable import DurableLog
from elf_sdk.runs.events import Event, Finished, LoggedEvent, TextDelta, Usage, as_stored, decode, dollars, encode
from elf_sdk.runs.run import Run, RunRequest, RunState
from elf_sdk.runs.usage import price, priced, usage_rows
from elf_sdk.store import Store
from elf_sdk.store.usage import UsageRecords
from tests.runs.support import ADA, BOB, ask, follow, running

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(provider: str, base_url: str = "http://127.0.0.1:9/v1") -> Endpoint:
    return Endpoint(provider, "any", base_url, "none")


def run(run_id: str, owner: Owner = ADA, team: str = "test-team") -> Run:
    return Run(run_id, RunRequest(team, owner, "c1", "hello"), RunState.WORKING, 0, NOON, NOON, NOON)


def test_the_offline_model_costs_nothing_and_own_machines_nobody_knows_what() -> None:
    usage = Usage("any", 1000, 100)
    assert price(usage, at("offline")).cost == 0
    assert price(usage, at("ollama")).cost is None


def test_a_listed_model_costs_what_the_list_says() -> None:
    # Of a model that is not sold any more, so that its price stays what it is: 0.5 and 1.5 dollars a million.
    usage = price(Usage("gpt-3.5-turbo-0125", 1_000_000, 2_000_000), at("openai"))
    assert usage.cost == 3_500_000_000
    assert (usage.input_tokens, usage.output_tokens) == (1_000_000, 2_000_000)


def test_what_was_cached_is_cheaper_and_never_more_than_the_input() -> None:
    full, half, odd = (price(Usage("gpt-4o", 1000, 0, cached), at("openai")).cost for cached in (0, 500, 5000))
    assert full is not None
    assert half is not None
    assert odd is not None
    assert full > half > odd > 0


@pytest.mark.parametrize(
    ("usage", "endpoint"),
    [
        (Usage("a-model-of-nobody", 5, 5), at("openai")),
        (Usage("", 5, 5), at("anthropic")),
        (Usage("gpt-4o", 5, 5), at("compatible")),
        (Usage("gpt-4o", -5, 5), at("openai")),
    ],
)
def test_what_has_no_known_price_has_no_cost(usage: Usage, endpoint: Endpoint) -> None:
    assert price(usage, endpoint) == usage


def test_a_compatible_server_is_known_by_its_address() -> None:
    usage = Usage("openai/gpt-4o", 1000, 100)
    assert price(usage, at("compatible", "https://openrouter.ai/api/v1")).cost == price(usage, at("openrouter")).cost
    assert price(usage, at("openrouter")).cost is not None


def test_a_cost_that_an_adapter_knows_stays() -> None:
    assert price(Usage("gpt-4o", 5, 5, cost=7), at("openai")).cost == 7


def test_a_fallback_has_the_price_of_its_own_provider() -> None:
    free, listed = at("ollama"), replace(at("openai"), model="gpt-4o")
    endpoint = replace(free, fallbacks=(at("offline"), listed))
    used = Usage("gpt-4o", 1000, 100, provider="openai")
    assert price(used, endpoint).cost == price(replace(used, provider=""), listed).cost
    assert price(Usage("gpt-4o", 1000, 100), endpoint).cost is None
    assert price(Usage("any", 1000, 100, provider="offline"), endpoint).cost == 0


def test_prices_are_loaded_only_for_a_model_that_has_one() -> None:
    script = (
        "import asyncio, sys\n"
        "from elf_sdk.models.llm import Endpoint\n"
        "from elf_sdk.runs.events import Usage\n"
        "from elf_sdk.runs.usage import priced\n"
        "def cost(provider, model):\n"
        "    return asyncio.run(priced(Usage(model, 1000), Endpoint(provider, model, 'http://127.0.0.1:9', ''))).cost\n"
        "assert cost('offline', 'any') == 0\n"
        "assert 'genai_prices' not in sys.modules\n"
        "assert cost('openai', 'gpt-4o') > 0\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


async def test_it_costs_the_same_with_and_without_a_thread() -> None:
    usage = Usage("gpt-4o", 10, 10)
    assert await priced(usage, at("openai")) == price(usage, at("openai"))


@pytest.mark.parametrize("cost", [None, 0, 3_525_000])
def test_a_cost_is_stored_and_read_back(cost: int | None) -> None:
    usage = Usage("m", 1, 2, 1, 2, cost)
    assert decode("usage", encode(usage)) == as_stored(usage) == usage
    assert decode("usage", '{"model": "m", "input_tokens": 1}') == Usage("m", 1)


@pytest.mark.parametrize(
    ("cost", "text"),
    [(0, "0"), (1, "0.000000001"), (3_525_000, "0.003525"), (10_000_000_000, "10"), (12_500_000_000, "12.5")],
)
def test_dollars(cost: int, text: str) -> None:
    assert dollars(cost) == text


def test_rows_are_made_of_usage_alone() -> None:
    events = [TextDelta("a"), Usage("m", 1, 2, cost=3), Usage("n" * 500, 4, 5)]
    logged = [LoggedEvent("r1", seq, NOON + timedelta(seconds=seq), event) for seq, event in enumerate(events, start=1)]
    first, second = usage_rows(run("r1", BOB), logged)
    assert first[:6] == ("r1", 2, "test-team", BOB.issuer, BOB.subject, "m")
    assert (first.input_tokens, first.output_tokens, first.cost) == (1, 2, 3)
    assert datetime.fromtimestamp(first.at / 1000, UTC).date() == date(2026, 3, 1)
    assert (len(second.model), second.cost) == (200, None)


async def test_a_runs_usage_is_kept_for_its_owner(store: Store) -> None:
    async def script(ctx: RunContext) -> AsyncGenerator[Event, None]:
        yield TextDelta("a")
        yield Usage("m", 10, 1, cost=5)
        yield Usage("n", 20, 2)

    async with running(store, script) as engine:
        for owner in (ADA, BOB):
            run = await engine.start(ask(owner=owner))
            logged = [entry.event for entry in await follow(engine, run.id, owner=owner)]
            # The team's model is the offline one, so what its adapter did not price costs nothing.
            assert [event.cost for event in logged if isinstance(event, Usage)] == [5, 0]
    kept = await UsageRecords(store).totals(["team", "model", "user"])
    assert [(each.team, each.model, each.user, each.input_tokens, each.cost, each.unpriced) for each in kept] == [
        ("test-team", model, (owner.issuer, owner.subject), tokens, cost, 0)
        for model, tokens, cost in (("m", 10, 5), ("n", 20, 0))
        for owner in (ADA, BOB)
    ]


async def test_what_is_not_stored_was_not_used(store: Store) -> None:
    log = DurableLog(store)
    await log.open()
    try:
        run, _ = await log.create("r1", ask(), None)
        with pytest.raises(Conflict):
            await log.append("r1", [Usage("m", 1)], epoch=run.epoch + 1)
        await log.append("r1", [Usage("m", 2, cost=3), Finished()], epoch=run.epoch)
        with pytest.raises(Conflict):
            await log.append("r1", [Usage("m", 4)])
    finally:
        await log.close()
    [total] = await UsageRecords(store).totals()
    assert (total.calls, total.input_tokens, total.cost) == (1, 2, 3)
