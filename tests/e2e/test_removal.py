"""A team that is no more leaves the environments that sync themselves; nothing goes from prod by itself."""

from __future__ import annotations

import re
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
    for environment in ("dev", "staging"):
        left = [
            f"{item['kind']} {item['metadata']['name']}"
            for kind in ("deployments", "services", "configmaps", "networkpolicies", "serviceaccounts", "pods")
            for item in cluster.items(kind, "-n", namespace_of(environment), "-l", f"app={TEAM}")
            if "deletionTimestamp" not in item["metadata"]
        ]
        assert left == []
    assert cluster.ready_pods(namespace_of("prod"), f"app={TEAM}")
    # Its parent no longer has a way to it, and works.
    deployed.argo.settled([f"{PARENT}-dev"], 180)
    figures.add("an archived team, in dev and staging; in prod", "gone; still there", "gone; still there")
