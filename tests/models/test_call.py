"""What is tried next when a model fails, and when: decided without a model."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from elf_sdk.models.call import Call, Setback, Verdict
from elf_sdk.models.dialect import Dialect, address, credential, retold
from elf_sdk.models.llm import Endpoint

NOW = datetime(2026, 11, 26, 12, 0, 0, tzinfo=UTC)
BUSY = Setback(429)
LOST = Setback()


def _endpoint(model: str, *, retries: int = 2, provider: str = "openai", temperature: float = 0.2) -> Endpoint:
    return Endpoint(provider, model, "http://model.example/v1", f"key-of-{model}", temperature, retries=retries)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "Thu, 26 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Thu, 26 Nov 2026 12:00:30 -0000"}, 30.0),
        ({"retry-after": "Thu, 26 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "later", "retry-after": "9"}, 9.0),
    ],
)
def test_how_long_a_model_wants_to_be_left_alone(headers: Mapping[str, str], seconds: float | None) -> None:
    assert Setback.of(429, headers, b"", NOW).retry_after == seconds


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        *((status, b"", Verdict.PASSING) for status in (0, 408, 409, 425, 429, 500, 502, 503, 504, 529)),
        *((status, b"", Verdict.GONE) for status in (401, 402, 403, 404, 410)),
        *((status, b"", Verdict.WRONG) for status in (400, 405, 413, 415, 422)),
        (429, b'{"error": {"code": "insufficient_quota"}}', Verdict.GONE),
        (400, b'{"error": {"code": "model_not_found"}}', Verdict.GONE),
        (503, b"{", Verdict.PASSING),
        (503, b'{"error": 5}', Verdict.PASSING),
        (503, b"[]", Verdict.PASSING),
    ],
)
def test_what_a_setback_means(status: int, body: bytes, verdict: Verdict) -> None:
    assert Setback.of(status, {}, body, NOW).verdict is verdict


def test_a_model_that_says_that_trying_again_is_of_no_use_is_believed() -> None:
    assert Setback.of(503, {"x-should-retry": "false"}, b"", NOW).verdict is Verdict.GONE


def test_a_call_is_tried_as_often_as_it_says_with_growing_waits() -> None:
    call = Call([_endpoint("a", retries=6)])
    waits = [call.again(LOST, 0.0, 1.0) for _ in range(7)]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, None]
    assert Call([_endpoint("a")]).again(LOST, 0.0, 0.0) == 0.25


def test_fallbacks_are_asked_in_their_order_each_as_often_as_it_says() -> None:
    call = Call([_endpoint("a", retries=1), _endpoint("b", retries=0), _endpoint("c", retries=1)])
    asked = [call.endpoint.model]
    while call.again(LOST, 0.0, 0.5) is not None:
        asked.append(call.endpoint.model)
    assert asked == ["a", "a", "b", "c", "c"]


def test_nested_fallbacks_come_behind_the_one_that_has_them() -> None:
    inner = Endpoint("openai", "b", "http://b", "k", fallbacks=(_endpoint("c"),))
    first = Endpoint("openai", "a", "http://a", "k", fallbacks=(inner, _endpoint("d")))
    assert [model.model for model in first.chain()] == ["a", "b", "c", "d"]


def test_a_model_that_is_gone_is_left_at_once_and_a_wrong_request_goes_nowhere() -> None:
    call = Call([_endpoint("a"), _endpoint("b")])
    assert (call.again(Setback(401), 0.0, 0.5), call.endpoint.model) == (0.0, "b")
    assert call.again(Setback(404), 0.0, 0.5) is None
    call = Call([_endpoint("a"), _endpoint("b")])
    assert (call.again(Setback(400), 0.0, 0.5), call.endpoint.model) == (None, "a")


def test_nobody_waits_beyond_the_deadline() -> None:
    assert Call([_endpoint("a")], deadline=100.0).again(Setback(429, 30.0), 69.0, 0.5) == 30.0
    assert Call([_endpoint("a")], deadline=100.0).again(Setback(429, 30.0), 71.0, 0.5) is None
    assert Call([_endpoint("a")], deadline=100.0).again(LOST, 99.9, 1.0) is None
    call = Call([_endpoint("a"), _endpoint("b")], deadline=100.0)
    assert (call.again(Setback(429, 30.0), 71.0, 0.5), call.endpoint.model) == (0.0, "b")
    assert call.again(LOST, 100.0, 0.5) is None
    assert (call.left(40.0), Call([_endpoint("a")]).left(40.0)) == (60.0, math.inf)


def test_a_long_wait_is_left_for_a_fallback_and_without_a_deadline_has_a_bound() -> None:
    call = Call([_endpoint("a"), _endpoint("b")], deadline=1000.0)
    assert (call.again(Setback(429, 9.0), 0.0, 0.5), call.endpoint.model) == (9.0, "a")
    assert (call.again(Setback(429, 11.0), 0.0, 0.5), call.endpoint.model) == (0.0, "b")
    assert call.again(Setback(429, 11.0), 0.0, 0.5) == 11.0
    assert Call([_endpoint("a")]).again(Setback(429, 61.0), 0.0, 0.5) is None


def test_where_requests_go_and_with_which_key() -> None:
    claude = Endpoint("anthropic", "claude", "https://api.example", "k")
    gpt = _endpoint("gpt")
    assert address(gpt, Dialect.COMPLETIONS) == "http://model.example/v1/chat/completions"
    assert address(claude, Dialect.COMPLETIONS) == "https://api.example/v1/chat/completions"
    assert address(claude, Dialect.MESSAGES) == "https://api.example/v1/messages"
    assert credential(claude, Dialect.COMPLETIONS) == {"authorization": "Bearer k", "x-api-key": ""}
    assert credential(claude, Dialect.MESSAGES) == {"authorization": "", "x-api-key": "k"}
    assert Dialect.of("/team/v1/chat/completions") is Dialect.COMPLETIONS
    assert Dialect.of("/v1/models") is Dialect.OTHER
    assert [dialect.suits(gpt) for dialect in Dialect] == [True, False, False]


def test_a_request_is_retold_with_the_other_models_name_and_temperature() -> None:
    first, other = _endpoint("a"), _endpoint("b", temperature=0.9)
    assert retold(b'{"model":"a","temperature":0.2,"n":1}', first, other) == b'{"model":"b","temperature":0.9,"n":1}'
    # What the team's own code has chosen stays.
    assert retold(b'{"model":"a","temperature":0.7}', first, other) == b'{"model":"b","temperature":0.7}'
    assert retold(b"{", first, other) == b"{"
    assert retold(b"[]", first, other) == b"[]"
