"""A new version goes from dev to staging as the same digest, and is taken back by a revert."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.e2e.argo import ArgoCD
from tests.e2e.cluster import Cluster, until
from tests.e2e.deployed import Deployed
from tests.e2e.figures import Figures
from tests.e2e.organisation import Company, namespace_of

TEAM = "engineering-team"

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def argo(deployed: Deployed) -> ArgoCD:
    """Argo CD, without which there is nothing to promote."""
    if deployed.argo is None:
        pytest.skip("the cluster has no Argo CD")
    return deployed.argo


@pytest.fixture(scope="module")
def released(cluster: Cluster, deployed: Deployed, argo: ArgoCD, registry: str, figures: Figures) -> Mapping[str, str]:
    """The digest of a new version that runs in dev; and that of the old one, which runs in staging."""
    company = deployed.company
    old = running(cluster, "staging")
    file = company.project / "teams" / TEAM / "team.yaml"
    file.write_text(re.sub(r"(?m)^version: .*$", "version: 0.2.0", file.read_text(encoding="utf-8")), encoding="utf-8")
    company.elf("image", "build", TEAM, "--base", f"{registry}/python:3.11", timeout=600)
    company.elf("image", "push", TEAM, timeout=300)
    company.committed("Release the engineering team 0.2.0")
    new = company.digests("dev")[TEAM]
    assert new != old
    company.elf("gitops", "write", TEAM)
    company.elf("gitops", "commit")
    company.elf("gitops", "push")
    seconds = settled(cluster, argo, company, "dev", new)
    figures.add("a new version, from the push of its commit to running in dev", f"{seconds:.0f} s")
    return {"old": old, "new": new}


def test_a_new_version_reaches_dev_and_no_other_environment(cluster: Cluster, released: Mapping[str, str]) -> None:
    assert {environment: running(cluster, environment) for environment in ("dev", "staging", "prod")} == {
        "dev": released["new"],
        "staging": released["old"],
        "prod": released["old"],
    }


def test_promotion_brings_the_digest_that_its_evals_talked_to(
    cluster: Cluster, deployed: Deployed, argo: ArgoCD, released: Mapping[str, str], figures: Figures
) -> None:
    company = deployed.company
    with cluster.forwarded(namespace_of("dev"), f"service/{TEAM}", 8000) as port:
        url, token = f"http://127.0.0.1:{port}", deployed.token("dev", TEAM)
        company.elf("promote", TEAM, "--to", "staging", "--url", url, "--token", token, "--push")
    seconds = settled(cluster, argo, company, "staging", released["new"])
    assert running(cluster, "dev") == running(cluster, "staging") == released["new"]
    assert running(cluster, "prod") == released["old"]
    figures.add("promotion to staging, from the push to running", f"{seconds:.0f} s")


def test_a_revert_of_the_promotion_brings_back_what_ran_before(
    cluster: Cluster,
    deployed: Deployed,
    argo: ArgoCD,
    released: Mapping[str, str],
    tmp_path: Path,
    figures: Figures,
) -> None:
    company = deployed.company
    clone = company.clone(tmp_path / "clone")
    company.git_in(clone, "revert", "--no-edit", "HEAD")
    company.git_in(clone, "push", "-q", "origin", "main")
    seconds = settled(cluster, argo, company, "staging", released["old"])
    assert running(cluster, "dev") == released["new"]
    figures.add("rollback by git revert, from the push to running", f"{seconds:.0f} s")


def running(cluster: Cluster, environment: str) -> str:
    """The one digest that the team's pods run."""
    pods = cluster.ready_pods(namespace_of(environment), f"app={TEAM}")
    digests = {pod["spec"]["containers"][0]["image"].rpartition("@")[2] for pod in pods}
    assert len(digests) == 1, digests
    return str(digests.pop())


def settled(cluster: Cluster, argo: ArgoCD, company: Company, environment: str, digest: str) -> float:
    """Wait until an environment runs a digest, and nothing else; the seconds that it took."""
    argo.refresh()
    name = f"{TEAM}-{environment}"
    seconds = argo.settled([name], 240, revision=company.head())
    namespace = namespace_of(environment)

    def is_there() -> bool:
        pods = cluster.items("pods", "-n", namespace, "-l", f"app={TEAM}")
        return all(pod["spec"]["containers"][0]["image"].endswith(digest) for pod in pods)

    until(f"{TEAM} in {environment} that runs {digest} alone", is_there, 120, lambda: cluster.why(namespace))
    return seconds
