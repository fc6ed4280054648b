"""Plain rendered YAML with Kustomize."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from elf_sdk.deploy.gitops.choice import Asked
from elf_sdk.deploy.gitops.clone import open_repository
from elf_sdk.deploy.gitops.removal import remove
from elf_sdk.deploy.gitops.write import push, write
from elf_sdk.deploy.helm import EmbeddedHelm
from elf_sdk.deploy.kubernetes import ObjectSchemas, parse_manifests
from elf_sdk.deploy.package import package
from elf_sdk.errors import BadInput
from elf_sdk.team.project import find_project
from tests.deploy.gitops.remotes import files
from tests.deploy.organisations import TEAMS, write_project

Object = dict[str, Any]


def written(project_dir: Path, **asked: Any) -> Path:
    project = find_project(project_dir)
    repository = open_repository(project)
    write(project, repository, Asked(**asked, format="manifests"))
    return repository.root


def built(directory: Path) -> list[Object]:
    """The objects of a kustomization: what it lists, and what that lists."""
    objects: list[Object] = []
    for name in yaml.safe_load((directory / "kustomization.yaml").read_text())["resources"]:
        place = directory / name
        objects += built(place) if place.is_dir() else parse_manifests(place.read_text())
    return objects


def ordered(objects: list[Object]) -> list[Object]:
    return sorted(objects, key=lambda each: (str(each["kind"]), str(each["metadata"]["name"])))


def test_the_manifests_are_what_the_charts_render(project_dir: Path, embedded: EmbeddedHelm) -> None:
    root = written(project_dir, all_environments=True)
    charts = package(find_project(project_dir), output=project_dir / "charts").output
    for environment in ("dev", "staging", "prod"):
        expected = []
        for team in TEAMS:
            values = charts / team / f"values-{environment}.yaml"
            expected += parse_manifests(embedded.render(charts / team, values, release=team, namespace="any"))
        objects = built(root / "manifests/environments" / environment)
        ObjectSchemas().check(objects)
        assert ordered([each for each in objects if each["kind"] != "Namespace"]) == ordered(expected)


def test_kustomize_builds_the_same(project_dir: Path) -> None:
    program = shutil.which("kustomize")
    if program is None:
        pytest.skip("there is no kustomize on the PATH: go install sigs.k8s.io/kustomize/kustomize/v5@latest")
    root = written(project_dir, all_environments=True)
    for environment in ("dev", "prod"):
        place = root / "manifests/environments" / environment
        done = subprocess.run([program, "build", place], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert ordered(parse_manifests(done.stdout)) == ordered(built(place))


def test_an_application_for_each_environment_that_has_teams(project_dir: Path) -> None:
    root = written(project_dir)
    objects = list(yaml.safe_load_all((root / "applications/teams-app.yaml").read_text()))
    assert [(each["kind"], each["metadata"]["name"]) for each in objects] == [
        ("AppProject", "elf-dev"),
        ("Application", "elf-dev"),
    ]
    written(project_dir, all_environments=True)
    objects = list(yaml.safe_load_all((root / "applications/teams-app.yaml").read_text()))
    applications = {each["metadata"]["name"]: each["spec"] for each in objects if each["kind"] == "Application"}
    assert set(applications) == {"elf-dev", "elf-staging", "elf-prod"}
    assert "automated" in applications["elf-dev"]["syncPolicy"]
    assert "automated" not in applications["elf-prod"]["syncPolicy"]
    assert applications["elf-prod"]["source"]["path"] == "gitops/manifests/environments/prod"


def test_both_formats_in_one_place_are_refused(project_dir: Path) -> None:
    project = find_project(project_dir)
    repository = open_repository(project)
    written(project_dir)
    assert repository.commit_written()
    with pytest.raises(BadInput, match="was written with --format manifests"):
        write(project, repository)


def test_committed_pushed_and_removed(project_dir: Path, remote: Path) -> None:
    write_project(project_dir, TEAMS, {"gitops": {"url": remote.as_uri()}, "archived": []})
    project = find_project(project_dir)
    repository = open_repository(project)
    written(project_dir, all_environments=True)
    repository.commit_written()
    push(project, repository)
    done = remove("data-team", "prod", project, repository, allowed=1)
    assert done.last
    assert "argocd app sync elf-prod --prune" in done.next[-1]
    push(project, repository)
    there = {path for path in files(remote) if "data-team" in path}
    assert {path.split("/")[3] for path in there} == {"dev", "staging"}
    built(repository.root / "manifests/environments/prod")
