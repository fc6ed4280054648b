"""`elf secrets`: what charts name is what is asked for, and no value is shown."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from elf_sdk.deploy.helm import EmbeddedHelm
from elf_sdk.deploy.secrets import needed_secrets, secret_skeletons
from elf_sdk.deploy.team_chart import TeamCharts
from elf_sdk.team.project import find_project
from tests.deploy.organisations import Object, elf, render, write_project
from tests.kubernetes import ApiServer

pytestmark = pytest.mark.xdist_group("kubernetes")

TEAMS: dict[str, dict[str, Any]] = {
    "brand-team": {
        "llm": {"provider": "openai", "model": "gpt"},
        "pod": {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "more", "key": "a"}}}]},
        "secrets": [{"name": "CRM", "from": {"secret": "crm", "key": "token"}}],
        "image": {"pull_secrets": ["registry"]},
    },
    "data-team": {"llm": {"provider": "openai", "model": "gpt"}, "environments": {"prod": {"namespace": "elf-data"}}},
}
SESAME = base64.b64encode(b"open-sesame").decode()


@pytest.fixture
def project_dir(tmp_path: Path) -> Path:
    return write_project(tmp_path / "project", TEAMS)


def named_in(objects: Iterator[Object] | list[Object]) -> set[tuple[str, str]]:
    """Secrets and keys that rendered objects name, wherever they stand."""
    found: set[tuple[str, str]] = set()

    def walk(node: object) -> None:
        if isinstance(node, dict):
            if isinstance(ref := node.get("secretKeyRef"), dict):
                found.add((ref["name"], ref["key"]))
            if isinstance(secret := node.get("secret"), dict):
                found.update((str(secret["name"]), str(item["key"])) for item in secret["items"])
            for pull in node.get("imagePullSecrets") or ():
                found.add((pull["name"], ".dockerconfigjson"))
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for item in node:
                walk(item)

    walk(list(objects))
    return found


@pytest.mark.parametrize("name", ["dev", "staging", "prod"])
def test_what_is_asked_for_is_what_the_charts_name(
    name: str, project_dir: Path, embedded: EmbeddedHelm, tmp_path: Path
) -> None:
    project = find_project(project_dir)
    charts = TeamCharts(project)
    needed = needed_secrets(charts, project.teams, project.organisation.environment(name))
    for team in project.teams:
        values = charts.chart(team).values[name]
        objects = render(tmp_path / team.spec.name, team.spec, values, embedded, name)
        asked = {(s.name, key.key) for s in needed for key in s.keys if team.spec.name in key.teams}
        assert asked == named_in(list(objects.values()))


def test_a_skeleton_names_every_key_and_holds_no_value(project_dir: Path) -> None:
    done = elf("secrets", "template", "prod", cwd=project_dir)
    assert done.returncode == 0, done.stderr
    documents = {(d["metadata"]["namespace"], d["metadata"]["name"]): d for d in yaml.safe_load_all(done.stdout)}
    assert set(documents) == {
        ("elf-data", "llm-api-keys"),
        ("elf-data", "supabase-credentials"),
        ("elf-teams", "crm"),
        ("elf-teams", "llm-api-keys"),
        ("elf-teams", "more"),
        ("elf-teams", "registry"),
        ("elf-teams", "supabase-credentials"),
    }
    assert documents["elf-teams", "llm-api-keys"]["stringData"] == {"openai-api-key": ""}
    assert "#   openai-api-key: read by brand-team\n" in done.stdout
    external = elf("secrets", "template", "prod", "--external", "vault", cwd=project_dir).stdout
    (spec,) = [d["spec"] for d in yaml.safe_load_all(external) if d["metadata"]["name"] == "crm"]
    assert spec["secretStoreRef"] == {"name": "vault", "kind": "ClusterSecretStore"}
    assert [each["secretKey"] for each in spec["data"]] == ["token"]


def test_an_api_server_takes_the_skeletons_and_finds_them_empty(
    kube: ApiServer, project_dir: Path, tmp_path: Path
) -> None:
    for team in TEAMS:
        file = project_dir / "teams" / team / "team.yaml"
        spec = json.loads(file.read_text())
        file.write_text(json.dumps({**spec, "environments": {"dev": {"namespace": f"skeletons-{team}"}}}))
        kube.namespace(f"skeletons-{team}")
    project = find_project(project_dir)
    needed = needed_secrets(TeamCharts(project), project.teams, project.organisation.environment("dev"))
    for document in yaml.safe_load_all(secret_skeletons(needed)):
        kube.put(f"/api/v1/namespaces/{document['metadata']['namespace']}/secrets", document)
    config = str(kube.kubeconfig(tmp_path / "config"))
    done = elf("secrets", "check", "dev", "--json", cwd=project_dir, KUBECONFIG=config)
    assert done.returncode == 1
    states = {(f["secret"], f["key"]): f["state"] for f in json.loads(done.stdout)["secrets"]}
    assert states["llm-api-keys", "openai-api-key"] == "empty"
    assert states["registry", ".dockerconfigjson"] == "present"


def test_a_cluster_is_asked_key_by_key_and_no_value_is_shown(kube: ApiServer, tmp_path: Path) -> None:
    here = kube.namespace("asked-dev")
    team = {**TEAMS["brand-team"], "environments": {"dev": {"namespace": here}}}
    supabase = {"name": "DB", "from": {"secret": "supabase-credentials", "key": "db-url"}}
    team["secrets"] = [*team["secrets"], supabase]
    root = write_project(tmp_path / "p", {"brand-team": team})
    path = f"/api/v1/namespaces/{here}/secrets"
    kube.put(path, {"metadata": {"name": "llm-api-keys"}, "data": {"anthropic-api-key": SESAME}})
    kube.put(path, {"metadata": {"name": "supabase-credentials"}, "data": {"db-url": SESAME, "anon-key": SESAME}})
    config = str(kube.kubeconfig(tmp_path / "config"))
    done = elf("secrets", "check", "dev", cwd=root, KUBECONFIG=config)
    assert done.returncode == 1, done.stdout
    said = done.stdout + done.stderr
    assert f"Secret llm-api-keys in {here} has no key openai-api-key (brand-team)" in said
    assert f"Secret crm in {here} is not there (brand-team)" in said
    assert f"Secret registry in {here} is not there" in said
    assert f"Secret supabase-credentials in {here}: the key db-url is there" in said
    assert "the key anon-key is not needed; nothing reads it" in said
    assert "jwt-secret-key is absent, and may be" in said
    assert "sesame" not in said
    assert SESAME not in said
    # What is missing is put there, and nothing is left to say against it.
    kube.request("PATCH", f"{path}/llm-api-keys", {"data": {"openai-api-key": SESAME}}, "application/merge-patch+json")
    kube.put(path, {"metadata": {"name": "crm"}, "data": {"token": SESAME}})
    kube.put(path, {"metadata": {"name": "more"}, "data": {"a": SESAME}})
    kube.put(path, {"metadata": {"name": "registry"}, "stringData": {".dockerconfigjson": "{}"}})
    done = elf("secrets", "check", "dev", cwd=root, KUBECONFIG=config)
    assert done.returncode == 0, done.stdout + done.stderr


def test_who_may_not_read_secrets_is_told_so(kube: ApiServer, project_dir: Path, tmp_path: Path) -> None:
    config = str(kube.kubeconfig(tmp_path / "config", guest="guest"))
    done = elf("secrets", "check", "dev", "--context", "guest", cwd=project_dir, KUBECONFIG=config)
    assert done.returncode == 1
    assert 'User "guest" cannot get resource "secrets"' in done.stdout
    assert "ask its administrator for that right" in done.stdout


def test_without_a_cluster_one_sentence_says_what_to_set(project_dir: Path, tmp_path: Path) -> None:
    done = elf("secrets", "check", "dev", cwd=project_dir, KUBECONFIG=str(tmp_path / "absent"))
    assert done.returncode == 1
    assert "set KUBECONFIG to the file of your cluster" in done.stdout
    assert elf("secrets", "check", "nowhere", cwd=project_dir).returncode == 2
