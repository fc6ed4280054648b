"""A change shown as Kubernetes objects."""

from __future__ import annotations

import json
from pathlib import Path

from elf_sdk.deploy.gitops.change import Change
from elf_sdk.deploy.gitops.clone import open_repository
from elf_sdk.deploy.gitops.diff import diff
from elf_sdk.deploy.gitops.write import unwritten, write
from elf_sdk.team.project import find_project
from tests.deploy.gitops.remotes import git
from tests.deploy.organisations import TEAMS, elf, write_project


def test_a_change_is_shown_object_by_object(project_dir: Path) -> None:
    project = find_project(project_dir)
    repository = open_repository(project)
    write(project, repository)
    repository.commit_written()
    assert diff(repository.changed(), repository.head()) == ()
    fields = {**TEAMS["data-team"], "env": [{"name": "TONE", "value": "dry {{ . }}"}], "replicas": 1}
    write_project(project_dir, {"data-team": fields})
    project = find_project(project_dir)
    planned = diff(unwritten(project, repository), repository.head())
    assert {(each.environment, each.team, each.kind, each.status) for each in planned} == {
        ("dev", "data-team", "ConfigMap", "changed"),
        ("dev", "data-team", "Deployment", "changed"),
    }
    (config,) = (each for each in planned if each.kind == "ConfigMap")
    assert config.lines[:2] == ("--- ConfigMap/data-team-config", "+++ ConfigMap/data-team-config")
    assert [line for line in config.lines[2:] if line[0] in "+-"] == ["+  TONE: dry {{ . }}"]
    write(project, repository)
    assert diff(repository.changed(), repository.head()) == planned


def test_what_comes_and_what_goes(project_dir: Path) -> None:
    done = elf("gitops", "diff", "--unwritten", "--json", cwd=project_dir)
    assert done.returncode == 1
    assert "objects would change" in done.stderr
    objects = json.loads(done.stdout)["objects"]
    assert {each["status"] for each in objects} == {"added"}
    assert {"AppProject", "ApplicationSet", "Application", "Namespace", "Deployment"} <= {
        each["kind"] for each in objects
    }
    project = find_project(project_dir)
    repository = open_repository(project)
    write(project, repository)
    repository.commit_written()
    gone = diff(Change({"environments/dev/data-team": None}), repository.head())
    assert {each.status for each in gone} == {"removed"}
    assert elf("gitops", "diff", cwd=project_dir).stdout == "✓ no object would change\n"


def test_what_a_secret_holds_is_not_shown(project_dir: Path) -> None:
    project = find_project(project_dir)
    repository = open_repository(project)
    write(project, repository)
    repository.commit_written()
    place = "bootstrap/mine.yaml"

    def secret(*values: str) -> Change:
        data = "".join(f"  key{number}: {value}\n" for number, value in enumerate(values))
        text = f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: mine\nstringData:\n{data}"
        return Change({place: {"": text.encode()}})

    repository.commit(secret("stays", "first"))
    (found,) = diff(secret("stays", "second"), repository.head())
    assert found.status == "changed"
    assert [line for line in found.lines if line[0] in "+-"][2:] == [
        "-  key1: (hidden, before)",
        "+  key1: (hidden, after)",
    ]
    assert not [line for line in found.lines if "first" in line or "second" in line or "stays" in line]
    assert git(project_dir / "gitops", "status", "--porcelain") == ""
