"""`elf ci init`: what it writes is right by the forges' own schemas, gives nothing away, and its steps run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import jsonschema_rs
import pytest
import yaml

from elf_sdk.cli import elf as command_line
from elf_sdk.deploy.pipeline.github import github
from elf_sdk.deploy.pipeline.gitlab import gitlab
from elf_sdk.deploy.pipeline.pipeline import pipeline_of
from elf_sdk.deploy.pipeline.write import write_pipeline
from elf_sdk.team.project import find_project
from tests.deploy.organisations import elf, write_project

ROOT = Path(__file__).parents[2]
Forge = Literal["github", "gitlab"]
FILES: dict[Forge, tuple[str, ...]] = {
    "github": (".github/workflows/elf.yaml", ".github/workflows/elf-promote.yaml"),
    "gitlab": (".gitlab/elf.yml", ".gitlab-ci.yml"),
}

TEAM = """\
from elf_sdk import FunctionAdapter, FunctionContext, TeamServer


async def answer(ctx: FunctionContext) -> str:
    return "a lamp"


class BrandTeam(TeamServer):
    adapter = FunctionAdapter(answer)
"""
EVAL = """\
format: elf/v1
name: says what it makes
turns:
  - say: What do you make?
    expect: [{contains: lamp}]
"""


def git(*arguments: str, cwd: Path) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments]
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A project in a git repository with a remote, as a pipeline finds it."""
    root = write_project(tmp_path / "work", {"brand-team": {"llm": {"provider": "offline"}}, "data-team": {}})
    (root / "elf.yaml").write_text(json.dumps({"name": "lumen", "registry": "registry.example.com/agents"}))
    git("init", "--quiet", "--bare", "--initial-branch=main", str(tmp_path / "remote.git"), cwd=tmp_path)
    git("init", "--quiet", "--initial-branch=main", cwd=root)
    git("remote", "add", "origin", str(tmp_path / "remote.git"), cwd=root)
    git("add", "--all", cwd=root)
    git("commit", "--quiet", "--message", "Teams", cwd=root)
    git("push", "--quiet", "origin", "main", cwd=root)
    return root


def written(repository: Path, forge: Forge) -> dict[str, Any]:
    pipeline = pipeline_of(find_project(repository), ".")
    write_pipeline(repository, github(pipeline) if forge == "github" else gitlab(pipeline))
    return {name: yaml.safe_load((repository / name).read_text()) for name in FILES[forge]}


@pytest.mark.parametrize("forge", ["github", "gitlab"])
def test_the_files_are_right_by_the_forges_own_schema(forge: Forge, repository: Path) -> None:
    package = find_spec("check_jsonschema")
    assert package is not None
    assert package.submodule_search_locations
    place = Path(package.submodule_search_locations[0]) / "builtin_schemas/vendor"
    schema = json.loads((place / ("github-workflows.json" if forge == "github" else "gitlab-ci.json")).read_bytes())
    validator = jsonschema_rs.validator_for(schema)
    for name, content in written(repository, forge).items():
        # YAML 1.1 takes the key `on` for a boolean.
        document = {("on" if key is True else key): value for key, value in content.items()}
        assert [f"{name}: {error.message}" for error in validator.iter_errors(document)] == []


