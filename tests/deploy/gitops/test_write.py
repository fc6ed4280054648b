"""What `elf gitops write` leaves on disk."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from elf_sdk.deploy.chart import load_templates, templates_directory
from elf_sdk.deploy.gitops.argocd import KINDS
from elf_sdk.deploy.gitops.choice import Asked
from elf_sdk.deploy.gitops.clone import open_repository
from elf_sdk.deploy.gitops.write import Written, write
from elf_sdk.deploy.helm import EmbeddedHelm
from elf_sdk.deploy.kubernetes import parse_manifests
from elf_sdk.deploy.package import package
from elf_sdk.errors import BadInput
from elf_sdk.files import list_tree
from elf_sdk.team.project import find_project
from tests.deploy.gitops.remotes import git
from tests.deploy.organisations import TEAMS, elf, write_project

LIBRARY = f"charts/elf-team-{load_templates().library_version}.tgz"


def written(project_dir: Path, **asked: Any) -> Written:
    project = find_project(project_dir)
    return write(project, open_repository(project), Asked(**asked))


def root(project_dir: Path) -> Path:
    return project_dir / "gitops" / "gitops"


def tree(directory: Path) -> dict[str, bytes]:
    return {path: (directory / path).read_bytes() for path in list_tree(directory)}


def load(file: Path) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(file.read_text()) if each]


def test_the_first_environment_is_written_and_no_other(project_dir: Path) -> None:
    done = elf("gitops", "write", cwd=project_dir)
    assert done.returncode == 0, done.stderr
    assert "dev: brand-team 0.1.0 comes, image by its tag" in done.stdout
    there = set(list_tree(root(project_dir)))
    assert {path for path in there if not path.startswith("environments/")} == {
        "applicationsets/dev.yaml",
        "applicationsets/prod.yaml",
        "applicationsets/staging.yaml",
        "bootstrap/namespaces.yaml",
        "bootstrap/root.yaml",
        *(f"projects/{team}-dev.yaml" for team in TEAMS),
    }
    assert {path.split("/")[1] for path in there if path.startswith("environments/")} == {"dev"}
    assert {path for path in there if path.startswith("environments/dev/brand-team/")} == {
        f"environments/dev/brand-team/{name}"
        for name in (
            "Chart.yaml",
            "app.yaml",
            LIBRARY,
            "templates/team.yaml",
            "values-dev.yaml",
            "values.schema.json",
            "values.yaml",
        )
    }


def test_at_the_start_every_environment_can_be_written(project_dir: Path) -> None:
    written(project_dir, all_environments=True)
    environments = root(project_dir) / "environments"
    assert sorted(path.name for path in environments.iterdir()) == ["dev", "prod", "staging"]
    # One chart: what differs between environments stands in the file of the environment alone.
    for name in ("values.yaml", "Chart.yaml", LIBRARY, "values.schema.json"):
        assert (
            len({(environments / each / "data-team" / name).read_bytes() for each in ("dev", "staging", "prod")}) == 1
        )
    git(project_dir / "gitops", "add", "-A")
    git(project_dir / "gitops", "commit", "--quiet", "-m", "all of it")
    assert written(project_dir, all_environments=True).places == ()
    write_project(project_dir, {"data-team": {**TEAMS["data-team"], "placement": "another"}})
    with pytest.raises(BadInput, match="staging has teams already, and data-team would change there"):
        written(project_dir, all_environments=True)
    assert written(project_dir).places == ("environments/dev/data-team",)


def test_a_directory_renders_to_what_the_packaged_chart_does(project_dir: Path, embedded: EmbeddedHelm) -> None:
    written(project_dir, all_environments=True)
    charts = package(find_project(project_dir), output=project_dir / "charts").output
    for environment in ("dev", "staging", "prod"):
        objects = []
        for chart in (charts / "chief-team", root(project_dir) / "environments" / environment / "chief-team"):
            text = embedded.render(
                chart, chart / f"values-{environment}.yaml", release="chief-team", namespace="elf-teams"
            )
            objects.append(sorted(parse_manifests(text), key=lambda each: str(each["kind"])))
        assert objects[0] == objects[1]


def test_where_an_application_goes_is_data_and_its_project_is_not(project_dir: Path) -> None:
    written(project_dir)
    for environment in ("dev", "staging", "prod"):
        (made,) = load(root(project_dir) / f"applicationsets/{environment}.yaml")
        spec = made["spec"]
        template = spec["template"]
        assert spec["goTemplateOptions"] == ["missingkey=error"]
        assert template["spec"]["project"] == template["metadata"]["name"] == f"{{{{ .path.basename }}}}-{environment}"
        assert "project" not in spec["templatePatch"]
        # Every other word that a template takes stands in each app.yaml.
        app = load(root(project_dir) / "environments/dev/brand-team/app.yaml")[0]
        words = set(re.findall(r"\{\{[^}]*?\.(\w+)", json.dumps(spec))) - {"path"}
        assert words == {"server", "namespace", "sync", "state"}
        assert words < set(app)
    (project,) = load(root(project_dir) / "projects/brand-team-dev.yaml")
    assert project["spec"]["sourceRepos"] == [spec["generators"][0]["git"]["repoURL"]]
    assert project["spec"]["destinations"] == [{"server": app["server"], "namespace": app["namespace"]}]
    assert project["spec"]["clusterResourceWhitelist"] == []


def test_prod_keeps_what_it_has_and_waits_for_a_person(project_dir: Path) -> None:
    written(project_dir, all_environments=True)
    policies = {
        name: load(root(project_dir) / f"applicationsets/{name}.yaml")[0]["spec"]["syncPolicy"]
        for name in ("dev", "staging", "prod")
    }
    assert policies["prod"] == {"applicationsSync": "create-update", "preserveResourcesOnDeletion": True}
    assert policies["dev"] == policies["staging"] == {"applicationsSync": "sync", "preserveResourcesOnDeletion": False}
    syncs = {name: load(root(project_dir) / f"environments/{name}/brand-team/app.yaml")[0]["sync"] for name in policies}
    assert syncs == {"dev": "auto", "staging": "auto", "prod": "manual"}


def test_environments_say_how_they_sync_and_where_they_are(tmp_path: Path, remote: Path) -> None:
    organisation = {
        "gitops": {
            "url": remote.as_uri(),
            "path": "deploy/elf",
            "branch": "live",
            "argocd_namespace": "openshift-gitops",
        },
        "clusters": [
            {"name": "in-cluster", "server": "https://kubernetes.default.svc"},
            {"name": "far", "server": "https://far.example.com:6443"},
        ],
        "environments": [{"name": "dev", "sync": "manual"}, {"name": "prod", "cluster": "far", "sync": "rolling"}],
    }
    teams = {"brand-team": {"environments": {"prod": {"namespace": "brand"}, "dev": {"sync": "auto"}}}}
    project_dir = write_project(tmp_path / "p", teams, organisation)
    written(project_dir, all_environments=True)
    directory = project_dir / "gitops" / "deploy/elf"
    apps = {each: load(directory / f"environments/{each}/brand-team/app.yaml")[0] for each in ("dev", "prod")}
    assert (apps["dev"]["sync"], apps["prod"]["sync"]) == ("auto", "manual")
    assert (apps["prod"]["server"], apps["prod"]["namespace"]) == ("https://far.example.com:6443", "brand")
    (rolling,) = load(directory / "applicationsets/prod.yaml")
    assert rolling["spec"]["strategy"]["type"] == "RollingSync"
    assert rolling["metadata"]["namespace"] == "openshift-gitops"
    assert rolling["spec"]["generators"][0]["git"]["revision"] == "refs/heads/live"
    far = {each["metadata"]["name"] for each in load(directory / "clusters/far/namespaces.yaml")}
    assert far == {"brand", "elf-teams"}
    applications = [each for each in load(directory / "bootstrap/root.yaml") if each["kind"] == "Application"]
    assert [each["spec"]["destination"]["server"] for each in applications] == [
        "https://kubernetes.default.svc",
        "https://far.example.com:6443",
    ]


def test_every_namespace_is_restricted(project_dir: Path) -> None:
    written(project_dir)
    for each in load(root(project_dir) / "bootstrap/namespaces.yaml"):
        labels = each["metadata"]["labels"]
        assert {labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "audit", "warn")} == {"restricted"}


def test_a_project_allows_every_kind_that_a_chart_renders() -> None:
    allowed = {kind for _, kind in KINDS}
    for file in (templates_directory() / "elf-team/templates").iterdir():
        # Of objects, and not of what they refer to: those stand further in. Tests are run by Helm, and not by Argo CD.
        if "helm.sh/hook" not in file.read_text():
            assert set(re.findall(r"^kind: (\w+)$", file.read_text(), re.MULTILINE)) <= allowed, file.name


def test_edges_are_those_to_teams_that_are_there(project_dir: Path) -> None:
    written(project_dir, teams=("brand-team",))
    values = load(root(project_dir) / "environments/dev/brand-team/values-dev.yaml")[0]
    assert "edges" not in values
    written(project_dir)
    values = load(root(project_dir) / "environments/dev/brand-team/values-dev.yaml")[0]
    assert [peer["team"] for peer in values["edges"]["callers"]] == ["chief-team", "data-team"]


def test_only_what_changed_is_rewritten(project_dir: Path) -> None:
    written(project_dir)
    elf("gitops", "commit", cwd=project_dir)
    directory = root(project_dir)
    before = {path: (directory / path).stat().st_mtime_ns for path in list_tree(directory)}
    assert written(project_dir).places == ()
    write_project(project_dir, {"data-team": {**TEAMS["data-team"], "placement": "another"}})
    assert written(project_dir).places == ("environments/dev/data-team",)
    write_project(project_dir, {"brand-team": {**TEAMS["brand-team"], "placement": "another"}})
    assert written(project_dir).places == ("environments/dev/brand-team", "environments/dev/data-team")
    after = {path: (directory / path).stat().st_mtime_ns for path in list_tree(directory)}
    assert {path.split("/")[2] for path in before if before[path] != after[path]} == {"brand-team", "data-team"}


def test_what_is_written_is_committed_whatever_is_being_typed_in_a_team(project_dir: Path) -> None:
    written(project_dir)
    (project_dir / "teams/data-team/team.yaml").write_text("name: [")
    done = elf("gitops", "commit", cwd=project_dir)
    assert done.returncode == 0, done.stderr
    assert git(project_dir / "gitops", "status", "--porcelain") == ""
    (project_dir / "elf.yaml").write_text("gitops: [")
    refused = elf("gitops", "commit", cwd=project_dir)
    assert refused.returncode == 2
    assert "elf.yaml:1: this is not YAML" in refused.stderr


def test_a_pipe_in_the_clone_does_not_hold_anything_up(project_dir: Path) -> None:
    written(project_dir)
    os.mkfifo(root(project_dir) / "environments/dev/data-team/pipe")
    os.mkfifo(root(project_dir) / "projects/pipe")
    done = elf("gitops", "commit", cwd=project_dir)
    assert done.returncode == 0, done.stderr


def test_what_is_taken_back_in_team_yaml_is_taken_back_on_disk(project_dir: Path) -> None:
    written(project_dir)
    elf("gitops", "commit", cwd=project_dir)
    before = tree(root(project_dir))
    write_project(project_dir, {"data-team": {**TEAMS["data-team"], "placement": "another"}})
    written(project_dir)
    write_project(project_dir, TEAMS)
    assert written(project_dir).places == ()
    assert tree(root(project_dir)) == before
    assert git(project_dir / "gitops", "status", "--porcelain") == ""


def test_check_changes_nothing_and_says_what_is_behind(project_dir: Path) -> None:
    done = elf("gitops", "write", "--check", cwd=project_dir)
    assert done.returncode == 1
    assert "run elf gitops write" in done.stderr
    assert not root(project_dir).exists()
    elf("gitops", "write", cwd=project_dir)
    elf("gitops", "commit", cwd=project_dir)
    assert elf("gitops", "write", "--check", cwd=project_dir).returncode == 0
    body = json.loads(elf("gitops", "write", "--check", "--json", cwd=project_dir).stdout)
    assert (body["ok"], body["places"]) == (True, [])


def test_a_team_that_cannot_be_a_chart_replaces_nothing(project_dir: Path) -> None:
    written(project_dir)
    before = tree(root(project_dir))
    write_project(project_dir, {"data-team": {**TEAMS["data-team"], "env": [{"name": "HOME", "value": "/"}]}})
    done = elf("gitops", "write", cwd=project_dir)
    assert done.returncode == 2
    assert "data-team/team.yaml:1: env[0].name: in a cluster the chart sets HOME itself" in done.stderr
    assert tree(root(project_dir)) == before


def test_a_file_of_ones_own_in_a_team_s_directory_is_never_taken_away(project_dir: Path) -> None:
    written(project_dir)
    (root(project_dir) / "environments/dev/data-team/notes.txt").write_text("mine")
    (root(project_dir) / "README.md").write_text("mine too")
    write_project(project_dir, {team: {**fields, "purpose": "another"} for team, fields in TEAMS.items()})
    with pytest.raises(BadInput, match=r"notes\.txt, which elf gitops did not write"):
        written(project_dir)
    (root(project_dir) / "environments/dev/data-team/notes.txt").unlink()
    written(project_dir)
    assert (root(project_dir) / "README.md").read_text() == "mine too"


def test_the_same_input_gives_the_same_bytes(project_dir: Path, tmp_path: Path, remote: Path) -> None:
    assert elf("gitops", "write", cwd=project_dir, PYTHONHASHSEED="1").returncode == 0
    other = write_project(tmp_path / "other", TEAMS, {"gitops": {"url": remote.as_uri()}})
    old = os.umask(0o077)
    try:
        assert elf("gitops", "write", cwd=other, PYTHONHASHSEED="2", TZ="Asia/Tokyo").returncode == 0
    finally:
        os.umask(old)
    assert tree(root(other)) == tree(root(project_dir))


def test_a_team_that_is_gone_goes_only_when_somebody_said_so(project_dir: Path, remote: Path) -> None:
    written(project_dir, all_environments=True)
    elf("gitops", "commit", cwd=project_dir)
    for team in ("brand-team", "data-team"):
        (project_dir / "teams" / team / "team.yaml").unlink()
    write_project(project_dir, {"chief-team": {"placement": "executive"}})
    before = tree(root(project_dir))
    with pytest.raises(BadInput, match=r"brand-team, data-team would be removed.*--allow-remove 2"):
        written(project_dir)
    with pytest.raises(BadInput, match="--allow-remove 2"):
        written(project_dir, allow_remove=1)
    assert tree(root(project_dir)) == before
    done = written(project_dir, allow_remove=2)
    there = {path for path in list_tree(root(project_dir)) if "brand-team" in path or "data-team" in path}
    assert there
    assert all("environments/prod/" in path or path.endswith("-prod.yaml") for path in there)
    assert [warning for warning in done.warnings if "elf remove data-team --env prod" in warning]


def test_an_archived_team_leaves_by_itself(project_dir: Path, remote: Path) -> None:
    written(project_dir)
    elf("gitops", "commit", cwd=project_dir)
    (project_dir / "teams/data-team/team.yaml").unlink()
    gitops = {"gitops": {"url": remote.as_uri()}}
    kept: dict[str, dict[str, Any]] = {
        "chief-team": {"manages": ["brand-team"]},
        "brand-team": {"reports_to": "chief-team"},
    }
    write_project(project_dir, kept, {**gitops, "archived": ["data-team", "brand-team"]})
    with pytest.raises(BadInput, match=r"'brand-team' is archived in elf\.yaml"):
        written(project_dir)
    write_project(project_dir, kept, {**gitops, "archived": ["data-team"]})
    assert "dev: data-team 0.1.0 goes" in [str(step) for step in written(project_dir).steps]


def test_a_project_without_a_team_empties_nothing(project_dir: Path) -> None:
    written(project_dir)
    before = tree(root(project_dir))
    for team in TEAMS:
        (project_dir / "teams" / team / "team.yaml").unlink()
    done = elf("gitops", "write", "--allow-remove", "9", cwd=project_dir)
    assert done.returncode == 2
    assert "there is no team in" in done.stderr
    assert tree(root(project_dir)) == before
