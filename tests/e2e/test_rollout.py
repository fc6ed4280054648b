"""A team changes, and loses a pod, while it is being used."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.e2e.client import Client
from tests.e2e.cluster import Cluster
from tests.e2e.deployed import Deployed
from tests.e2e.figures import Figures, failed_of
from tests.e2e.organisation import SLOW_ANSWER, namespace_of

TEAM = "engineering-team"
STREAMS = 20
RATE = 50


@pytest.fixture(autouse=True)
def say_what_is_left_out(figures: Figures) -> None:
    figures.left_out["20 open chats through a rolling upgrade and a deleted pod"] = (
        "a chat session ends with its connection so far; answers that are streamed over A2A stand in for them"
    )


def test_a_rolling_upgrade_under_load_fails_no_request_and_loses_and_doubles_no_word(
    cluster: Cluster, deployed: Deployed, client: Client, figures: Figures
) -> None:
    namespace = namespace_of("prod")
    before = {pod["metadata"]["uid"] for pod in cluster.ready_pods(namespace, f"app={TEAM}")}
    assert len(before) > 1, "one replica cannot be replaced without a pause"
    arguments = (deployed.url("prod", TEAM), deployed.token("prod", TEAM), str(RATE), str(STREAMS))
    with client.running("load", *arguments) as load:
        time.sleep(5)
        began = time.monotonic()
        cluster.run("rollout", "restart", f"deployment/{TEAM}", "-n", namespace)
        cluster.rolled_out(namespace, TEAM, 240)
        seconds = time.monotonic() - began
        time.sleep(5)
        found = load.finish()
    after = {pod["metadata"]["uid"] for pod in cluster.ready_pods(namespace, f"app={TEAM}")}
    assert not before & after
    _judge(found, figures, f"rolling upgrade ({seconds:.0f} s)")


def test_a_deleted_pod_under_load_fails_no_request_and_loses_and_doubles_no_word(
    cluster: Cluster, deployed: Deployed, client: Client, figures: Figures
) -> None:
    namespace = namespace_of("prod")
    arguments = (deployed.url("prod", TEAM), deployed.token("prod", TEAM), str(RATE), str(STREAMS))
    with client.running("load", *arguments) as load:
        time.sleep(5)
        pod = cluster.ready_pods(namespace, f"app={TEAM}")[0]["metadata"]["name"]
        cluster.delete("pod", pod, "-n", namespace, timeout=240)
        cluster.rolled_out(namespace, TEAM, 240)
        time.sleep(5)
        found = load.finish()
    _judge(found, figures, "deleted pod")


def _judge(found: dict[str, Any], figures: Figures, what: str) -> None:
    texts = found["texts"]
    right = texts.get(SLOW_ANSWER, 0)
    wrong = sum(texts.values()) - right
    figures.add(
        f"{what} under {RATE} requests/s and {STREAMS} streams",
        f"{failed_of(found)}, {wrong} of {right + wrong} streams wrong",
        "0 failed, 0 wrong",
    )
    figures.add(
        f"{what}: latency p50, p99, longest; longest silence in a stream; streams reconnected",
        f"{found['p50'] * 1000:.0f} ms, {found['p99'] * 1000:.0f} ms, {found['longest']:.1f} s; "
        f"{found['silence']:.1f} s; {len(found['broken'])}",
    )
    assert found["failed"] == []
    assert wrong == 0, {text: number for text, number in texts.items() if text != SLOW_ANSWER}
    assert right >= STREAMS
