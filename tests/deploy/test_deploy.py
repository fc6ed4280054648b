"""`elf deploy`: into a real API server by real Helm, and what it says of teams that do not get ready."""

from __future__ import annotations

import base64
import gzip
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from elf_sdk.deploy.cluster.api import DEPLOYMENTS, EVENTS, PODS, REPLICA_SETS, KubeApi
from elf_sdk.deploy.cluster.kubeconfig import read_kubeconfig
from elf_sdk.deploy.rollout import crashed, health, is_ready, obstacles
from tests.deploy.deployed import (
    APPLICATION_CRD,
    labels,
    put_deployment,
    put_event,
    put_pod,
    put_replica_set,
)
from tests.deploy.organisations import elf, write_project
from tests.helm import helm_programs
from tests.kubelet import kubelet
from tests.kubernetes import ApiServer

pytestmark = pytest.mark.xdist_group("kubernetes")


def project(root: Path, prefix: str, teams: tuple[str, ...] = ("brand-team", "data-team"), **spec: Any) -> Path:
    """Teams whose dev is in the namespace `<prefix>-dev`, and whose prod is in another cluster."""
    organisation = {
        "environments": [
            {"name": "dev", "namespace": f"{prefix}-dev"},
            {"name": "prod", "namespace": f"{prefix}-prod", "cluster": "far"},
        ],
        "clusters": [
            {"name": "in-cluster", "server": "https://kubernetes.default.svc"},
            {"name": "far", "server": "https://far.example.com"},
        ],
        "gitops": {"argocd_namespace": f"{prefix}-argocd"},
    }
    return write_project(root, {team: dict(spec) for team in teams}, organisation)


@contextmanager
def controller(kube: ApiServer, namespace: str) -> Iterator[None]:
    """Make every Deployment of a namespace ready, as its controller and a kubelet would."""
    over = threading.Event()
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"

    def control() -> None:
        while not over.wait(0.2):
            for each in kube.request("GET", path).json().get("items", ()):
                number, generation = each["spec"]["replicas"], each["metadata"]["generation"]
                counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), number)
                status = {"status": {"observedGeneration": generation, **counts}}
                name = each["metadata"]["name"]
                kube.request("PATCH", f"{path}/{name}/status", status, "application/merge-patch+json")

    thread = threading.Thread(target=control)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def helms() -> list[str]:
    """The embedded Helm, and the programs that are there."""
    found = (shutil.which(name, path=os.environ.get("ELF_KUBE_BINARIES", "")) for name in ("helm3", "helm4"))
    return ["embedded", *dict.fromkeys([*helm_programs(), *filter(None, found)])]


