"""Metrics as text: for Prometheus, and as the page of the reference."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from elf_sdk.server.metrics.catalogue import METRICS, Metric
from elf_sdk.server.metrics.families import Sample
from elf_sdk.server.metrics.process import Metrics

if TYPE_CHECKING:
    from prometheus_client import Metric as PrometheusMetric

__all__ = ["exposition", "metrics_app", "metrics_markdown"]


async def exposition(request: Request, metrics: Metrics, team: str | None = None) -> Response:
    """The answer to a scrape: Prometheus' text format, or OpenMetrics where `Accept` wants that.

    Args:
        request: the scrape.
        metrics: of the process.
        team: tell of this one alone, and of the process.
    """
    samples = await metrics.samples(team)
    # In a thread: the library takes a tenth of a second to load, and many teams have much to tell.
    body, media_type = await asyncio.to_thread(_rendered, samples, request.headers.get("accept", ""))
    return Response(body, headers={"Content-Type": media_type, "Cache-Control": "no-store"})


def metrics_app(metrics: Metrics) -> ASGIApp:
    """What is served on a port of its own: `/metrics` of all teams of the process, for everybody who reaches it."""

    async def scrape(request: Request) -> Response:
        return await exposition(request, metrics)

    return Starlette(routes=[Route("/metrics", scrape)])


class _Scrape:
    """Samples as the library's families, with its own of the process and of Python."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._by_metric: dict[str, list[Sample]] = {}
        for sample in samples:
            self._by_metric.setdefault(sample.metric.name, []).append(sample)

    def collect(self) -> Iterator[PrometheusMetric]:
        """All families, ours by name."""
        from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector

        for _, samples in sorted(self._by_metric.items()):
            yield _family(samples)
        apart = CollectorRegistry()
        yield from ProcessCollector(registry=apart).collect()
        yield from GCCollector(registry=apart).collect()


def _rendered(samples: list[Sample], accept: str) -> tuple[bytes, str]:
    from prometheus_client.exposition import choose_encoder

    encode, media_type = choose_encoder(accept)
    return encode(_Scrape(samples)), media_type


def _family(samples: list[Sample]) -> PrometheusMetric:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    metric = samples[0].metric
    if metric.kind == "histogram":
        distributions = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        bounds = [*map(_bound, metric.buckets), "+Inf"]
        for sample in samples:
            buckets = list(zip(bounds, accumulate(map(float, sample.counts)), strict=True))
            distributions.add_metric(sample.labels, buckets, sample.value)
        return distributions
    make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    numbers = make(metric.name, metric.help, labels=metric.labels)
    for sample in samples:
        numbers.add_metric(sample.labels, sample.value)
    return numbers


def _bound(bound: float) -> str:
    return repr(float(bound))


_INTRODUCTION: Final = """\
`GET /metrics` tells this in Prometheus' text format, or in OpenMetrics' where `Accept` wants that. Where, and who may
ask, is in [Watch a team](../how-to/watch-a-team.md). Durations are in seconds, costs in US dollars. `team` is a label
of all that belongs to one. No user, run or conversation is ever a label; of the names of models, 200 are told apart,
and the rest is `other`. Counters begin at 0 with their process.

Beside these there are the figures of the process and of Python that Prometheus' library brings:
`process_cpu_seconds_total`, `process_resident_memory_bytes`, `process_open_fds` and their kin (on Linux), and
`python_gc_*`."""


def metrics_markdown() -> str:
    """The page of all metrics, as Markdown; `docs/reference/metrics.md` is what this returns."""
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    buckets = ["| histogram | upper bounds |", "|---|---|"]
    for metric in sorted(METRICS, key=lambda metric: metric.name):
        rows.append(f"| `{metric.name}` | {metric.kind} | {_labels(metric)} | {metric.help} |")
        if metric.buckets:
            buckets.append(f"| `{metric.name}` | {', '.join(f'{bound:g}' for bound in metric.buckets)} |")
    return "\n\n".join(["# Metrics", _INTRODUCTION, "\n".join(rows), "## Buckets", "\n".join(buckets)]) + "\n"


def _labels(metric: Metric) -> str:
    return ", ".join(f"`{label}`" for label in metric.labels)
