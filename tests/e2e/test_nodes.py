"""Two nodes: replicas apart, a node that is emptied, and one that is cut off."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from tests.e2e.client import Client
from tests.e2e.cluster import Cluster, until
from tests.e2e.database import Database
from tests.e2e.deployed import Deployed
from tests.e2e.figures import Figures
from tests.e2e.organisation import SLOW_ANSWER, TEAMS, namespace_of

TEAM = "marketing-brand-team"
"""One whose runs another replica goes on with."""
NAMESPACE = namespace_of("prod")
CUT = 60.0
_RUNS = "SELECT count(*) FROM runs"
_REWOUND = "SELECT count(DISTINCT run_id), max(at) FROM events WHERE kind = 'rewound' AND at > {after}"

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def nodes(cluster: Cluster, deployed: Deployed, figures: Figures) -> tuple[str, str]:
    """The node with the database and the client on it, and the other one."""
    assert deployed
    names = sorted(item["metadata"]["name"] for item in cluster.items("nodes"))
    if len(names) < 2:
        figures.left_out["two nodes"] = "the cluster has one: no spread, no drain, no node that is cut off"
        pytest.skip("the cluster has one node")
    home = cluster.get("pod", "postgres-0", "-n", "elf-e2e")["spec"]["nodeName"]
    return home, next(name for name in names if name != home)


def test_the_replicas_of_a_team_are_on_different_nodes(
    cluster: Cluster, nodes: tuple[str, str], figures: Figures
) -> None:
    for team in TEAMS:
        where = [pod["spec"]["nodeName"] for pod in cluster.ready_pods(NAMESPACE, f"app={team}")]
        assert set(where) == set(nodes), f"{team} is on {where}"
    figures.add("teams of prod with a replica on each node", f"{len(TEAMS)} of {len(TEAMS)}", "all")


def test_a_drain_waits_for_the_disruption_budget_and_the_team_answers_all_the_time(
    cluster: Cluster, deployed: Deployed, client: Client, nodes: tuple[str, str], figures: Figures
) -> None:
    home, other = nodes
    drain = ["drain", "--pod-selector", f"app={TEAM}", "--ignore-daemonsets", "--delete-emptydir-data"]
    with client.running("load", deployed.url("prod", TEAM), deployed.token("prod", TEAM), "2", "1") as load:
        try:
            cluster.run(*drain, other, "--timeout=180s", timeout=200)
            cluster.rolled_out(NAMESPACE, TEAM, 180)
            pods = cluster.ready_pods(NAMESPACE, f"app={TEAM}")
            assert {pod["spec"]["nodeName"] for pod in pods} == {home}
            # Both are on one node, and there is no other: the second one has to stay.
            refused = cluster.run(*drain, home, "--timeout=45s", fine=(1,), timeout=60).stderr
            assert "violate the pod's disruption budget" in refused
            assert cluster.ready_pods(NAMESPACE, f"app={TEAM}")
        finally:
            for node in nodes:
                cluster.run("uncordon", node)
        cluster.rolled_out(NAMESPACE, TEAM, 180)
        found = load.finish()
    assert found["failed"] == []
    assert set(found["texts"]) == {SLOW_ANSWER}
    figures.add("drained node: requests failed", f"{len(found['failed'])} of {found['requests']}", "0")
    # Apart again, for what comes next.
    cluster.run("rollout", "restart", f"deployment/{TEAM}", "-n", NAMESPACE)
    cluster.rolled_out(NAMESPACE, TEAM, 180)


@contextmanager
def _cut_off() -> Generator[None, None, None]:
    """The second node has no network while the block runs."""
    _command("ELF_E2E_LINK_DOWN")
    try:
        yield
    finally:
        _command("ELF_E2E_LINK_UP")


def _command(variable: str) -> None:
    subprocess.run(shlex.split(os.environ[variable]), check=True, capture_output=True)


def test_a_node_that_is_cut_off_costs_a_pause_and_not_a_word(
    cluster: Cluster,
    database: Database,
    deployed: Deployed,
    client: Client,
    nodes: tuple[str, str],
    figures: Figures,
) -> None:
    if not (os.environ.get("ELF_E2E_LINK_DOWN") and os.environ.get("ELF_E2E_LINK_UP")):
        figures.left_out["a node that is cut off"] = "ELF_E2E_LINK_DOWN and ELF_E2E_LINK_UP name no commands"
        pytest.skip("nothing cuts a node off here")
    home, other = nodes
    until(
        "replica on each node",
        lambda: {pod["spec"]["nodeName"] for pod in cluster.ready_pods(NAMESPACE, f"app={TEAM}")} == set(nodes),
        60,
        lambda: cluster.why(NAMESPACE),
    )
    before = int(database.execute(_RUNS, f"prod-{TEAM}"))
    with client.running("follow", deployed.url("prod", TEAM), deployed.token("prod", TEAM), "20") as follow:
        time.sleep(8)
        cut = float(database.execute("SELECT extract(epoch FROM clock_timestamp())"))
        with _cut_off():
            time.sleep(CUT)
        until(
            f"{other} that is Ready again",
            lambda: (
                cluster.run("wait", f"node/{other}", "--for=condition=Ready", "--timeout=1s", fine=(0, 1)).returncode
                == 0
            ),
            60,
        )
        time.sleep(5)
        found = follow.finish(240)
    begun = int(database.execute(_RUNS, f"prod-{TEAM}")) - before
    taken_over = database.execute(_REWOUND.format(after=int(cut * 1000)), f"prod-{TEAM}").split("|")
    wrong = {text: number for text, number in found["texts"].items() if text != SLOW_ANSWER}
    right = found["texts"].get(SLOW_ANSWER, 0)
    figures.add(
        f"node cut off for {CUT:.0f} s under 20 tasks that are followed",
        f"{right} right, {sum(wrong.values())} wrong, {begun} runs of {found['messages']} messages",
        "0 lost, 0 doubled",
    )
    figures.add(
        f"the same: {taken_over[0]} runs taken over, the last of them after",
        f"{int(taken_over[1] or 0) / 1000 - cut:.1f} s",
        "10 s",
    )
    figures.add(
        "the same: the longest that a client heard nothing, tries on the dead node included", f"{found['pause']:.1f} s"
    )
    assert int(taken_over[0])
    assert wrong == {}
    assert begun == found["messages"]
    assert home
