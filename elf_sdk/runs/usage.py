"""What the models of a run used, and what that costs.

Prices come from genai-prices, whose data is part of the package, so nothing is fetched. Loading it takes a third of a
second and 20 MB: it happens in a thread, and only when the first call to a model with a price is to be priced.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from elf_sdk.models.llm import Endpoint
from elf_sdk.runs.events import NANO, LoggedEvent, Usage
from elf_sdk.runs.run import Run
from elf_sdk.store.database import milliseconds
from elf_sdk.store.usage import UsageRow

__all__ = ["price", "priced", "usage_rows"]

_FREE: Final = "offline"
_OWN: Final = frozenset({"ollama"})
"""Providers whose price nobody else knows."""
_MODEL: Final = 200
"""Characters of a model's name in a row."""


async def priced(usage: Usage, endpoint: Endpoint) -> Usage:
    """As `price`; what has to be loaded first is loaded in a thread."""
    endpoint = _served(usage, endpoint)
    if _is_listed(usage, endpoint) and not _load.cache_info().currsize:
        await asyncio.to_thread(_load)
    return price(usage, endpoint)


def price(usage: Usage, endpoint: Endpoint) -> Usage:
    """The usage with what it cost, as of now. A cost that is there already, known by an adapter, stays.

    The offline model costs nothing. A model that the list does not have, or that runs on one's own machines, has no
    known price, and the cost stays None. A model behind another address that speaks OpenAI's API is looked up by that
    address, and never by its name alone: who serves it sets the price. A fallback has the price of its own provider.
    """
    endpoint = _served(usage, endpoint)
    if usage.cost is None and endpoint.provider == _FREE:
        return replace(usage, cost=0)
    if not _is_listed(usage, endpoint):
        return usage
    return replace(usage, cost=_cost(usage, endpoint))


def usage_rows(run: Run, logged: Iterable[LoggedEvent]) -> tuple[UsageRow, ...]:
    """The rows that these events of a run add to its store; none for most.

    What was superseded by a takeover counts: it was used.
    """
    owner = run.request.owner
    return tuple(
        UsageRow(
            run_id=entry.run_id,
            seq=entry.seq,
            team=run.request.team,
            owner_issuer=owner.issuer,
            owner_subject=owner.subject,
            model=entry.event.model[:_MODEL],
            input_tokens=entry.event.input_tokens,
            output_tokens=entry.event.output_tokens,
            cost=entry.event.cost,
            at=milliseconds(entry.at),
        )
        for entry in logged
        if isinstance(entry.event, Usage)
    )


def _served(usage: Usage, endpoint: Endpoint) -> Endpoint:
    """The model that was called: the team's own, or the fallback that the usage names."""
    if not usage.provider:
        return endpoint
    named = (usage.provider, usage.model)
    return next((model for model in endpoint.chain() if (model.provider, model.model) == named), endpoint)


def _is_listed(usage: Usage, endpoint: Endpoint) -> bool:
    """Whether the list of prices is to be asked."""
    return usage.cost is None and endpoint.provider != _FREE and endpoint.provider not in _OWN


@functools.cache
def _load() -> None:
    from genai_prices import Usage as Tokens
    from genai_prices import calc_price

    # The first question, whatever it is, makes the list.
    with suppress(LookupError):
        calc_price(Tokens(), "none", provider_id="none")


def _cost(usage: Usage, endpoint: Endpoint) -> int | None:
    from genai_prices import Usage as Tokens
    from genai_prices import calc_price

    try:
        tokens = Tokens(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            # Some servers count what was cached beside the input, of which it is a part everywhere else.
            cache_read_tokens=min(usage.cached_tokens, usage.input_tokens),
        )
        if endpoint.provider == "compatible":
            calculated = calc_price(tokens, usage.model, provider_api_url=endpoint.base_url)
        else:
            calculated = calc_price(tokens, usage.model, provider_id=endpoint.provider)
    except (LookupError, ValueError, ArithmeticError):
        # No such model, or numbers that no price can be made of.
        return None
    return int((calculated.total_price * NANO).to_integral_value())