@pytest.mark.parametrize("engine", helms())
def test_a_team_is_installed_upgraded_and_removed(engine: str, kube: ApiServer, tmp_path: Path) -> None:
    prefix = f"whole-{Path(engine).name}"
    root = project(tmp_path / "p", prefix)
    environ = {"KUBECONFIG": str(kube.kubeconfig(tmp_path / "config"))}
    choice = "embedded"
    if engine != "embedded":
        choice = "cli"
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin/helm").symlink_to(engine)
        environ["PATH"] = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    here = f"{prefix}-dev"
    with controller(kube, here):
        done = elf("deploy", "dev", "--helm", choice, "--timeout", "60s", cwd=root, **environ)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "2 teams ready in dev" in done.stdout
        made = kube.request("GET", f"/api/v1/namespaces/{here}").json()["metadata"]["labels"]
        assert made["pod-security.kubernetes.io/enforce"] == "restricted"
        file = root / "teams/brand-team/team.yaml"
        file.write_text(json.dumps({**json.loads(file.read_text()), "version": "0.2.0"}))
        done = elf("deploy", "dev", "brand-team", "--helm", choice, "--json", cwd=root, **environ)
        assert done.returncode == 0, done.stderr
        assert [team["ready"] for team in json.loads(done.stdout)["teams"]] == [True]
        found = kube.request("GET", f"/apis/apps/v1/namespaces/{here}/deployments/brand-team").json()
        assert found["metadata"]["labels"]["app.kubernetes.io/version"] == "0.2.0"
        assert found["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"
    kube.put(f"/api/v1/namespaces/{here}/secrets", {"metadata": {"name": "llm-api-keys"}})
    asked = elf("deploy", "dev", "--remove", cwd=root, **environ)
    assert asked.returncode == 130
    for said in ("brand-team: removed from", "brand-team: is not in"):
        done = elf("deploy", "dev", "brand-team", "--remove", "--yes", "--helm", choice, cwd=root, **environ)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"{said} {here}" in done.stdout
    left = kube.request("GET", f"/apis/apps/v1/namespaces/{here}/deployments").json()["items"]
    assert [each["metadata"]["name"] for each in left] == ["data-team"]
    assert kube.request("GET", f"/api/v1/namespaces/{here}/secrets/llm-api-keys").is_success


def test_a_deploy_that_was_cut_off_is_said_with_the_remedy(kube: ApiServer, tmp_path: Path) -> None:
    root = project(tmp_path / "p", "cut", ("brand-team",))
    environ = {"KUBECONFIG": str(kube.kubeconfig(tmp_path / "config"))}
    arguments = ("deploy", "dev", "--helm", "embedded", "--timeout", "0s")
    assert elf(*arguments, cwd=root, **environ).returncode == 0
    # As Helm leaves it when it is killed between its two writes: a Secret with JSON, compressed, in base64 twice.
    path = "/api/v1/namespaces/cut-dev/secrets/sh.helm.release.v1.brand-team.v1"
    held = kube.request("GET", path).json()
    release = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(held["data"]["release"]))))
    release["info"]["status"] = "pending-install"
    again = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(release).encode()))).decode()
    change = {"metadata": {"labels": {"status": "pending-install"}}, "data": {"release": again}}
    assert kube.request("PATCH", path, change, "application/merge-patch+json").is_success
    done = elf(*arguments, cwd=root, **environ)
    assert done.returncode == 1
    assert "another deploy of brand-team in cut-dev is under way, or was cut off" in done.stdout
    done = elf(*arguments[:-2], "--remove", "--yes", cwd=root, **environ)
    assert done.returncode == 0, done.stdout + done.stderr
    assert elf(*arguments, cwd=root, **environ).returncode == 0


def test_an_environment_of_another_cluster_is_refused_unless_told(kube: ApiServer, tmp_path: Path) -> None:
    root = project(tmp_path / "p", "refused", ("brand-team",))
    config = kube.kubeconfig(tmp_path / "config", other="admin")
    content = json.loads(config.read_text())
    content["clusters"].append({"name": "far", "cluster": {"server": "https://far.example.com"}})
    content["contexts"].append({"name": "prod-eu", "context": {"cluster": "far", "user": "admin"}})
    config.write_text(json.dumps(content))
    done = elf("deploy", "prod", cwd=root, KUBECONFIG=str(config))
    assert done.returncode == 2
    assert "the cluster 'far', to which the context 'prod-eu' leads, and the current one is 'test'" in done.stderr
    done = elf("deploy", "prod", "--context", "other", "--timeout", "0s", cwd=root, KUBECONFIG=str(config))
    assert done.returncode == 0, done.stderr
    assert "1 team installed in prod" in done.stdout


def test_what_argo_cd_keeps_is_left_to_it(kube: ApiServer, tmp_path: Path) -> None:
    root = project(tmp_path / "p", "kept")
    kube.namespace("kept-argocd")
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    applications = "/apis/argoproj.io/v1alpha1/namespaces/kept-argocd/applications"
    kube.put(crds, APPLICATION_CRD)
    try:
        kube.settle(applications)
        body = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": {"name": "data-team-dev"}}
        kube.put(applications, body)
        done = elf("deploy", "dev", cwd=root, KUBECONFIG=str(kube.kubeconfig(tmp_path / "config")))
        assert done.returncode == 2
        assert "Argo CD keeps data-team in dev, and would undo this" in done.stderr
        assert kube.request("GET", "/api/v1/namespaces/kept-dev").status_code == 404
    finally:
        kube.request("DELETE", f"{crds}/applications.argoproj.io")


