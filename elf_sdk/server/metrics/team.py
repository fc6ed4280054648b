"""What is counted of one team."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Final

from typing_extensions import override

from elf_sdk.runs.events import NANO, REJECTED, Event, Failed, TextDelta, Usage
from elf_sdk.runs.observer import RunObserver, RunWatch
from elf_sdk.runs.run import Run
from elf_sdk.server.metrics import catalogue
from elf_sdk.server.metrics.families import Count, Distribution, Families

__all__ = ["TeamMetrics"]

_MOST: Final = 200
"""Names of models that are told apart. They come from the team's own code, which may make up new ones."""
_OTHER: Final = "other"


class TeamMetrics(RunObserver):
    """Counts what a team does.

    Args:
        families: where.
        team: its name.

    Attributes:
        streams: A2A streams that are open; goes up and down.
        started: runs that began to work.
        queue: seconds for which they waited.
        first_token: seconds until their first text.
    """

    def __init__(self, families: Families, team: str) -> None:
        self.streams = families.count(catalogue.STREAMS, team)
        self.started = families.count(catalogue.STARTED, team)
        self.queue = families.distribution(catalogue.QUEUE, team)
        self.first_token = families.distribution(catalogue.FIRST_TOKEN, team)
        self._team = team
        self._families = families
        self._outcomes: dict[str, tuple[Count, Distribution]] = {}
        self._requests: dict[tuple[str, str, str], tuple[Count, Distribution]] = {}
        self._responses: dict[int, Count] = {}
        self._models: set[str] = set()
        # There from the beginning: the first failure is then seen as an increase, and not as a number out of nowhere.
        for code in (*catalogue.CODES, _OTHER):
            families.count(catalogue.FAILED, team, code)
        for outcome in ("finished", "failed", "rejected", "cancelled", "input_required", "left"):
            families.count(catalogue.ENDED, team, outcome)

    @override
    def queued(self, run: Run) -> RunWatch:
        return _Watch(self)

    def ended(self, outcome: str, seconds: float | None) -> None:
        """A run is over here, or waits for a person; `seconds` is how long it worked, None where it never did."""
        found = self._outcomes.get(outcome)
        if found is None:
            found = self._outcomes[outcome] = (
                self._families.count(catalogue.ENDED, self._team, outcome),
                self._families.distribution(catalogue.DURATION, self._team, outcome),
            )
        found[0].value += 1
        if seconds is not None:
            found[1].observe(seconds)

    def failed(self, code: str) -> None:
        """A run failed."""
        self._families.count(catalogue.FAILED, self._team, code if code in catalogue.CODES else _OTHER).value += 1

    def used(self, usage: Usage) -> None:
        """A model was called."""
        model = usage.model or _OTHER
        if model not in self._models:
            if len(self._models) < _MOST:
                self._models.add(model)
            else:
                model = _OTHER
        count, team = self._families.count, self._team
        count(catalogue.CALLS, team, model).value += 1
        count(catalogue.FALLBACKS, team, model).value += usage.provider != ""
        count(catalogue.TOKENS, team, model, "input").value += max(usage.input_tokens, 0)
        count(catalogue.TOKENS, team, model, "output").value += max(usage.output_tokens, 0)
        count(catalogue.CACHED, team, model).value += max(usage.cached_tokens, 0)
        count(catalogue.REASONING, team, model).value += max(usage.reasoning_tokens, 0)
        count(catalogue.UNPRICED, team, model).value += usage.cost is None
        count(catalogue.COST, team, model).value += max(usage.cost or 0, 0) / NANO

    def called(self, binding: str, method: str, outcome: str, seconds: float) -> None:
        """An A2A request got its answer, or the first item of it."""
        key = (binding, method, outcome)
        found = self._requests.get(key)
        if found is None:
            found = self._requests[key] = (
                self._families.count(catalogue.A2A, self._team, *key),
                self._families.distribution(catalogue.A2A_DURATION, self._team, binding, method),
            )
        found[0].value += 1
        found[1].observe(seconds)

    def responded(self, status: int) -> None:
        """An HTTP request got its answer."""
        found = self._responses.get(status)
        if found is None:
            found = self._responses[status] = self._families.count(catalogue.RESPONSES, self._team, str(status))
        found.value += 1


class _Watch(RunWatch):
    __slots__ = ("_metrics", "_queued_at", "_silent", "_working_at")

    def __init__(self, metrics: TeamMetrics) -> None:
        self._metrics = metrics
        self._queued_at = monotonic()
        self._working_at: float | None = None
        self._silent = True

    @override
    def working(self) -> None:
        metrics = self._metrics
        self._working_at = now = monotonic()
        metrics.started.value += 1
        metrics.queue.observe(now - self._queued_at)

    @override
    def stored(self, events: Sequence[Event]) -> None:
        for event in events:
            kind = type(event)
            if kind is TextDelta:
                if self._silent:
                    self._silent = False
                    self._metrics.first_token.observe(monotonic() - self._queued_at)
            elif kind is Usage:
                self._metrics.used(event)  # type: ignore[arg-type] # faster than to ask what it is an instance of

    @override
    def ended(self, end: Event | None) -> None:
        outcome = "input_required" if end is None else end.kind
        if type(end) is Failed:
            if end.code == REJECTED:
                outcome = REJECTED
            else:
                self._metrics.failed(end.code)
        self._leave(outcome)

    @override
    def left(self) -> None:
        self._leave("left")

    def _leave(self, outcome: str) -> None:
        self._metrics.ended(outcome, None if self._working_at is None else monotonic() - self._working_at)
