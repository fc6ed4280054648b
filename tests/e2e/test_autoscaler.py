"""A team has more replicas when there is more to do, and nobody who uses it notices."""

from __future__ import annotations

import re
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.client import Client
from tests.e2e.cluster import Cluster, until
from tests.e2e.deployed import Deployed
from tests.e2e.figures import Figures, failed_of
from tests.e2e.organisation import SLOW_ANSWER, namespace_of

TEAM = "engineering-team"
NAMESPACE = namespace_of("dev")
RATE = 50
LIGHT = 20
"""More than the autoscaler lets one replica do, and less than it can: nothing is refused until there is another."""
STREAMS = 5
MOST = 3
_SCALED = """  dev:
    # Less would be too little for its lease when the machine has much to do.
    resources: {{cpu_request: 100m}}
    autoscaling: {{enabled: true, min_replicas: 1, max_replicas: {most}}}
    env: [{{name: EDITION, value: '{edition}'}}]
"""

pytestmark = pytest.mark.timeout(900)


class Scaled:
    """The team in dev with an autoscaler, which follows its `team.yaml`."""

    def __init__(self, deployed: Deployed, file: Path) -> None:
        self._deployed = deployed
        self._file = file
        self._before = file.read_text(encoding="utf-8")

    def set(self, *, most: int = MOST, edition: str = "first") -> None:
        """Have it installed so; the cluster is there when this returns."""
        ours = _SCALED.format(most=most, edition=edition)
        self._file.write_text(re.sub(r"(?m)^environments:\n", f"environments:\n{ours}", self._before), encoding="utf-8")
        self._deployed.bring(TEAM)

    def undo(self) -> None:
        """As it was."""
        self._file.write_text(self._before, encoding="utf-8")
        self._deployed.bring(TEAM)


@pytest.fixture(scope="module")
def scaled(cluster: Cluster, deployed: Deployed, figures: Figures) -> Generator[Scaled, None, None]:
    """A cluster without a metrics API has nothing to show here."""
    if cluster.run("get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes", fine=(0, 1)).returncode:
        figures.left_out["an autoscaler"] = "the cluster has no metrics API"
        pytest.skip("the cluster has no metrics API")
    scaled = Scaled(deployed, deployed.company.project / "teams" / TEAM / "team.yaml")
    scaled.set()
    until("measurement of the autoscaler", lambda: _use(cluster), 120, lambda: cluster.why(NAMESPACE))
    yield scaled
    scaled.undo()


def test_a_busy_team_gets_more_replicas_and_fails_no_request_meanwhile(
    cluster: Cluster, deployed: Deployed, scaled: Scaled, client: Client, figures: Figures
) -> None:
    assert scaled
    assert len(_ready(cluster)) == 1
    with client.running(
        "load", deployed.url("dev", TEAM), deployed.token("dev", TEAM), str(LIGHT), str(STREAMS)
    ) as load:
        began = time.monotonic()
        until("second replica that answers", lambda: len(_ready(cluster)) > 1, 120, lambda: cluster.why(NAMESPACE))
        seconds = time.monotonic() - began
        time.sleep(10)
        found = load.finish()
    figures.add(f"a second replica under {LIGHT} requests/s, by the autoscaler, after", f"{seconds:.0f} s")
    _judge(found, figures, LIGHT, "the autoscaler adds replicas")


def test_a_rolling_upgrade_with_the_autoscaler_on_fails_no_request(
    cluster: Cluster, deployed: Deployed, scaled: Scaled, client: Client, figures: Figures
) -> None:
    before = {pod["metadata"]["uid"] for pod in _ready(cluster)}
    with client.running(
        "load", deployed.url("dev", TEAM), deployed.token("dev", TEAM), str(RATE), str(STREAMS)
    ) as load:
        time.sleep(5)
        began = time.monotonic()
        scaled.set(edition="second")
        cluster.rolled_out(NAMESPACE, TEAM, 240)
        seconds = time.monotonic() - began
        time.sleep(5)
        found = load.finish()
    assert not before & {pod["metadata"]["uid"] for pod in _ready(cluster)}
    _judge(found, figures, RATE, f"rolling upgrade with the autoscaler on ({seconds:.0f} s)")


def test_replicas_that_the_autoscaler_takes_away_fail_no_request(
    cluster: Cluster, deployed: Deployed, scaled: Scaled, client: Client, figures: Figures
) -> None:
    until("second replica that answers", lambda: len(_ready(cluster)) > 1, 60, lambda: cluster.why(NAMESPACE))
    with client.running(
        "load", deployed.url("dev", TEAM), deployed.token("dev", TEAM), str(LIGHT), str(STREAMS)
    ) as load:
        time.sleep(5)
        # More than it may have are taken away at once; because there is less to do, only after five minutes.
        scaled.set(most=1, edition="second")
        until("single replica", lambda: len(_pods(cluster)) == 1, 120, lambda: cluster.why(NAMESPACE))
        time.sleep(5)
        found = load.finish()
    _judge(found, figures, LIGHT, "the autoscaler takes replicas away")


def _use(cluster: Cluster) -> bool:
    """Whether the autoscaler knows what the team uses."""
    found = cluster.find("hpa", TEAM, "-n", NAMESPACE)
    return bool(found and found.get("status", {}).get("currentMetrics"))


def _ready(cluster: Cluster) -> list[dict[str, Any]]:
    return cluster.ready_pods(NAMESPACE, f"app={TEAM}")


def _pods(cluster: Cluster) -> list[dict[str, Any]]:
    return cluster.items("pods", "-n", NAMESPACE, "-l", f"app={TEAM}")


def _judge(found: dict[str, Any], figures: Figures, rate: int, what: str) -> None:
    texts = found["texts"]
    wrong = {text: number for text, number in texts.items() if text != SLOW_ANSWER}
    figures.add(
        f"{what} under {rate} requests/s and {STREAMS} streams",
        f"{failed_of(found)}, {sum(wrong.values())} of {sum(texts.values())} streams wrong",
        "0 failed, 0 wrong",
    )
    assert found["failed"] == []
    assert wrong == {}