def test_one_team_that_is_refused_does_not_keep_the_others(kube: ApiServer, tmp_path: Path) -> None:
    root = project(tmp_path / "p", "partly", llm={"provider": "openai", "model": "gpt"})
    here = kube.namespace("partly-dev")
    service = {"metadata": {"name": "brand-team"}, "spec": {"ports": [{"port": 80}]}}
    kube.put(f"/api/v1/namespaces/{here}/services", service)
    with controller(kube, here):
        done = elf(
            *("deploy", "dev", "--helm", "embedded", "--timeout", "60s", "--json"),
            cwd=root,
            KUBECONFIG=str(kube.kubeconfig(tmp_path / "config")),
        )
    assert done.returncode == 1
    brand, data = json.loads(done.stdout)["teams"]
    assert not brand["ready"]
    assert 'Service "brand-team" in namespace "partly-dev" exists and cannot be imported' in brand["problems"][0]
    assert data["ready"]
    assert f"warning: Secret llm-api-keys in {here} is not there (brand-team, data-team)" in done.stderr


def test_a_team_that_is_late_is_told_with_its_reasons(kube: ApiServer, tmp_path: Path) -> None:
    root = project(tmp_path / "p", "late", llm={"provider": "openai", "model": "gpt"})
    here = kube.namespace("late-dev")
    image = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "brand-team:0.1.0"'}
    status = {"containerStatuses": [{**container(waiting=image), "image": "brand-team:0.1.0"}]}
    put_pod(kube, here, None, status, team="brand-team")
    with kubelet(kube, "node-late") as node:
        crashed = {"containerStatuses": [container(3, waiting={"reason": "CrashLoopBackOff"}, last=ENDED)]}
        put_pod(kube, here, None, crashed, team="data-team", node=node.node)
        node.logs["data-team-x"] = [f"2026-03-01T12:00:0{n}.000000000Z line {n}\x1b[2J" for n in range(9)]
        done = elf("deploy", "dev", "--timeout", "1s", cwd=root, KUBECONFIG=str(kube.kubeconfig(tmp_path / "config")))
    assert done.returncode == 1
    assert f"✗ brand-team in {here}" in done.stdout
    assert f"Secret llm-api-keys in {here} is not there (brand-team)" in done.stdout
    assert "its container team ended with OOMKilled, exit code 137, started again 3 times" in done.stdout
    assert "    | line 1\ufffd[2J\n" in done.stdout
    assert "line 0" not in done.stdout
    assert 'its image brand-team:0.1.0 cannot be pulled: Back-off pulling image "brand-team:0.1.0"' in done.stdout
    assert "2 of 2 teams not ready in 1s" in done.stderr


def container(restarts: int = 0, **state: Any) -> dict[str, Any]:
    return {
        "name": "team",
        "image": "x",
        "imageID": "",
        "ready": False,
        "restartCount": restarts,
        "state": {name: value for name, value in state.items() if name != "last"},
        "lastState": {"terminated": state["last"]} if "last" in state else {},
    }


ENDED = {"exitCode": 137, "reason": "OOMKilled"}


