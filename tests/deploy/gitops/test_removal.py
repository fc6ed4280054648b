"""How a team leaves an environment."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from elf_sdk.deploy.gitops.change import Change
from elf_sdk.deploy.gitops.choice import Asked
from elf_sdk.deploy.gitops.clone import open_repository
from elf_sdk.deploy.gitops.removal import remove
from elf_sdk.deploy.gitops.write import push, write
from elf_sdk.errors import BadInput
from elf_sdk.team.project import find_project
from tests.deploy.gitops.remotes import files, git, show
from tests.deploy.organisations import elf

CLAIM = """\
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: data-team
  namespace: elf-teams
  annotations:
    argocd.argoproj.io/sync-options: Prune=false
    note: {{ print "{{ not a template }}" | quote }}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Gi}}
"""


@pytest.fixture
def everywhere(project_dir: Path) -> Path:
    project = find_project(project_dir)
    repository = open_repository(project)
    write(project, repository, Asked(all_environments=True))
    repository.commit_written()
    push(project, repository)
    return project_dir


def test_prod_is_left_in_two_commits(everywhere: Path, remote: Path) -> None:
    project = find_project(everywhere)
    repository = open_repository(project)
    place = "environments/prod/data-team"
    tree = repository.head().read(place)
    assert tree is not None
    repository.commit(Change({place: {**tree, "templates/claim.yaml": CLAIM.encode()}}, "test"))
    first = remove("data-team", "prod", project, repository, allowed=1)
    assert not first.last
    assert first.kept == ("PersistentVolumeClaim/data-team",)
    assert first.next == (
        "elf gitops push",
        "sync it with pruning: argocd app sync data-team-prod --prune",
        "when its pods are gone: elf remove data-team --env prod",
    )
    push(project, repository)
    assert {path for path in files(remote) if path.startswith(place)} == {
        f"{place}/{name}"
        for name in ("Chart.yaml", "app.yaml", "templates/kept.yaml", "values-prod.yaml", "values.yaml")
    }
    app = yaml.safe_load(show(remote, f"{place}/app.yaml"))
    assert app["state"] == "leaving"
    (kept,) = yaml.safe_load(show(remote, f"{place}/values.yaml"))["kept"]
    assert kept["metadata"]["annotations"]["note"] == "{{ not a template }}"
    assert "projects/data-team-prod.yaml" in files(remote)
    second = remove("data-team", "prod", project, repository, allowed=1)
    assert second.last
    assert second.kept == ("PersistentVolumeClaim/data-team",)
    assert second.next[-1].endswith("kubectl delete application data-team-prod --namespace argocd")
    push(project, repository)
    assert not [path for path in files(remote) if "data-team" in path and "prod" in path]
    assert [path for path in files(remote) if path.startswith("environments/staging/data-team")]
    assert git(everywhere / "gitops", "status", "--porcelain", "--branch") == "## main...origin/main\n"


def test_elsewhere_in_one(everywhere: Path) -> None:
    done = elf("remove", "data-team", "--env", "dev", "--allow-remove", "1", cwd=everywhere)
    assert done.returncode == 0, done.stderr
    assert "data-team is gone in dev" in done.stdout
    assert done.stdout.endswith("1. elf gitops push\n")
    assert not (everywhere / "gitops/gitops/environments/dev/data-team").exists()


def test_who_is_not_archived_stays_unless_somebody_insists(everywhere: Path) -> None:
    project = find_project(everywhere)
    repository = open_repository(project)
    before = repository.head().commit
    with pytest.raises(BadInput, match="--allow-remove 1"):
        remove("data-team", "prod", project, repository)
    with pytest.raises(BadInput, match="there is no team ghost-team in prod; there are: brand-team, chief-team"):
        remove("ghost-team", "prod", project, repository, allowed=1)
    with pytest.raises(BadInput, match="there is no environment 'live'"):
        remove("data-team", "live", project, repository, allowed=1)
    assert repository.head().commit == before
