"""Argo CD's objects, against its own definitions, and the Applications that it makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from elf_sdk.deploy.gitops.choice import Asked
from elf_sdk.deploy.gitops.clone import open_repository
from elf_sdk.deploy.gitops.write import write
from elf_sdk.deploy.helm import EmbeddedHelm
from elf_sdk.deploy.kubernetes import ObjectSchemas
from elf_sdk.files import write_tree
from elf_sdk.team.project import find_project
from tests.deploy.organisations import TEAMS, write_project

Object = dict[str, Any]

ORGANISATION = {
    "clusters": [
        {"name": "in-cluster", "server": "https://kubernetes.default.svc"},
        {"name": "far", "server": "https://far.example.com:6443"},
    ],
    "environments": [
        {"name": "dev"},
        {"name": "staging", "sync": "manual"},
        {"name": "prod", "cluster": "far", "sync": "rolling"},
    ],
}


def load(file: Path) -> list[Object]:
    return [each for each in yaml.safe_load_all(file.read_text()) if each]


@pytest.fixture
def root(tmp_path: Path, remote: Path) -> Path:
    project_dir = write_project(tmp_path / "p", TEAMS, {**ORGANISATION, "gitops": {"url": remote.as_uri()}})
    project = find_project(project_dir)
    repository = open_repository(project)
    write(project, repository, Asked(all_environments=True))
    return repository.root


def test_every_object_is_as_its_definition_wants_it(root: Path) -> None:
    schemas = ObjectSchemas()
    places = [*root.glob("bootstrap/*"), *root.glob("clusters/*/*"), *root.glob("projects/*")]
    for file in [*places, *root.glob("applicationsets/*")]:
        schemas.check(load(file))
    assert len(places) == 2 + 1 + 9


def test_plain_manifests_too(tmp_path: Path, remote: Path) -> None:
    project = find_project(write_project(tmp_path / "p", TEAMS, {**ORGANISATION, "gitops": {"url": remote.as_uri()}}))
    repository = open_repository(project)
    write(project, repository, Asked(all_environments=True, format="manifests"))
    schemas = ObjectSchemas()
    schemas.check(load(repository.root / "applications/teams-app.yaml"))
    for file in repository.root.rglob("kustomization.yaml"):
        schemas.check([{"metadata": {}, **load(file)[0]}])


def applications(root: Path, environment: str, helm: EmbeddedHelm, tmp_path: Path, **over: str) -> list[Object]:
    """What the ApplicationSet controller makes of the directories, with the same template engine."""
    (made,) = load(root / f"applicationsets/{environment}.yaml")
    found = []
    for place in sorted((root / f"environments/{environment}").iterdir()):
        parameters = {**load(place / "app.yaml")[0], **over}
        parameters["path"] = {"basename": place.name, "path": f"gitops/environments/{environment}/{place.name}"}
        spec = made["spec"]
        texts = {"application": f"made: {json.dumps(spec['template'])}", "patch": spec["templatePatch"]}
        chart = tmp_path / f"{environment}-{place.name}-{len(over)}"
        files = {"Chart.yaml": "apiVersion: v2\nname: made\nversion: 0.1.0\n", "values.yaml": json.dumps(parameters)}
        for name, text in texts.items():
            head = f"{{{{- with .Values }}}}\nis: {name}\nmetadata: {{name: made}}\n"
            files[f"templates/{name}.yaml"] = f"{head}{text}\n{{{{- end }}}}\n"
        write_tree(chart, {name: content.encode() for name, content in files.items()})
        text = helm.render(chart, chart / "values.yaml", release="made", namespace="made")
        rendered = {each["is"]: each for each in yaml.safe_load_all(text) if each}
        template = rendered["application"]["made"]
        template["spec"]["syncPolicy"] |= rendered["patch"]["spec"]["syncPolicy"]
        found.append({"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", **template})
    return found


def test_the_applications_that_come_of_it(root: Path, embedded: EmbeddedHelm, tmp_path: Path) -> None:
    schemas = ObjectSchemas()
    for environment, server in (("dev", "https://kubernetes.default.svc"), ("prod", "https://far.example.com:6443")):
        made = applications(root, environment, embedded, tmp_path)
        schemas.check(made)
        assert [each["metadata"]["name"] for each in made] == [f"{team}-{environment}" for team in sorted(TEAMS)]
        for each in made:
            (project,) = load(root / f"projects/{each['metadata']['name']}.yaml")
            assert each["spec"]["project"] == project["metadata"]["name"]
            assert each["spec"]["destination"] in project["spec"]["destinations"]
            assert each["spec"]["destination"]["server"] == server
            automated = each["spec"]["syncPolicy"].get("automated")
            assert automated == (
                {"prune": True, "selfHeal": True, "allowEmpty": False} if environment == "dev" else None
            )


def test_what_app_yaml_says_gives_no_other_project(root: Path, embedded: EmbeddedHelm, tmp_path: Path) -> None:
    over = {"team": "chief-team", "project": "default", "namespace": "kube-system", "sync": "auto", "state": "leaving"}
    for each in applications(root, "dev", embedded, tmp_path, **over):
        name = each["metadata"]["name"]
        assert each["spec"]["project"] == name
        (project,) = load(root / f"projects/{name}.yaml")
        assert each["spec"]["destination"] not in project["spec"]["destinations"]
        assert each["spec"]["syncPolicy"]["automated"]["allowEmpty"] is True