@pytest.mark.parametrize(
    ("name", "status", "event", "said"),
    [
        (
            "unscheduled",
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/2 nodes: Insufficient cpu"}]},
            None,
            "no node takes its pod: 0/2 nodes: Insufficient cpu",
        ),
        (
            "unpulled",
            {"containerStatuses": [container(waiting={"reason": "ErrImagePull", "message": "not found"})]},
            None,
            "its image x cannot be pulled: not found",
        ),
        (
            "unmade",
            {
                "containerStatuses": [
                    container(
                        waiting={"reason": "CreateContainerConfigError", "message": 'secret "llm-api-keys" not found'}
                    )
                ]
            },
            None,
            'its container team cannot be made: secret "llm-api-keys" not found',
        ),
        (
            "unmounted",
            {"phase": "Pending"},
            ("FailedMount", 'MountVolume.SetUp failed for volume "secrets" : references non-existent secret key: k'),
            'MountVolume.SetUp failed for volume "secrets" : references non-existent secret key: k',
        ),
        (
            "crashed",
            {"containerStatuses": [container(3, waiting={"reason": "CrashLoopBackOff"}, last=ENDED)]},
            None,
            "its container team ended with OOMKilled, exit code 137, started again 3 times",
        ),
        (
            "unready",
            {"containerStatuses": [{**container(running={}), "containerID": "containerd://x"}]},
            ("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503"),
            "it runs and is not ready: Readiness probe failed: HTTP probe failed with statuscode: 503",
        ),
    ],
)
def test_what_keeps_a_pod_is_one_sentence(
    name: str, status: dict[str, Any], event: tuple[str, str] | None, said: str, kube: ApiServer, tmp_path: Path
) -> None:
    here = kube.namespace(f"pod-{name}")
    deployment = put_deployment(kube, here, "brand-team", "x", ready=0)
    pod = put_pod(kube, here, put_replica_set(kube, here, deployment), status)
    if event:
        put_event(kube, here, pod, "Pod", *event)
    with KubeApi(read_kubeconfig([kube.kubeconfig(tmp_path / "config")]).context()) as api:
        found = api.get(DEPLOYMENTS, here, "brand-team")
        replica_sets, pods, events = (api.list(kind, here) for kind in (REPLICA_SETS, PODS, EVENTS))
    assert obstacles(found, replica_sets, pods, events) == (said,)
    assert list(crashed(pods, replica_sets)) == ([("brand-team-x", "team")] if name == "crashed" else [])
    assert health(found) == "Progressing"


def test_pods_of_an_older_revision_do_not_speak_for_the_newest(kube: ApiServer, tmp_path: Path) -> None:
    here = kube.namespace("revisions")
    deployment = put_deployment(kube, here, "brand-team", "x", ready=0)
    old, new = (put_replica_set(kube, here, deployment, number) for number in (9, 10))
    broken = {"containerStatuses": [container(waiting={"reason": "ErrImagePull", "message": "old"})]}
    put_pod(kube, here, old, broken, name="old")
    put_event(kube, here, new, "ReplicaSet", "FailedCreate", 'pods "x" is forbidden: violates PodSecurity')
    with KubeApi(read_kubeconfig([kube.kubeconfig(tmp_path / "config")]).context()) as api:
        found = obstacles(deployment, api.list(REPLICA_SETS, here), api.list(PODS, here), api.list(EVENTS, here))
    assert found == ('pods "x" is forbidden: violates PodSecurity',)


def test_health_is_argo_cds() -> None:
    def deployment(**status: Any) -> dict[str, Any]:
        return {"metadata": {"generation": 2, "labels": labels("x")}, "spec": {"replicas": 2}, "status": status}

    up = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}
    assert is_ready(deployment(**up))
    assert health(None) == "Missing"
    assert health(deployment(**{**up, "observedGeneration": 1})) == "Progressing"
    assert health(deployment(**{**up, "updatedReplicas": 1})) == "Progressing"
    assert health(deployment(**{**up, "replicas": 3})) == "Progressing"
    assert health(deployment(**{**up, "availableReplicas": 1})) == "Progressing"
    assert health({**deployment(**up), "spec": {"replicas": 2, "paused": True}}) == "Suspended"
    none = {"metadata": {"generation": 1}, "spec": {"replicas": 0}, "status": {"observedGeneration": 1}}
    assert is_ready(none)
