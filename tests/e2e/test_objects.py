"""Every object that is installed, held against the API server itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from elf_sdk.deploy.helm import choose_helm
from tests.e2e.cluster import Cluster
from tests.e2e.deployed import Deployed
from tests.e2e.figures import Figures
from tests.e2e.organisation import DEPLOY, ENVIRONMENTS, TEAMS, namespace_of


@pytest.fixture(scope="module")
def tree(deployed: Deployed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Argo CD reads."""
    if deployed.argo is None:
        pytest.skip("the cluster has no Argo CD, so there is no repository that it reads")
    return deployed.company.clone(tmp_path_factory.mktemp("objects") / "clone") / DEPLOY


def test_the_api_server_takes_every_object_strictly_and_without_a_warning(
    cluster: Cluster, tree: Path, figures: Figures
) -> None:
    helm = choose_helm()
    checked = 0
    for environment in ENVIRONMENTS:
        for team in TEAMS:
            chart = tree / "environments" / environment / team
            rendered = helm.render(
                chart, chart / f"values-{environment}.yaml", release=team, namespace=namespace_of(environment)
            )
            checked += _taken(cluster, rendered)
    figures.add("objects that server-side validation Strict takes without a warning", f"{checked} of {checked}", "all")


def test_argo_cd_takes_its_own_objects_strictly_and_without_a_warning(cluster: Cluster, tree: Path) -> None:
    files = [path for place in ("bootstrap", "projects", "applicationsets") for path in (tree / place).glob("*.yaml")]
    assert len(files) > len(TEAMS) * len(ENVIRONMENTS)
    for file in files:
        _taken(cluster, file.read_text(encoding="utf-8"))


def test_a_pod_that_asks_for_more_is_refused_in_every_environment(cluster: Cluster, deployed: Deployed) -> None:
    assert deployed
    container = {"name": "team", "image": "nothing", "securityContext": {"privileged": True}}
    for environment in ENVIRONMENTS:
        metadata = {"name": "too-much", "namespace": namespace_of(environment)}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}
        refused = cluster.try_apply(pod)
        assert 'violates PodSecurity "restricted:latest"' in refused


def _taken(cluster: Cluster, manifests: str) -> int:
    """How many objects a dry run on the server takes; a warning fails it."""
    done = cluster.run(
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "--validate=strict",
        "--warnings-as-errors",
        "-f",
        "-",
        stdin=manifests,
        timeout=120,
    )
    assert "Warning" not in done.stderr, done.stderr
    return len(done.stdout.splitlines())
