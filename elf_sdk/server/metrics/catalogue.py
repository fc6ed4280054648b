"""Every metric: its name, labels and meaning. The reference is written from this.

Labels are bounded. No user, no run and no conversation is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["CODES", "METRICS", "Metric"]

_QUICK: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_SLOW: Final = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
_SIZES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
CODES: Final = ("deadline", "input", "internal", "interrupted", "model", "team")
"""Codes of failures that have a count of their own."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What is measured, as the reference shows it.

    Attributes:
        name: with its unit; a counter's ends in `_total`.
        kind: of Prometheus.
        labels: names, in order.
        help: one sentence.
        buckets: upper bounds of a histogram, in the metric's unit.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()


def _counter(name: str, labels: str, text: str) -> Metric:
    return Metric(name, "counter", tuple(labels.split()), text)


def _gauge(name: str, labels: str, text: str) -> Metric:
    return Metric(name, "gauge", tuple(labels.split()), text)


def _histogram(name: str, labels: str, text: str, buckets: tuple[float, ...]) -> Metric:
    return Metric(name, "histogram", tuple(labels.split()), text, buckets)


BUILD: Final = _gauge("elf_build_info", "version", "1, with the version of ELF as a label.")
RUNS: Final = _gauge(
    "elf_runs", "team state", "Runs in the store by state; every replica tells the same, so take the maximum of them."
)
WORKING: Final = _gauge("elf_runs_working", "team", "Runs that work now, in this process.")
QUEUED: Final = _gauge("elf_runs_queued", "team", "Runs that this process holds and that wait for their turn.")
STARTED: Final = _counter(
    "elf_runs_started_total", "team", "Runs that began to work in this process, or went on after a question."
)
ENDED: Final = _counter(
    "elf_runs_ended_total",
    "team outcome",
    "Runs that left off working in this process: `finished`, `failed`, `rejected`, `cancelled`, `input_required` where "
    "they wait for a person, or `left` where this process let go of them for another.",
)
FAILED: Final = _counter(
    "elf_run_failures_total",
    "team code",
    "Runs that failed in this process, by the code of the failure: " + ", ".join(f"`{code}`" for code in CODES) + ".",
)
DURATION: Final = _histogram(
    "elf_run_duration_seconds",
    "team outcome",
    "From when a run began to work to its end or its question; neither its wait nor a person's time is in it.",
    _SLOW,
)
FIRST_TOKEN: Final = _histogram(
    "elf_run_first_token_seconds",
    "team",
    "From when this process took the run to when its first text was stored, the wait included.",
    _SLOW,
)
QUEUE: Final = _histogram(
    "elf_run_queue_seconds",
    "team",
    "How long a run waited for its conversation and for a place, in this process.",
    _SLOW,
)
CALLS: Final = _counter("elf_model_calls_total", "team model", "Calls to a model whose usage is known.")
FALLBACKS: Final = _counter(
    "elf_model_fallback_calls_total", "team model", "Of these calls, those that a fallback answered: this model."
)
TOKENS: Final = _counter(
    "elf_model_tokens_total", "team model direction", "Tokens that models took (`input`) and gave (`output`)."
)
CACHED: Final = _counter(
    "elf_model_cached_tokens_total", "team model", "Of the input tokens, those that the provider had in its cache."
)
REASONING: Final = _counter(
    "elf_model_reasoning_tokens_total", "team model", "Of the output tokens, those that were thought and not said."
)
COST: Final = _counter("elf_model_cost_dollars_total", "team model", "List price of the calls that have a known one.")
UNPRICED: Final = _counter("elf_model_unpriced_calls_total", "team model", "Calls whose price is not known.")
A2A: Final = _counter(
    "elf_a2a_requests_total",
    "team binding method outcome",
    "A2A requests that came to an operation: by `jsonrpc`, `rest`, `grpc` or `jsonrpc-0.3`; with `ok` or the error.",
)
A2A_DURATION: Final = _histogram(
    "elf_a2a_request_duration_seconds",
    "team binding method",
    "From the operation's beginning to its answer; of a stream to the first item.",
    _SLOW,
)
RESPONSES: Final = _counter("elf_http_responses_total", "team code", "Answers to HTTP requests, by their status.")
STREAMS: Final = _gauge("elf_a2a_streams", "team", "A2A streams that are open.")
CHATS: Final = _gauge("elf_chat_sessions", "team", "Chats that are open in this process.")
LAG: Final = _histogram(
    "elf_event_loop_lag_seconds",
    "",
    "How much later than it should the event loop woke somebody up; looked at four times a second.",
    _QUICK,
)
STORE_UP: Final = _gauge("elf_store_up", "", "Whether the store answered when this was asked for: 1 or 0.")
FLUSH: Final = _histogram(
    "elf_store_flush_duration_seconds", "", "One transaction of the store's writer, its commit included.", _QUICK
)
FLUSH_SIZE: Final = _histogram("elf_store_flush_changes", "", "Changes that shared such a transaction.", _SIZES)
READ: Final = _histogram(
    "elf_store_read_duration_seconds",
    "",
    "The queries that the store's reader found waiting, one after the other.",
    _QUICK,
)

METRICS: Final = (
    BUILD,
    RUNS,
    WORKING,
    QUEUED,
    STARTED,
    ENDED,
    FAILED,
    DURATION,
    FIRST_TOKEN,
    QUEUE,
    CALLS,
    FALLBACKS,
    TOKENS,
    CACHED,
    REASONING,
    COST,
    UNPRICED,
    A2A,
    A2A_DURATION,
    RESPONSES,
    STREAMS,
    CHATS,
    LAG,
    STORE_UP,
    FLUSH,
    FLUSH_SIZE,
    READ,
)
"""All of them."""
