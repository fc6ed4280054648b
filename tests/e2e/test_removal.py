"""A team that is no more leaves the environments that sync themselves; nothing goes from prod by itself."""

from __future__ import annotations

import re
import shlex
import shutil

import pytest

from tests.e2e.cluster import Cluster, until
from tests.e2e.deployed import Deployed
from tests.e2e.figures import Figures
from tests.e2e.organisation import namespace_of

TEAM, PARENT = "marketing-brand-team", "marketing-team"


def test_an_archived_team_leaves_dev_and_staging_and_stays_in_prod(
    cluster: Cluster, deployed: Deployed, figures: Figures
) -> None:
    if deployed.argo is None:
        pytest.skip("the cluster has no Argo CD")
    company = deployed.company
    shutil.rmtree(company.project / "teams" / TEAM)
    parent = company.project / "teams" / PARENT / "team.yaml"
    parent.write_text(re.sub(r"(?m)^manages: .*\n", "", parent.read_text(encoding="utf-8")), encoding="utf-8")
    with (company.project / "elf.yaml").open("a", encoding="utf-8") as file:
        file.write(f"archived: [{TEAM}]\n")
    company.committed("Archive the brand team")
    company.elf("gitops", "write")
    company.elf("gitops", "commit")
    company.elf("gitops", "push")
    deployed.argo.refresh()
    applications = deployed.argo.applications
    until(
        f"environment but prod without {TEAM}",
        lambda: {name for name in applications() if name.startswith(f"{TEAM}-")} == {f"{TEAM}-prod"},
        180,
        lambda: deployed.argo.why([f"{TEAM}-dev", f"{TEAM}-staging"]) if deployed.argo else "",
    )
    assert [_left(cluster, environment) for environment in ("dev", "staging")] == [[], []]
    assert cluster.ready_pods(namespace_of("prod"), f"app={TEAM}")
    # Its parent no longer has a way to it, and works.
    deployed.argo.settled([f"{PARENT}-dev"], 180)
    figures.add("an archived team, in dev and staging; in prod", "gone; still there", "gone; still there")


def test_an_archived_team_leaves_prod_in_two_commits_and_nobody_else_does(
    cluster: Cluster, deployed: Deployed, figures: Figures
) -> None:
    if deployed.argo is None:
        pytest.skip("the cluster has no Argo CD")
    company, argo, application = deployed.company, deployed.argo, f"{TEAM}-prod"
    assert application in argo.applications(), "it is to be archived, and out of dev and staging, before"
    before = _others(cluster)
    said = company.elf("remove", TEAM, "--env", "prod")
    assert "renders only what outlives it" in said
    company.elf("gitops", "push")
    argo.refresh()
    until(f"prod without objects of {TEAM}", lambda: not _left(cluster, "prod"), 180, lambda: argo.why([application]))
    # Empty, and still there: what a mistake would have deleted can be put back by a revert.
    argo.settled([application], 60, revision=company.head())

    said = company.elf("remove", TEAM, "--env", "prod")
    assert "is gone" in said
    company.elf("gitops", "push")
    argo.refresh()
    (command,) = re.findall(r"kubectl (delete application .*)", said)
    assert application in argo.applications(), "nothing goes from prod by itself"
    cluster.run(*shlex.split(command))
    until(
        f"prod without an Application and an AppProject of {TEAM}",
        lambda: (
            application not in argo.applications()
            and cluster.find("appproject.argoproj.io", application, "-n", "argocd") is None
        ),
        120,
        lambda: argo.why([application]),
    )
    assert _others(cluster) == before
    figures.add(
        "the same team, after the two commits by which it leaves prod", "gone, no other pod", "gone, no other pod"
    )


def _left(cluster: Cluster, environment: str) -> list[str]:
    """What there still is of the team."""
    return [
        f"{item['kind']} {item['metadata']['name']}"
        for kind in ("deployments", "services", "configmaps", "networkpolicies", "serviceaccounts", "pods")
        for item in cluster.items(kind, "-n", namespace_of(environment), "-l", f"app={TEAM}")
        if "deletionTimestamp" not in item["metadata"]
    ]


def _others(cluster: Cluster) -> set[str]:
    """The pods of the other teams in prod."""
    pods = cluster.items("pods", "-n", namespace_of("prod"), "-l", f"app!={TEAM}")
    return {pod["metadata"]["uid"] for pod in pods if "deletionTimestamp" not in pod["metadata"]}