def test_actionlint_has_nothing_to_say(repository: Path) -> None:
    program = os.environ.get("ELF_ACTIONLINT") or shutil.which("actionlint")
    if program is None:
        pytest.skip("there is no actionlint on the PATH, and ELF_ACTIONLINT names none")
    written(repository, "github")
    done = subprocess.run([program, "-no-color"], cwd=repository, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_nothing_is_taken_by_a_name_that_can_move(repository: Path) -> None:
    for workflow in written(repository, "github").values():
        for job in workflow["jobs"].values():
            used = [step["uses"] for step in job["steps"] if "uses" in step]
            assert used
            assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", each) for each in used)
            assert re.fullmatch(r"ubuntu-\d\d\.04", job["runs-on"])
    jobs = written(repository, "gitlab")[".gitlab/elf.yml"]
    assert re.fullmatch(r"python:[\w.-]+@sha256:[0-9a-f]{64}", jobs[".elf"]["image"])


def test_a_job_may_no_more_than_it_needs_and_no_script_holds_what_people_type(repository: Path) -> None:
    for workflow in written(repository, "github").values():
        assert workflow["permissions"] == {"contents": "read"}
        for job in workflow["jobs"].values():
            for step in job["steps"]:
                assert "${{" not in step.get("run", "")
    check = written(repository, "github")[".github/workflows/elf.yaml"]["jobs"]["check"]
    assert "permissions" not in check
    assert check["steps"][0]["with"]["persist-credentials"] is False


def test_each_model_key_is_named_and_none_is_there(tmp_path: Path) -> None:
    teams = {"brand-team": {"llm": {"provider": "openai", "model": "gpt", "fallbacks": [{"provider": "anthropic"}]}}}
    project = find_project(write_project(tmp_path, teams))
    pipeline = pipeline_of(project, ".")
    assert pipeline.keys == ("ANTHROPIC_API_KEY", "OPENAI_API_KEY")
    text = "".join(github(pipeline).values())
    assert 'OPENAI_API_KEY: "${{ secrets.OPENAI_API_KEY }}"' in text
    assert not re.search(r"sk-|ghp_|glpat-", text + "".join(gitlab(pipeline).values()))


def test_a_file_that_somebody_changed_stays(repository: Path) -> None:
    written(repository, "github")
    file = repository / FILES["github"][0]
    assert elf("ci", "init", "--github", "--branch", "trunk", cwd=repository).stdout.startswith("updated ")
    file.write_text(file.read_text().replace("ubuntu-24.04", "ours"))
    before = file.read_bytes()
    done = elf("ci", "init", "--github", cwd=repository)
    assert done.returncode == 1
    assert f"{FILES['github'][0]} was changed by somebody; compare, then --force replaces it" in done.stderr
    assert file.read_bytes() == before
    done = elf("ci", "init", "--github", "--force", cwd=repository)
    assert done.returncode == 0
    assert "replaced   .github/workflows/elf.yaml" in done.stdout
    (repository / ".gitlab-ci.yml").write_text("stages: [ours]\n")
    done = elf("ci", "init", "--gitlab", cwd=repository)
    assert done.returncode == 0
    assert ".gitlab-ci.yml was changed by somebody; make sure that it includes .gitlab/elf.yml" in done.stderr
    assert (repository / ".gitlab-ci.yml").read_text() == "stages: [ours]\n"


def test_nothing_is_written_through_a_link(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (repository / ".github").symlink_to(tmp_path / "elsewhere")
    done = elf("ci", "init", "--github", cwd=repository)
    assert done.returncode == 2
    assert "leads out of the repository" in done.stderr
    assert list((tmp_path / "elsewhere").iterdir()) == []
    for forges in ((), ("--github", "--gitlab")):
        done = elf("ci", "init", *forges, cwd=repository)
        assert done.returncode == 2
        assert "say for which forge, one at a time" in done.stderr


def test_a_project_below_its_repository_is_gone_to_first(tmp_path: Path) -> None:
    git("init", "--quiet", cwd=tmp_path)
    write_project(tmp_path / "agents", {"brand-team": {}})
    done = elf("ci", "init", "--github", cwd=tmp_path / "agents")
    assert done.returncode == 0, done.stderr
    workflow = yaml.safe_load((tmp_path / FILES["github"][0]).read_text())
    assert workflow["defaults"]["run"]["working-directory"] == "agents"


FOREIGN = re.compile(r"\b(pip install|apt-get|docker login|buildah login|elf image|gh pr create)\b")
"""What needs a service that is not here: an index, a registry, a builder, a forge."""


def scripts(files: dict[str, Any], forge: Forge) -> Iterator[tuple[str, str]]:
    """Every script of a pipeline, by its job."""
    for content in files.values():
        if forge == "github":
            for name, job in content["jobs"].items():
                yield from ((name, step["run"]) for step in job["steps"] if "run" in step)
        else:
            for name, job in content.items():
                if isinstance(job, dict):
                    yield from ((name, script) for script in [*job.get("before_script", ()), *job.get("script", ())])


@pytest.mark.parametrize("forge", ["github", "gitlab"])
def test_the_steps_run_as_far_as_they_need_nobody_else(forge: Forge, repository: Path, tmp_path: Path) -> None:
    """From a commit with an image's digest to a branch of the GitOps repository that proposes it."""
    files = written(repository, forge)
    (repository / "teams/brand-team/team.py").write_text(TEAM)
    (repository / "teams/brand-team/evals").mkdir()
    (repository / "teams/brand-team/evals/lamp.yaml").write_text(EVAL)
    (repository / "teams/brand-team/images.lock.yaml").write_text(f"dev: sha256:{'a' * 64}\n")
    gitops = tmp_path / "gitops.git"
    git("init", "--quiet", "--bare", "--initial-branch=main", str(gitops), cwd=tmp_path)
    git("config", "receive.advertisePushOptions", "true", cwd=gitops)
    git("config", "receive.advertisePushOptions", "true", cwd=tmp_path / "remote.git")
    git("clone", "--quiet", str(gitops), str(tmp_path / "seed"), cwd=tmp_path)
    git("commit", "--quiet", "--allow-empty", "--message", "Start", cwd=tmp_path / "seed")
    git("push", "--quiet", "origin", "HEAD:main", cwd=tmp_path / "seed")
    (tmp_path / "home").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/elf").write_text(f'#!/bin/sh\nexec {sys.executable} -m elf_sdk "$@"\n')
    (tmp_path / "bin/elf").chmod(0o755)
    # On GitLab the remote is named by a variable of the forge, here to the same place.
    (tmp_path / "remote.git.git").symlink_to(tmp_path / "remote.git")
    environ = {
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path / "home"),
        "BRANCH": "elf/1",
        "DELIVERED": "main",
        "GITOPS_REPO_URL": str(gitops),
        "GITOPS_TOKEN": "unused",
        "CI_PROJECT_URL": str(tmp_path / "remote.git"),
        **{f"GIT_{who}_{what}": "elf@noreply.invalid" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    ran: list[str] = []
    for job, script in scripts(files, forge):
        if "promote" in job or FOREIGN.search(script):
            continue
        missing = {name for name in re.findall(r"\belf (\w+)", script) if name not in command_line.list_commands(None)}  # type: ignore[arg-type]
        if missing:
            continue
        ran.append(script)
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", script],
            cwd=repository,
            env=environ,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    everything = "".join(ran)
    for command in ("elf check", "elf package", "elf eval", "elf gitops push", "git push origin"):
        if command.split()[1] in command_line.list_commands(None) or "git push" in command:  # type: ignore[arg-type]
            assert command in everything
    recorded = git("show", "--stat", "main", cwd=tmp_path / "remote.git")
    assert "Record the images that run" in recorded
    assert "teams/brand-team/images.lock.yaml" in recorded
    if "elf gitops push" in everything:
        proposed = git("ls-tree", "-r", "--name-only", "elf/1", cwd=gitops)
        assert "environments/dev/brand-team/app.yaml" in proposed
