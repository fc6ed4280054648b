"""Two nodes: replicas apart, a node that is emptied, and one that is cut off."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.client import Client
from tests.e2e.cluster import Cluster, Json, until
from tests.e2e.database import Database
from tests.e2e.deployed import Deployed
from tests.e2e.figures import Figures
from tests.e2e.organisation import DELEGATE, SLOW_ANSWER, TEAMS, namespace_of

TEAM = "marketing-brand-team"
"""One whose runs another replica goes on with."""
NAMESPACE = namespace_of("prod")
CUT = 60.0
MANAGER = "marketing-team"
"""The one above it, which delegates."""
TASKS = 20
DELEGATIONS = 10
_RUNS = "SELECT count(*) FROM runs WHERE context_id NOT LIKE 'delegation-%'"
_TAKEN_OVER = (
    "SELECT run_id, min(at) FROM events JOIN runs ON runs.id = run_id "
    "WHERE kind = 'rewound' AND at > {cut} AND runs.created_at <= {cut} GROUP BY run_id"
)
"""Of the runs that were at work when the node was cut off: those begun later are on the other one."""
_AT_WORK = "SELECT count(*) FROM delegations WHERE state = 'working'"
_OPEN = "SELECT count(*) FROM outbox"
_DELEGATED = "SELECT id, state, result FROM delegations WHERE id IN ({ids})"
_DONE = (
    "SELECT context_id, state, (SELECT count(*) FROM events WHERE run_id = runs.id AND kind = 'finished') "
    "FROM runs WHERE context_id IN ({ids})"
)

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


@dataclass(frozen=True)
class Cut:
    """A node that was cut off for a minute, and what its users had of it.

    Attributes:
        tasks: that were followed meanwhile, as the program `follow` says it.
        runs: of these tasks that the team began.
        taken_over: runs at work at that moment, for tasks or delegations, that the other replica went on with.
        last: seconds from the cut until the last of them was.
        chats: in which delegations were confirmed before, as the program `delegate` says it.
        delegations: by id, state and result as the team has them that delegated.
        done: by id of a delegation, the states of the runs that the other team has for it.
        finished: by id of a delegation, how often the other team was done with it.
    """

    tasks: Mapping[str, Any]
    runs: int
    taken_over: int
    last: float
    chats: Mapping[str, Any]
    delegations: Mapping[str, tuple[str, str]]
    done: Mapping[str, list[str]]
    finished: Mapping[str, int]


@pytest.fixture(scope="module")
def cut(
    cluster: Cluster, database: Database, deployed: Deployed, client: Client, nodes: tuple[str, str], figures: Figures
) -> Cut:
    """The second node without a network for a minute, under tasks and delegations."""
    if not (os.environ.get("ELF_E2E_LINK_DOWN") and os.environ.get("ELF_E2E_LINK_UP")):
        figures.left_out["a node that is cut off"] = "ELF_E2E_LINK_DOWN and ELF_E2E_LINK_UP name no commands"
        pytest.skip("nothing cuts a node off here")
    there = {team: _one_on_each(cluster, team, nodes) for team in (TEAM, MANAGER)}
    addresses = [f"ws://{pod['status']['podIP']}:8000/chat" for pod in there[MANAGER]]
    chats = addresses * (DELEGATIONS // len(addresses))
    before = _runs(database)
    with (
        client.running("follow", deployed.url("prod", TEAM), deployed.token("prod", TEAM), str(TASKS)) as follow,
        client.running("delegate", deployed.token("prod", MANAGER), DELEGATE, *chats) as delegate,
    ):
        until(
            f"{DELEGATIONS} delegations at work",
            lambda: database.execute(_AT_WORK, f"prod-{MANAGER}") == str(DELEGATIONS),
            60,
            lambda: database.execute("SELECT state, error FROM delegations", f"prod-{MANAGER}"),
        )
        began = float(database.execute("SELECT extract(epoch FROM clock_timestamp())"))
        with _cut_off():
            time.sleep(CUT)
        ready = ["wait", f"node/{nodes[1]}", "--for=condition=Ready", "--timeout=1s"]
        until(f"{nodes[1]} that is Ready again", lambda: cluster.run(*ready, fine=(0, 1)).returncode == 0, 60)
        time.sleep(5)
        told, tasks = delegate.finish(60), follow.finish(240)
    until(
        "end of all delegations",
        lambda: database.execute(_OPEN, f"prod-{MANAGER}") == "0",
        60,
        lambda: database.execute("SELECT id, state, error FROM delegations", f"prod-{MANAGER}"),
    )
    taken_over = _rows(database.execute(_TAKEN_OVER.format(cut=int(began * 1000)), f"prod-{TEAM}"))
    ids = ", ".join(f"'{each}'" for each in told["confirmed"])
    done: dict[str, list[str]] = {}
    finished: dict[str, int] = {}
    for delegation, state, times in _rows(database.execute(_DONE.format(ids=ids), f"prod-{TEAM}")):
        done.setdefault(delegation, []).append(state)
        finished[delegation] = finished.get(delegation, 0) + int(times)
    return Cut(
        tasks=tasks,
        runs=_runs(database) - before,
        taken_over=len(taken_over),
        last=max((int(at) / 1000 - began for _, at in taken_over), default=0.0),
        chats=told,
        delegations={
            delegation: (state, result)
            for delegation, state, result in _rows(database.execute(_DELEGATED.format(ids=ids), f"prod-{MANAGER}"))
        },
        done=done,
        finished=finished,
    )


def test_a_node_that_is_cut_off_costs_a_pause_and_not_a_word(cut: Cut, figures: Figures) -> None:
    texts = cut.tasks["texts"]
    right = texts.get(SLOW_ANSWER, 0)
    wrong = {text: number for text, number in texts.items() if text != SLOW_ANSWER}
    figures.add(
        f"node cut off for {CUT:.0f} s under {TASKS} tasks that are followed",
        f"{right} right, {sum(wrong.values())} wrong, {cut.runs} runs of {cut.tasks['messages']} messages",
        "0 lost, 0 doubled",
    )
    figures.add(f"the same: {cut.taken_over} runs taken over, the last of them after", f"{cut.last:.1f} s", "10 s")
    figures.add(
        "the same: the longest that a client heard nothing, tries on the dead node included",
        f"{cut.tasks['pause']:.1f} s",
    )
    assert cut.taken_over
    assert wrong == {}
    assert cut.runs == cut.tasks["messages"]


def test_what_was_delegated_before_a_node_is_cut_off_is_done_once_and_comes_back(cut: Cut, figures: Figures) -> None:
    confirmed = sorted(cut.chats["confirmed"])
    once = [each for each in confirmed if len(cut.done.get(each, [])) == cut.finished.get(each) == 1]
    back = [each for each in confirmed if cut.delegations[each] == ("finished", SLOW_ANSWER)]
    figures.add(
        f"the same, {DELEGATIONS} delegations confirmed in chats before, half of them at the node's replica",
        f"{len(back)} answers came back to the team, {sum(map(len, cut.done.values()))} runs of {len(confirmed)}",
        "0 lost, 0 twice",
    )
    figures.left_out["the chats in which delegations were confirmed, on the node that is cut off"] = (
        f"{cut.chats['broken']} of {len(confirmed)} ended with their connection; what was confirmed in them is "
        "durable, a chat session is not so far"
    )
    assert cut.chats["failed"] == []
    assert len(set(confirmed)) == DELEGATIONS
    assert once == back == confirmed


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


def _one_on_each(cluster: Cluster, team: str, nodes: tuple[str, str]) -> list[Json]:
    """The pods of a team, one on each node."""

    def found() -> list[Json]:
        pods = cluster.ready_pods(NAMESPACE, f"app={team}")
        return pods if {pod["spec"]["nodeName"] for pod in pods} == set(nodes) else []

    return until(f"replica of {team} on each node", found, 60, lambda: cluster.why(NAMESPACE))


def _runs(database: Database) -> int:
    return int(database.execute(_RUNS, f"prod-{TEAM}"))


def _rows(printed: str) -> list[list[str]]:
    return [line.split("|") for line in printed.splitlines()]
