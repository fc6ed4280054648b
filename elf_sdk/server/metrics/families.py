"""Where it is counted: a few additions, because a request counts a dozen times within a tenth of a millisecond."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from elf_sdk.server.metrics.catalogue import Metric

__all__ = ["Count", "Distribution", "Families", "Family", "Sample"]


class Count:
    """A number that grows, or goes up and down. `value` is added to directly, because that is what happens most."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0


class Distribution:
    """How often values fell below which bounds. Belongs to one thread; another one that reads may be one value behind.

    Args:
        bounds: of the buckets, ascending.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


CellT = TypeVar("CellT", Count, Distribution)


class Family(Generic[CellT]):
    """All that is counted under one name, by the values of its labels."""

    def __init__(self, metric: Metric, make: Callable[[], CellT]) -> None:
        self.metric = metric
        self.cells: dict[tuple[str, ...], CellT] = {}
        self._make: Callable[[], CellT] = make

    def at(self, *labels: str) -> CellT:
        """Where to count for these values of the labels."""
        cell = self.cells.get(labels)
        if cell is None:
            cell = self.cells[labels] = self._make()
        return cell


@dataclass(frozen=True, slots=True)
class Sample:
    """One metric at one moment.

    Attributes:
        metric: which.
        labels: values.
        value: of a counter or gauge.
        counts: of a histogram: how many values were in each bucket, the last of them without a bound.
    """

    metric: Metric
    labels: tuple[str, ...]
    value: float
    counts: tuple[int, ...] = ()


class Families:
    """The families of a process."""

    def __init__(self) -> None:
        self._counts: dict[str, Family[Count]] = {}
        self._distributions: dict[str, Family[Distribution]] = {}

    def count(self, metric: Metric, *labels: str) -> Count:
        """Where a counter, or a gauge that goes up and down, is counted."""
        family = self._counts.get(metric.name)
        if family is None:
            family = self._counts[metric.name] = Family(metric, Count)
        return family.at(*labels)

    def distribution(self, metric: Metric, *labels: str) -> Distribution:
        """Where a histogram is counted."""
        family = self._distributions.get(metric.name)
        if family is None:
            family = self._distributions[metric.name] = Family(metric, lambda: Distribution(metric.buckets))
        return family.at(*labels)

    def samples(self) -> Iterator[Sample]:
        """All that was counted so far."""
        for counts in self._counts.values():
            for labels, count in counts.cells.items():
                yield Sample(counts.metric, labels, count.value)
        for distributions in self._distributions.values():
            for labels, distribution in distributions.cells.items():
                yield Sample(distributions.metric, labels, distribution.total, tuple(distribution.counts))
