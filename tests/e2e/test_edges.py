"""Who reaches whom: N x N, by network policy and by token, each with the other one out of the way."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.e2e.client import Client
from tests.e2e.cluster import Cluster
from tests.e2e.deployed import Deployed
from tests.e2e.figures import Figures
from tests.e2e.organisation import ENVIRONMENTS, NAME, TEAMS, namespace_of
from tests.e2e.programs import program

_EDGES = {
    ("executive-team", "engineering-team"),
    ("executive-team", "marketing-team"),
    ("marketing-team", "marketing-brand-team"),
}
"""Who may call whom, as a person reads it in the four files: from above to below."""


def test_these_are_the_edges_that_the_files_declare(deployed: Deployed) -> None:
    org = deployed.company.org()
    assert {(caller, team) for team in TEAMS for caller in org.callers(team)} == _EDGES


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_policies_let_a_team_reach_those_below_it_and_nobody_else(
    environment: str, cluster: Cluster, deployed: Deployed, figures: Figures
) -> None:
    namespace = namespace_of(environment)
    found: dict[tuple[str, str], bool] = {}
    for caller in TEAMS:
        pod = cluster.ready_pods(namespace, f"app={caller}")[0]["metadata"]["name"]
        others = {f"{team}.{namespace}.svc:8000": team for team in TEAMS if team != caller}
        answers = cluster.python(namespace, pod, program("reach"), "3", *others)
        found |= {(caller, others[address]): reached for address, reached in answers.items()}
    wrong = {pair: reached for pair, reached in found.items() if reached != (pair in _EDGES)}
    assert wrong == {}
    refused = len(found) - len(_EDGES)
    figures.add(f"edges by policy in {environment}", f"{len(_EDGES)} answer, {refused} refused", "all")


def test_no_team_reaches_one_of_another_environment(cluster: Cluster, deployed: Deployed) -> None:
    assert deployed
    for here, there in (("dev", "prod"), ("prod", "dev"), ("staging", "prod")):
        pod = cluster.ready_pods(namespace_of(here), "app=executive-team")[0]["metadata"]["name"]
        addresses = [f"{team}.{namespace_of(there)}.svc:8000" for team in TEAMS]
        answers = cluster.python(namespace_of(here), pod, program("reach"), "3", *addresses)
        assert not any(answers.values()), answers


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_by_its_token_a_team_may_call_those_below_it_and_nobody_else(
    environment: str, cluster: Cluster, deployed: Deployed, client: Client, figures: Figures
) -> None:
    # From a pod that every policy lets in; what it shows is a token that the API server made for the caller.
    pairs = [(caller, team) for caller in TEAMS for team in TEAMS if caller != team]
    calls = [
        {
            "url": deployed.url(environment, team),
            "token": _token(cluster, environment, caller, team),
            "text": "Hello. What can you do?",
        }
        for caller, team in pairs
    ]
    answers = dict(zip(pairs, client.run("call", stdin=calls), strict=True))
    found = {pair: answer["status"] for pair, answer in answers.items()}
    assert {pair for pair, status in found.items() if status == 200} == _EDGES, answers
    assert {status for pair, status in found.items() if pair not in _EDGES} == {403}, found
    completed = [answers[pair]["body"]["result"]["task"]["status"]["state"] for pair in _EDGES]
    assert set(completed) == {"TASK_STATE_COMPLETED"}
    refused = len(found) - len(_EDGES)
    figures.add(f"edges by token in {environment}", f"{len(_EDGES)} answer, {refused} refused", "all")


def test_the_tokens_in_a_pod_are_for_those_below_it_and_are_good_nowhere_else(
    cluster: Cluster, deployed: Deployed, client: Client
) -> None:
    namespace = namespace_of("prod")
    for caller in TEAMS:
        pod = cluster.ready_pods(namespace, f"app={caller}")[0]["metadata"]["name"]
        tokens = cluster.python(namespace, pod, program("tokens"))
        assert set(tokens) == {team for upper, team in _EDGES if upper == caller}
        calls = [
            {"url": deployed.url("prod", team), "token": token, "text": "Hello. What can you do?"}
            for token in tokens.values()
            for team in TEAMS
        ]
        answers = iter(client.run("call", stdin=calls))
        for meant in tokens:
            taken = {team for team, answer in zip(TEAMS, answers, strict=False) if answer["status"] == 200}
            assert taken == {meant}


def test_a_token_of_the_same_team_in_another_environment_is_refused(
    cluster: Cluster, deployed: Deployed, client: Client
) -> None:
    calls = [
        {"url": deployed.url("prod", team), "token": token, "text": "Hello"}
        for caller, team in sorted(_EDGES)
        for token in _foreign(cluster, caller, team)
    ]
    assert {answer["status"] for answer in client.run("call", stdin=calls)} <= {401, 403}


def _foreign(cluster: Cluster, caller: str, team: str) -> Iterator[str]:
    yield _token(cluster, "dev", caller, team)
    # Of dev's service account, for prod's audience.
    yield _token(cluster, "dev", caller, team, audience_of="prod")


def _token(cluster: Cluster, environment: str, caller: str, team: str, audience_of: str = "") -> str:
    """What the API server gives for a team's service account, as the kubelet asks for it."""
    audience = f"elf:{NAME}:{audience_of or environment}:{team}"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
    asked = {**request, "spec": {"audiences": [audience], "expirationSeconds": 600}}
    path = f"/api/v1/namespaces/{namespace_of(environment)}/serviceaccounts/{caller}/token"
    done = cluster.run("create", "--raw", path, "-f", "-", stdin=json.dumps(asked))
    return str(json.loads(done.stdout)["status"]["token"])
