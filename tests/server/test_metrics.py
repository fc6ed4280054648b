"""`/metrics`: what a scrape shows of work that was really done, who may ask, and what is never in it."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from elf_sdk.errors import BadInput
from elf_sdk.runs.adapter import RunError
from elf_sdk.runs.events import InputRequired, TextDelta, Usage
from elf_sdk.server.metrics.catalogue import METRICS
from elf_sdk.server.services import open_services
from elf_sdk.settings import Settings
from elf_sdk.testing import Served, serve
from tests.postgres import Server
from tests.server.conftest import boss, both_stores, chat, worker

FORWARDED = {"X-Forwarded-For": "203.0.113.7"}
SCRIPTS: dict[str, Any] = {
    "count": (
        TextDelta("One."),
        Usage("small", 100, 20, cached_tokens=64, reasoning_tokens=8, cost=2_500_000),
        Usage("large", 7, 3, provider="offline"),
    ),
    "fail": (ValueError("no"),),
    "refuse": (RunError("we do not do that", code="rejected"),),
    "ask": (InputRequired("q1", "Which?"),),
    "slow": (TextDelta("First."), 60.0),
}

Sample = tuple[str, dict[str, str], float]


def message(text: str, number: str = "1") -> dict[str, Any]:
    return {"message": {"messageId": f"{text}-{number}", "role": "ROLE_USER", "parts": [{"text": text}]}}


class Scrape:
    """What a scrape said."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = list(plain(text))
        self._samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float:
        return self._samples.get((name, frozenset(labels.items())), 0.0)


class Team(httpx.AsyncClient):
    """A client of the team `boss` with the token of `ada`."""

    def __init__(self, served: Served) -> None:
        headers = {**served.headers("ada", "boss"), "A2A-Version": "1.0"}
        super().__init__(base_url=served.url("boss"), headers=headers, timeout=30)

    async def say(self, text: str, number: str = "1") -> httpx.Response:
        return await self.post("/a2a/v1/message:send", json=message(text, number))

    async def scrape(self, **headers: str) -> Scrape:
        answer = await self.get("/metrics", headers=headers)
        assert answer.status_code == 200, answer.text
        return Scrape(answer.text)


@both_stores
async def test_runs_are_counted_with_their_usage(settings: Settings) -> None:
    async with serve(boss(SCRIPTS), settings=settings) as served, Team(served) as http:
        task = (await http.say("count")).json()["task"]
        for text in ("fail", "refuse", "ask"):
            await http.say(text)
        seen = await http.scrape()
    outcomes = ("finished", "failed", "rejected", "input_required", "left")
    assert [seen("elf_runs_ended_total", team="boss", outcome=outcome) for outcome in outcomes] == [1, 1, 1, 1, 0]
    assert seen("elf_run_failures_total", team="boss", code="team") == 1
    assert seen("elf_runs_started_total", team="boss") == seen("elf_run_queue_seconds_count", team="boss") == 4
    assert seen("elf_run_duration_seconds_count", team="boss", outcome="finished") == 1
    assert seen("elf_run_first_token_seconds_count", team="boss") == 1
    assert 0 < seen("elf_run_first_token_seconds_sum", team="boss") < 10
    states = ("finished", "failed", "rejected", "input_required", "working")
    assert [seen("elf_runs", team="boss", state=state) for state in states] == [1, 1, 1, 1, 0]
    small: dict[str, str] = {"team": "boss", "model": "small"}
    assert seen("elf_model_tokens_total", **small, direction="input") == 100
    assert seen("elf_model_tokens_total", **small, direction="output") == 20
    assert seen("elf_model_cached_tokens_total", **small) == 64
    assert seen("elf_model_reasoning_tokens_total", **small) == 8
    assert seen("elf_model_cost_dollars_total", **small) == 0.0025
    assert seen("elf_model_calls_total", **small) == 1
    assert seen("elf_model_fallback_calls_total", **small) == 0
    assert seen("elf_model_fallback_calls_total", team="boss", model="large") == 1
    # The team's model is the offline one, so what its adapter did not price costs nothing.
    assert seen("elf_model_cost_dollars_total", team="boss", model="large") == 0
    assert seen("elf_model_unpriced_calls_total", team="boss", model="large") == 0
    assert task["metadata"]["usage"] == {"input_tokens": 107, "output_tokens": 23, "cost_usd": "0.0025"}
    assert seen("elf_store_up") == 1
    assert seen("elf_store_flush_duration_seconds_count") == seen("elf_store_flush_changes_count") > 0
    assert seen("elf_store_flush_changes_sum") >= 6
    assert seen("elf_store_read_duration_seconds_count") > 0
    for secret in ("ada", task["id"], task["contextId"], "count-1"):
        assert secret not in seen.text


