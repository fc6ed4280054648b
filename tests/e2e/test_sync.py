"""From a commit to running teams, in three environments."""

from __future__ import annotations

import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.deployed import Deployed
from tests.e2e.figures import Figures
from tests.e2e.organisation import ENVIRONMENTS, TEAMS, namespace_of


def test_one_commit_brings_every_team_to_synced_and_healthy_in_three_environments(
    deployed: Deployed, figures: Figures
) -> None:
    if deployed.argo is None:
        pytest.skip("the cluster has no Argo CD")
    figures.add(
        f"{len(TEAMS)} teams x {len(ENVIRONMENTS)} environments, commit to all Synced and Healthy",
        f"{deployed.seconds:.0f} s",
        "180 s",
    )


def test_without_argo_cd_a_command_for_each_environment_brings_every_team(deployed: Deployed, figures: Figures) -> None:
    if deployed.argo is not None:
        pytest.skip("the cluster has Argo CD")
    figures.add(
        f"{len(TEAMS)} teams x {len(ENVIRONMENTS)} environments by elf deploy, until every pod answers",
        f"{deployed.seconds:.0f} s",
    )


def test_every_pod_runs_the_digest_that_was_pushed(cluster: Cluster, deployed: Deployed) -> None:
    for environment in ENVIRONMENTS:
        for team in TEAMS:
            pods = cluster.ready_pods(namespace_of(environment), f"app={team}")
            assert pods, f"no pod of {team} answers in {environment}"
            for pod in pods:
                images = {container["image"] for container in pod["spec"]["containers"]}
                assert all(image.endswith(deployed.digests[team]) for image in images), images


def test_every_namespace_enforces_the_restricted_standard(cluster: Cluster, deployed: Deployed) -> None:
    assert deployed
    for environment in ENVIRONMENTS:
        labels = cluster.get("namespace", namespace_of(environment))["metadata"]["labels"]
        assert {labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "audit", "warn")} == {"restricted"}


def test_no_pod_had_to_be_started_twice(cluster: Cluster, deployed: Deployed) -> None:
    assert deployed
    for environment in ENVIRONMENTS:
        for pod in cluster.items("pods", "-n", namespace_of(environment)):
            restarts = [status["restartCount"] for status in pod["status"].get("containerStatuses", [])]
            assert not any(restarts), f"{pod['metadata']['name']} in {environment}: {restarts}"
