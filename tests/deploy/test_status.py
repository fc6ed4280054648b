"""`elf status`, and how clusters are asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from elf_sdk.deploy.cluster.api import NAMESPACES, SECRETS, KubeApi
from elf_sdk.deploy.cluster.kubeconfig import read_kubeconfig
from elf_sdk.errors import BadInput, Conflict, Failure, Forbidden, NotFound, Retryable, Unauthenticated
from tests.deploy.deployed import APPLICATION_CRD, DIGEST, OTHER, put_deployment, put_pod
from tests.deploy.organisations import elf, write_project
from tests.kubernetes import ApiServer

pytestmark = pytest.mark.xdist_group("kubernetes")


def project(root: Path, kube: ApiServer, prefix: str, argo_cd: str = "argocd", **more: Any) -> Path:
    """Two teams in two environments, whose namespaces begin with `prefix`."""
    environments = [
        {"name": "dev", "namespace": f"{prefix}-dev"},
        {"name": "prod", "namespace": f"{prefix}-prod", "cluster": "far"},
    ]
    clusters = [
        {"name": "in-cluster", "server": "https://kubernetes.default.svc"},
        {"name": "far", "server": "https://127.0.0.1:1"},
    ]
    gitops = {"argocd_namespace": argo_cd}
    organisation = {"environments": environments, "clusters": clusters, "gitops": gitops, **more}
    write_project(root, {"brand-team": {}, "data-team": {}}, organisation)
    kube.namespace(f"{prefix}-dev")
    return root


def run(root: Path, config: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    done = elf("status", "--json", *arguments, cwd=root, KUBECONFIG=str(config))
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


def test_replicas_version_and_digest_come_from_the_cluster(kube: ApiServer, tmp_path: Path) -> None:
    root = project(tmp_path / "p", kube, "seen")
    config = kube.kubeconfig(tmp_path / "config")
    put_deployment(kube, "seen-dev", "brand-team", f"r/brand-team@{DIGEST}", replicas=2, ready=1)
    put_deployment(kube, "seen-dev", "data-team", "r/data-team:0.1.0")
    running = {"containerStatuses": [_container(f"r/data-team@{OTHER}")]}
    put_pod(kube, "seen-dev", None, running, team="data-team")
    (root / "teams/brand-team/images.lock.yaml").write_text(f"dev: {DIGEST}\n")
    (root / "teams/data-team/images.lock.yaml").write_text(f"dev: {DIGEST}\n")
    code, found, _ = run(root, config, "--env", "dev")
    brand, data = found["environments"][0]["teams"]
    assert (brand["health"], brand["ready"], brand["wanted"], brand["version"]) == ("Progressing", 1, 2, "0.1.0")
    assert (brand["digest"], brand["drifted"]) == (DIGEST, False)
    assert (data["health"], data["digest"], data["drifted"]) == ("Healthy", OTHER, True)
    assert code == 0
    shown = elf("status", "--env", "dev", cwd=root, KUBECONFIG=str(config))
    assert f"{'b' * 12} ≠ {'a' * 12}" in shown.stdout
    assert f"data-team in dev: images.lock.yaml names {DIGEST}, and {OTHER} runs" in shown.stderr


def _container(image_id: str) -> dict[str, Any]:
    return {"name": "team", "image": "x", "imageID": image_id, "ready": True, "restartCount": 0}


def test_one_cluster_that_is_away_does_not_hide_the_others(kube: ApiServer, tmp_path: Path) -> None:
    root = project(tmp_path / "p", kube, "away")
    put_deployment(kube, "away-dev", "brand-team", "r/brand-team:0.1.0")
    config = kube.kubeconfig(tmp_path / "config")
    content = json.loads(config.read_text())
    content["clusters"].append({"name": "far", "cluster": {"server": "https://127.0.0.1:1"}})
    content["contexts"].append({"name": "far", "context": {"cluster": "far", "user": "admin"}})
    config.write_text(json.dumps(content))
    code, found, said = run(root, config)
    dev, prod = found["environments"]
    assert (dev["reached"], dev["teams"][0]["health"]) == (True, "Healthy")
    assert (prod["reached"], prod["teams"][0]["health"]) == (False, "")
    assert "the cluster far (https://127.0.0.1:1) cannot be reached" in prod["problems"][0]
    assert code == 1
    assert "not everything could be asked" in said
    shown = elf("status", cwd=root, KUBECONFIG=str(config)).stdout.splitlines()
    assert shown[1].split() == ["brand-team", "dev", "-", "Healthy", "1/1", "0.1.0", "-"]
    assert shown[2].split() == ["brand-team", "prod", "-", "?", "?", "?", "?"]


def test_a_context_that_is_not_there_is_named(kube: ApiServer, tmp_path: Path) -> None:
    root = project(tmp_path / "p", kube, "unnamed")
    code, found, _ = run(root, kube.kubeconfig(tmp_path / "config"), "--env", "prod")
    assert code == 1
    assert "no context of your kubeconfig leads to the cluster 'far'" in found["environments"][0]["problems"][0]


def test_sync_and_health_are_argo_cds_where_it_is(kube: ApiServer, tmp_path: Path) -> None:
    root = project(tmp_path / "p", kube, "synced", argo_cd="synced-argocd")
    kube.namespace("synced-argocd")
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    applications = "/apis/argoproj.io/v1alpha1/namespaces/synced-argocd/applications"
    kube.put(crds, APPLICATION_CRD)
    try:
        kube.settle(applications)
        status = {
            "sync": {"status": "OutOfSync"},
            "health": {"status": "Degraded"},
            "operationState": {"phase": "Failed", "message": "one or more\nobjects failed to apply"},
        }
        body = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": {"name": "brand-team-dev"}}
        kube.put(applications, {**body, "spec": {}, "status": status})
        put_deployment(kube, "synced-dev", "brand-team", "r/brand-team:0.1.0")
        config = kube.kubeconfig(tmp_path / "config", guest="guest")
        code, found, _ = run(root, config, "--env", "dev")
        dev = found["environments"][0]
        assert (code, dev["argo_cd"]) == (0, "there")
        assert (dev["teams"][0]["sync"], dev["teams"][0]["health"]) == ("OutOfSync", "Degraded")
        assert dev["teams"][0]["note"] == "one or more objects failed to apply"
        assert (dev["teams"][1]["sync"], dev["teams"][1]["health"]) == ("", "Missing")
        guest = json.loads(config.read_text())
        config.write_text(json.dumps({**guest, "current-context": "guest"}))
        code, found, _ = run(root, config, "--env", "dev")
        assert (code, found["environments"][0]["argo_cd"]) == (1, "unknown")
        assert any("Applications in synced-argocd may not be read" in p for p in found["environments"][0]["problems"])
    finally:
        kube.request("DELETE", f"{crds}/applications.argoproj.io")


def test_without_argo_cd_health_is_the_deployments(kube: ApiServer, tmp_path: Path) -> None:
    root = project(tmp_path / "p", kube, "plain", argo_cd="plain-argocd")
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    put_deployment(kube, "plain-dev", "brand-team", "r/brand-team:0.1.0", ready=0, conditions=[late])
    _, found, _ = run(root, kube.kubeconfig(tmp_path / "config"), "--env", "dev", "brand-team")
    dev = found["environments"][0]
    assert [team["health"] for team in dev["teams"]] == ["Degraded"]


def test_what_a_server_answers_is_an_error_by_its_meaning(kube: ApiServer, tmp_path: Path) -> None:
    config = read_kubeconfig([kube.kubeconfig(tmp_path / "config", guest="guest")])
    with KubeApi(config.context()) as api, KubeApi(config.context("guest")) as guest:
        made = api.create(NAMESPACES, "", {"metadata": {"name": "meanings"}})
        assert api.get(NAMESPACES, "", "meanings")["metadata"]["uid"] == made["metadata"]["uid"]
        with pytest.raises(Conflict, match="already exists"):
            api.create(NAMESPACES, "", {"metadata": {"name": "meanings"}})
        with pytest.raises(NotFound, match='secrets "none" not found'):
            api.get(SECRETS, "meanings", "none")
        assert api.find(SECRETS, "meanings", "none") is None
        with pytest.raises(Forbidden, match="guest"):
            guest.list(SECRETS, "meanings")
        with pytest.raises(Failure, match="strict decoding error"):
            api.create(NAMESPACES, "", {"metadata": {"name": "meanings-2"}, "surprise": 1})
        for number in range(3):
            api.create(SECRETS, "meanings", {"metadata": {"name": f"s-{number}", "labels": {"a": "b"}}})
        assert len(api.list(SECRETS, "meanings", labels={"a": "b"})) == 3
    nobody = json.loads((tmp_path / "config").read_text())
    nobody["users"][0]["user"]["token"] = "unknown"
    (tmp_path / "config").write_text(json.dumps(nobody))
    with KubeApi(read_kubeconfig([tmp_path / "config"]).context()) as api:
        with pytest.raises(Unauthenticated, match="does not know who asks"):
            api.list(SECRETS, "meanings")


def test_lists_come_in_pages(kube: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elf_sdk.deploy.cluster.api._PAGE", 2)
    here = kube.namespace("pages")
    for number in range(5):
        kube.put(f"/api/v1/namespaces/{here}/secrets", {"metadata": {"name": f"s-{number}"}})
    with KubeApi(read_kubeconfig([kube.kubeconfig(tmp_path / "config")]).context()) as api:
        assert [each["metadata"]["name"] for each in api.list(SECRETS, here)] == [f"s-{n}" for n in range(5)]


def test_a_server_that_is_known_by_another_certificate_is_not_trusted(kube: ApiServer, tmp_path: Path) -> None:
    content = json.loads(kube.kubeconfig(tmp_path / "config").read_text())
    del content["clusters"][0]["cluster"]["certificate-authority"]
    (tmp_path / "config").write_text(json.dumps(content))
    with KubeApi(read_kubeconfig([tmp_path / "config"]).context()) as api:
        with pytest.raises(Retryable, match="certificate verify failed"):
            api.list(NAMESPACES)


def test_a_context_without_a_cluster_is_refused(tmp_path: Path) -> None:
    content = {"contexts": [{"name": "it", "context": {}}], "current-context": "it"}
    (tmp_path / "config").write_text(json.dumps(content))
    with pytest.raises(BadInput, match="names no cluster with an address"):
        KubeApi(read_kubeconfig([tmp_path / "config"]).context())