async def test_requests_are_counted_by_binding_method_and_outcome(settings: Settings) -> None:
    async with serve(boss(SCRIPTS), settings=settings) as served, Team(served) as http:

        async def rpc(method: str, version: str = "1.0", **headers: str) -> None:
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"id": "nothing"}}
            await http.post("/a2a/v1", json=body, headers={"A2A-Version": version, **headers})

        await http.say("count")
        await rpc("GetTask")
        await rpc("SendMessage")
        await rpc("NoMethod")
        await rpc("GetTask", Authorization="Bearer nonsense")
        await rpc("GetTask", Authorization=served.headers("ada", "worker")["Authorization"])
        await http.post("/a2a/v1", content=b"{", headers={"Content-Type": "application/json"})
        await rpc("tasks/get", version="0.3")
        await rpc("no/such", version="0.3")
        stream = await http.post("/a2a/v1/message:stream", json=message("count", "2"))
        assert stream.text.count("data: ") > 2
        seen = await http.scrape()

    def times(binding: str, method: str, outcome: str) -> float:
        return seen("elf_a2a_requests_total", team="boss", binding=binding, method=method, outcome=outcome)

    assert times("rest", "SendMessage", "ok") == 1
    assert times("rest", "SendStreamingMessage", "ok") == 1
    assert times("jsonrpc", "GetTask", "task_not_found") == 1
    assert times("jsonrpc", "SendMessage", "invalid_params") == 1
    for code, number in ((401, 1), (403, 1)):
        assert seen("elf_http_responses_total", team="boss", code=str(code)) == number
    assert times("jsonrpc-0.3", "GetTask", "task_not_found") == 1
    assert times("jsonrpc-0.3", "none", "method_not_found") == 1
    duration = {"team": "boss", "binding": "jsonrpc", "method": "GetTask"}
    assert seen("elf_a2a_request_duration_seconds_count", **duration) == 1
    assert seen("elf_a2a_streams", team="boss") == 0


async def test_what_is_open_goes_up_and_down(settings: Settings) -> None:
    async with serve(boss(SCRIPTS), settings=settings) as served, Team(served) as http:
        async with chat(served) as client:
            await client.receive()
            async with http.stream("POST", "/a2a/v1/message:stream", json=message("slow")) as stream:
                # Kept, because an iterator that nobody holds closes the stream.
                pieces = stream.aiter_bytes()
                await anext(pieces)
                during = await http.scrape()
        after = await http.scrape()
        for _ in range(100):
            if not after("elf_a2a_streams", team="boss") and not after("elf_chat_sessions", team="boss"):
                break
            await asyncio.sleep(0.05)
            after = await http.scrape()
    names = ("elf_a2a_streams", "elf_chat_sessions")
    assert [during(name, team="boss") for name in names] == [1, 1]
    assert [after(name, team="boss") for name in names] == [0, 0]
    assert after("elf_runs_working", team="boss") == 1


async def test_a_scrape_shows_what_the_reference_says(settings: Settings) -> None:
    async with serve(boss(SCRIPTS), settings=settings) as served, Team(served) as http:
        for text in ("count", "fail"):
            await http.say(text)
        await asyncio.sleep(0.5)  # until the loop was looked at
        seen = await http.scrape()
        openly = await http.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    shown = {
        (family.name + "_total" if family.type == "counter" else family.name): family
        for family in seen.families
        if family.name.startswith("elf_")
    }
    known = {metric.name: metric for metric in METRICS}
    assert shown.keys() == known.keys()
    for name, family in shown.items():
        metric = known[name]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels)
    assert {"process_cpu_seconds_total", "python_gc_collections_total"} <= set(seen.text.split())
    assert openly.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    families = openmetrics(openly.text)  # type: ignore[no-untyped-call]
    assert {family.name for family in families} >= {name.removesuffix("_total") for name in known}


async def test_names_that_a_team_makes_up_are_bounded(settings: Settings) -> None:
    many = {"many": tuple(Usage(f"model-{number}", 1, 1) for number in range(300))}
    async with serve(boss(many), settings=settings) as served, Team(served) as http:
        await http.say("many")
        seen = await http.scrape()
    [calls] = [family for family in seen.families if family.name == "elf_model_calls"]
    assert len(calls.samples) == 201
    assert seen("elf_model_calls_total", team="boss", model="other") == 100


async def test_who_may_ask(settings: Settings) -> None:
    async with serve(boss(), worker(), settings=settings) as served, Team(served) as http:
        await http.say("hello")
        alone = await http.scrape()
        statuses = [
            (await http.get("/metrics", headers={**FORWARDED, **headers})).status_code
            for headers in ({}, {"Authorization": ""}, served.headers("ada", "worker"))
        ]
        everybody = Scrape((await http.get(f"{served.address}/metrics")).text)
        from_afar = await http.get(f"{served.address}/metrics", headers=FORWARDED)
    assert statuses == [200, 401, 403]
    assert from_afar.status_code == 401
    assert "worker" not in alone.text
    assert everybody("elf_runs", team="boss", state="finished") == 1
    assert everybody("elf_runs_started_total", team="worker") == 0
    assert 'team="worker"' in everybody.text


async def test_a_port_of_its_own(settings: Settings) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    apart = replace(settings, metrics_port=port)
    async with serve(boss(), worker(), settings=apart) as served, Team(served) as http:
        await http.say("hello")
        seen = Scrape((await http.get(f"http://127.0.0.1:{port}/metrics", headers=FORWARDED)).text)
        nothing_else = (await http.get(f"http://127.0.0.1:{port}/health")).status_code
        main = [(await http.get(url)).status_code for url in ("/metrics", f"{served.address}/metrics")]
        with pytest.raises(BadInput, match=f"use ELF_METRICS_PORT {port + 1}"):
            async with open_services(replace(apart, store=":memory:", database_url="")):
                pass
    assert seen("elf_runs_started_total", team="boss") == 1
    assert 'team="worker"' in seen.text
    assert (nothing_else, main) == (404, [404, 404])
    with socket.socket() as again:
        assert again.connect_ex(("127.0.0.1", port)) != 0


async def test_a_scrape_without_the_database(own_postgres: Server, settings: Settings) -> None:
    url = own_postgres.url(own_postgres.database())
    async with serve(boss(), settings=replace(settings, database_url=url)) as served, Team(served) as http:
        await http.say("hello")
        own_postgres.stop()
        seen = await http.scrape()
        own_postgres.start()
    assert seen("elf_store_up") == 0
    assert seen("elf_runs_started_total", team="boss") == 1
    assert "elf_runs{" not in seen.text
