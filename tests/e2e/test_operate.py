"""What a platform engineer asks: what runs, what it says, and whether its Secrets are there."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.deployed import Deployed
from tests.e2e.figures import Figures
from tests.e2e.organisation import DEPLOY, ENVIRONMENTS, SANDBOX, TEAMS, namespace_of
from tests.helm import helm_programs


def test_status_shows_every_team_as_it_runs(cluster: Cluster, deployed: Deployed) -> None:
    shown = json.loads(deployed.company.elf("status", "--json"))
    assert shown["complete"]
    assert [environment["environment"] for environment in shown["environments"]] == list(ENVIRONMENTS)
    for environment in shown["environments"]:
        assert {team["team"] for team in environment["teams"]} == set(TEAMS)
        for team in environment["teams"]:
            pods = cluster.ready_pods(namespace_of(environment["environment"]), f"app={team['team']}")
            assert team["ready"] == team["wanted"] == len(pods)
            assert team["health"] == "Healthy"
            assert team["sync"] == ("Synced" if deployed.argo else "")
            assert pods[0]["spec"]["containers"][0]["image"].endswith(team["digest"])


def test_logs_show_what_the_pods_of_a_team_say(cluster: Cluster, deployed: Deployed) -> None:
    # A node may have thrown away what was said when the pod began.
    cluster.run("rollout", "restart", "deployment/marketing-team", "-n", namespace_of("dev"))
    cluster.rolled_out(namespace_of("dev"), "marketing-team")
    said = deployed.company.elf("logs", "marketing-team", "--env", "dev", "--lines", "50")
    assert "Started server process" in said


def test_secrets_check_finds_all_and_names_the_one_that_is_missing(cluster: Cluster, deployed: Deployed) -> None:
    deployed.company.elf("secrets", "check", "prod")
    namespace, name = namespace_of("prod"), "marketing-team-database"
    kept = cluster.get("secret", name, "-n", namespace)
    cluster.delete("secret", name, "-n", namespace)
    try:
        said = deployed.company.elf("secrets", "check", "prod", fine=(1,))
        assert name in said
    finally:
        metadata = {"name": name, "namespace": namespace}
        cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": kept["data"]})
    deployed.company.elf("secrets", "check", "prod")


def test_deploy_installs_without_argo_cd_and_helm_test_has_a_conversation(
    cluster: Cluster, deployed: Deployed, sandbox: Path, figures: Figures
) -> None:
    company, team = deployed.company, "marketing-brand-team"
    company.elf_in(sandbox, "deploy", SANDBOX, team, timeout=300)
    namespace = namespace_of(SANDBOX)
    assert cluster.ready_pods(namespace, f"app={team}")
    helm = next(iter(helm_programs()), None)
    if helm is None:
        figures.left_out["helm test"] = "there is no helm on the PATH, and ELF_TEST_HELM names none"
        return
    command = [helm, "test", team, "-n", namespace, "--timeout", "3m"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    said = cluster.run("logs", "-n", namespace, f"{team}-test", fine=(0, 1)).stdout
    assert done.returncode == 0, f"{done.stdout}{done.stderr}{said}"
    assert "Succeeded" in done.stdout
    figures.add("helm test, after elf deploy", "passed", "passed")
    company.elf_in(sandbox, "deploy", SANDBOX, team, "--remove", "--yes")
    assert not cluster.items("deployments", "-n", namespace)


def test_the_conversation_of_helm_test_is_had_with_what_argo_cd_installed_and_argo_cd_does_not_mind(
    cluster: Cluster, deployed: Deployed, tmp_path: Path, figures: Figures
) -> None:
    if deployed.argo is None:
        pytest.skip("the cluster has no Argo CD")
    helm = next(iter(helm_programs()), None)
    if helm is None:
        figures.left_out["helm test under Argo CD"] = "there is no helm on the PATH, and ELF_TEST_HELM names none"
        return
    team, namespace = "marketing-brand-team", namespace_of("prod")
    pod = f"{team}-test"
    assert cluster.find("pod", pod, "-n", namespace) is None, "Argo CD made what is for helm test"
    chart = deployed.company.clone(tmp_path / "clone") / DEPLOY / "environments/prod" / team
    template = [helm, "template", team, ".", "--values", "values-prod.yaml", "--namespace", namespace]
    rendered = subprocess.run(template, cwd=chart, check=True, capture_output=True, text=True).stdout
    made = cluster.run("create", "--selector", "elf-sdk/hook=test", "--filename", "-", stdin=rendered)
    try:
        assert made.stdout.splitlines() == [f"pod/{pod} created"]
        succeeded = ["--for", "jsonpath={.status.phase}=Succeeded", "--timeout", "180s"]
        cluster.run("wait", f"pod/{pod}", "-n", namespace, *succeeded, timeout=200)
        deployed.argo.refresh()
        deployed.argo.settled([f"{team}-prod"], 60)
        assert cluster.find("pod", pod, "-n", namespace), "Argo CD pruned what is not its own"
    finally:
        cluster.delete("pod", pod, "-n", namespace)
    figures.add("helm test's conversation, with what Argo CD installed in prod", "passed", "passed")
