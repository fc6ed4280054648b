"""What came back to a turn, however the team is talked to, and what it used."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import httpx

__all__ = ["Meter", "Reply", "Spent"]


@dataclass(frozen=True, slots=True)
class Spent:
    """What models used.

    Attributes:
        tokens: read and written.
        cost_usd: in US dollars; None where the price of a model is not known.
    """

    tokens: int = 0
    cost_usd: float | None = 0.0

    def __add__(self, other: Spent) -> Spent:
        known = self.cost_usd is not None and other.cost_usd is not None
        cost = round((self.cost_usd or 0) + (other.cost_usd or 0), 9) if known else None
        return Spent(self.tokens + other.tokens, cost)

    def __sub__(self, other: Spent) -> Spent:
        known = self.cost_usd is not None and other.cost_usd is not None
        cost = round((self.cost_usd or 0) - (other.cost_usd or 0), 9) if known else None
        return Spent(self.tokens - other.tokens, cost)


@dataclass(slots=True)
class Reply:
    """What came back to a turn.

    Attributes:
        text: the answer; after a confirmation, that of the other team.
        tools: names of the tools that were called, in order.
        proposed: teams that work was proposed to, in order.
        questions: what the team asks.
        errors: messages of the errors that were told.
        seconds: from what was sent to the end of what came back.
        spent: by the team's models; None where it could not be asked.
        stopped: whether it took longer than it may, and was stopped.
    """

    text: str = ""
    tools: list[str] = field(default_factory=list)
    proposed: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0
    spent: Spent | None = field(default_factory=Spent)
    stopped: bool = False


class Meter:
    """Asks a team what its runs used, by the A2A tasks that they are; the chat does not tell it.

    Args:
        http: with the user's token.
        url: of the team, without a slash at the end.
    """

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self._http = http
        self._url = url
        self._known: dict[str, Spent] = {}

    async def spent(self, runs: Collection[str]) -> Spent | None:
        """What these runs used since they were asked for last; None where they cannot be read."""
        spent = Spent()
        for run_id in sorted(runs):
            try:
                answer = await self._http.get(f"{self._url}/a2a/v1/tasks/{run_id}", params={"historyLength": 0})
                answer.raise_for_status()
                usage = answer.json().get("metadata", {}).get("usage", {})
            except (httpx.HTTPError, ValueError):
                return None
            tokens = int(usage.get("input_tokens", 0)) + int(usage.get("output_tokens", 0))
            cost = float(usage["cost_usd"]) if "cost_usd" in usage else None
            total = Spent(tokens, cost if usage else 0.0)
            spent += total - self._known.get(run_id, Spent())
            self._known[run_id] = total
        return spent
