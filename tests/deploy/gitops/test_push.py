"""Commits and pushes, on a real remote."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from elf_sdk.deploy.gitops.choice import Asked
from elf_sdk.deploy.gitops.clone import open_repository
from elf_sdk.deploy.gitops.repository import Repository
from elf_sdk.deploy.gitops.write import push, write
from elf_sdk.errors import BadInput, ElfError, Failure, Retryable
from elf_sdk.team.project import Project, find_project
from tests.deploy.gitops.remotes import bare, files, git, show, state
from tests.deploy.organisations import TEAMS, elf, write_project


def opened(project_dir: Path) -> tuple[Project, Repository]:
    project = find_project(project_dir)
    return project, open_repository(project)


def committed(project_dir: Path, *teams: str) -> tuple[Project, Repository]:
    project, repository = opened(project_dir)
    write(project, repository, Asked(teams))
    assert repository.commit_written()
    return project, repository


def another(project_dir: Path, tmp_path: Path, name: str) -> Path:
    """The same project on another machine, with a clone of its own."""
    organisation = json.loads((project_dir / "elf.yaml").read_text())
    return write_project(tmp_path / name, TEAMS, organisation)


def test_written_committed_and_pushed(project_dir: Path, remote: Path, tmp_path: Path) -> None:
    for command in ("write", "commit", "push"):
        done = elf("gitops", command, cwd=project_dir)
        assert done.returncode == 0, done.stderr
    assert "1 commit on main of file://" in done.stdout
    assert "environments/dev/chief-team/app.yaml" in files(remote)
    said = git(remote, "log", "-1", "--format=%B%an %ae")
    assert said.splitlines()[0] == "Add 3 teams to dev"
    assert "dev: data-team 0.1.0 comes, image by its tag" in said
    assert "Elf-Operation: write" in said
    assert said.strip().endswith("Ada ada@example.com")
    clone = project_dir / "gitops"
    assert git(clone, "status", "--porcelain", "--branch") == "## main...origin/main\n"
    assert git(clone, "for-each-ref", "refs/elf") == ""
    git(tmp_path, "clone", "--quiet", str(remote), "fresh")
    assert git(tmp_path / "fresh", "fsck", "--strict", "--no-dangling") == ""
    assert elf("gitops", "push", cwd=project_dir).stdout.endswith("has everything already\n")
    assert "nothing to commit" in elf("gitops", "commit", cwd=project_dir).stdout


def test_a_commit_says_what_moves(project_dir: Path, remote: Path) -> None:
    committed(project_dir)
    digest = f"sha256:{'a' * 64}"
    (project_dir / "teams/data-team/images.lock.yaml").write_text(f"dev: {digest}\n")
    write_project(project_dir, {"data-team": {**TEAMS["data-team"], "version": "0.2.0"}})
    project, repository = committed(project_dir)
    push(project, repository)
    said = git(remote, "log", "-1", "--format=%B")
    assert said.splitlines()[0] == "Move data-team to 0.2.0 in dev"
    assert f"dev: data-team 0.1.0 → 0.2.0, image by its tag → {digest}" in said


def test_whoever_comes_second_is_made_anew_on_the_first(project_dir: Path, remote: Path, tmp_path: Path) -> None:
    push(*committed(project_dir, "chief-team"))
    other = another(project_dir, tmp_path, "other")
    one, two = committed(project_dir, "brand-team"), committed(other, "data-team")
    assert push(*one).attempts == 1
    assert push(*two).commits
    assert {"brand-team", "chief-team", "data-team"} == {
        path.split("/")[2] for path in files(remote) if path.startswith("environments/")
    }
    assert git(remote, "log", "--format=%s").splitlines() == [
        "Add data-team 0.1.0 to dev",
        "Add brand-team 0.1.0 to dev",
        "Add chief-team 0.1.0 to dev",
    ]
    # Made anew, and not only put on top: the second knows of the first.
    assert "brand-team" in show(remote, "environments/dev/data-team/values-dev.yaml")
    assert git(other / "gitops", "status", "--porcelain", "--branch") == "## main...origin/main\n"


def test_pairs_of_pushers_lose_nothing(project_dir: Path, remote: Path, tmp_path: Path) -> None:
    push(*committed(project_dir))
    pushers = [project_dir, another(project_dir, tmp_path, "other")]

    def change(pusher: int, turn: int) -> None:
        team = ("brand-team", "data-team")[pusher]
        write_project(pushers[pusher], {team: {**TEAMS[team], "version": f"1.{turn}.0"}})
        push(*committed(pushers[pusher], team))

    turns = 4
    with ThreadPoolExecutor(2) as pool:
        for turn in range(turns):
            for done in [pool.submit(change, pusher, turn) for pusher in range(2)]:
                done.result()
    titles = git(remote, "log", "--format=%s").splitlines()
    for team in ("brand-team", "data-team"):
        assert [title for title in reversed(titles) if title.startswith(f"Move {team}")] == [
            f"Move {team} to 1.{turn}.0 in dev" for turn in range(turns)
        ]
        assert f'version: "1.{turns - 1}.0"' in show(remote, f"environments/dev/{team}/app.yaml")


def test_a_branch_for_a_review(project_dir: Path, remote: Path) -> None:
    push(*committed(project_dir))
    write_project(project_dir, {"data-team": {**TEAMS["data-team"], "version": "0.2.0"}})
    assert elf("gitops", "write", cwd=project_dir).returncode == 0
    done = elf("gitops", "commit", "--branch", "data-0.2.0", cwd=project_dir)
    assert done.returncode == 0, done.stderr
    # It waits on its branch; the clone is where it was.
    assert git(project_dir / "gitops", "status", "--porcelain", "--branch") == "## main...origin/main\n"
    done = elf("gitops", "push", "--branch", "data-0.2.0", cwd=project_dir)
    assert done.returncode == 0, done.stderr
    assert 'version: "0.1.0"' in show(remote, "environments/dev/data-team/app.yaml")
    assert 'version: "0.2.0"' in show(remote, "environments/dev/data-team/app.yaml", "data-0.2.0")
    done = elf("gitops", "push", "--branch", "none", cwd=project_dir)
    assert done.returncode == 2
    assert "there is no branch none here" in done.stderr


def test_a_hook_that_refuses_is_heard_and_changes_nothing(project_dir: Path, remote: Path) -> None:
    hook = remote / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'permission denied: prod is frozen until Monday'\nexit 1\n")
    hook.chmod(0o755)
    project, repository = committed(project_dir)
    before = state(project_dir / "gitops")
    with pytest.raises(Failure, match=r"refuses main: .*prod is frozen until Monday.*nothing was pushed"):
        push(project, repository)
    assert state(project_dir / "gitops") == before
    assert git(remote, "for-each-ref") == ""


@pytest.fixture
def locked_door() -> Iterator[str]:
    """A server that wants a password."""

    class Door(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_request(self, code: object = "-", size: object = "-") -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/elf.git"
        server.shutdown()
        thread.join()


def test_a_remote_that_wants_a_password_is_told_from_one_that_is_away(
    project_dir: Path, remote: Path, locked_door: str, tmp_path: Path
) -> None:
    with pytest.raises(Failure, match="wants to know who asks, and git has no credentials"):
        open_repository(find_project(project_dir), locked_door, tmp_path / "clone")
    assert not (tmp_path / "clone").exists()
    project, repository = committed(project_dir)
    before = state(project_dir / "gitops")
    remote.rename(tmp_path / "away")
    with pytest.raises(Retryable, match=r"remote\.git cannot be reached"):
        push(project, repository)
    assert state(project_dir / "gitops") == before


def test_credentials_in_the_address_are_written_nowhere(project_dir: Path, locked_door: str) -> None:
    secret = locked_door.replace("http://", "http://ada:wordpass@")
    done = elf("gitops", "write", cwd=project_dir, GITOPS_REPO_URL=secret)
    assert done.returncode == 1
    assert "wordpass" not in done.stderr + done.stdout
    clone = project_dir / "own"
    git(project_dir, "init", "--quiet", str(clone))
    git(clone, "remote", "add", "origin", secret)
    done = elf("gitops", "write", "--clone", str(clone), cwd=project_dir, GITOPS_REPO_URL=secret)
    assert done.returncode == 0, done.stderr
    assert locked_door in (clone / "gitops/bootstrap/root.yaml").read_text()
    for file in (clone / "gitops").rglob("*.yaml"):
        assert "wordpass" not in file.read_text()


def _detach(clone: Path) -> None:
    git(clone, "switch", "--quiet", "--detach")


def _leave(clone: Path) -> None:
    git(clone, "switch", "--quiet", "--create", "mine")


def _begin_a_merge(clone: Path) -> None:
    (clone / ".git/MERGE_HEAD").write_text(git(clone, "rev-parse", "HEAD"))


@pytest.mark.parametrize(
    ("what", "said"),
    [(_detach, "on no branch"), (_leave, "on the branch mine"), (_begin_a_merge, "in the middle of a merge")],
)
def test_a_clone_in_another_state_is_left_as_it_is(what: object, said: str, project_dir: Path) -> None:
    committed(project_dir)
    clone = project_dir / "gitops"
    assert callable(what)
    what(clone)
    write_project(project_dir, {"data-team": {**TEAMS["data-team"], "version": "0.2.0"}})
    before = state(clone)
    for command in ("write", "commit", "push"):
        done = elf("gitops", command, cwd=project_dir)
        assert done.returncode == 2, command
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    assert state(clone) == before


def test_what_somebody_else_changed_is_not_committed(project_dir: Path) -> None:
    committed(project_dir)
    values = project_dir / "gitops/gitops/environments/dev/data-team/values-dev.yaml"
    values.write_text(values.read_text() + "replicas: 9\n")
    before = state(project_dir / "gitops")
    done = elf("gitops", "commit", cwd=project_dir)
    assert done.returncode == 2
    assert "data-team was changed, and not by elf gitops" in done.stderr
    assert state(project_dir / "gitops") == before


def test_a_file_that_somebody_else_put_there_is_named(project_dir: Path) -> None:
    committed(project_dir)
    mine = project_dir / "gitops/gitops/environments/dev/data-team/notes.txt"
    mine.write_text("mine")
    done = elf("gitops", "commit", cwd=project_dir)
    assert done.returncode == 2
    assert f"{mine} was put there, and not by elf gitops; commit that yourself, or move it elsewhere" in done.stderr


def test_what_is_beside_the_directory_of_elf_is_nobody_s_business(project_dir: Path, remote: Path) -> None:
    project, repository = committed(project_dir)
    (project_dir / "gitops/notes.txt").write_text("mine")
    git(project_dir / "gitops", "add", "notes.txt")
    push(project, repository)
    write_project(project_dir, {"data-team": {**TEAMS["data-team"], "version": "0.2.0"}})
    push(*committed(project_dir))
    assert git(project_dir / "gitops", "status", "--porcelain") == "A  notes.txt\n"
    assert "notes.txt" not in git(remote, "ls-tree", "-r", "--name-only", "main")


def test_changes_that_are_not_committed_are_not_lost_in_a_race(project_dir: Path, remote: Path, tmp_path: Path) -> None:
    push(*committed(project_dir))
    other = another(project_dir, tmp_path, "other")
    write_project(other, {"brand-team": {**TEAMS["brand-team"], "version": "0.2.0"}})
    push(*committed(other))
    write_project(project_dir, {"data-team": {**TEAMS["data-team"], "version": "0.2.0"}})
    project, repository = committed(project_dir)
    write_project(project_dir, {"data-team": {**TEAMS["data-team"], "version": "0.3.0"}})
    project, repository = opened(project_dir)
    write(project, repository, Asked())
    before = state(project_dir / "gitops")
    with pytest.raises(BadInput, match="has changes that are not committed"):
        push(project, repository)
    assert state(project_dir / "gitops") == before


def test_a_person_s_own_commit_is_not_made_again_by_elf(project_dir: Path, remote: Path, tmp_path: Path) -> None:
    push(*committed(project_dir))
    other = another(project_dir, tmp_path, "other")
    write_project(other, {"brand-team": {**TEAMS["brand-team"], "version": "0.2.0"}})
    push(*committed(other))
    clone = project_dir / "gitops"
    (clone / "gitops/README.md").write_text("mine")
    git(clone, "add", "gitops/README.md")
    git(clone, "commit", "--quiet", "-m", "Explain it")
    before = state(clone)
    with pytest.raises(BadInput, match=r"'Explain it'.*pull --rebase"):
        push(*opened(project_dir))
    assert state(clone) == before
    git(clone, "pull", "--quiet", "--rebase")
    push(*opened(project_dir))
    assert "README.md" in files(remote)


def test_nobody_commits_without_a_name(project_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    project, repository = opened(project_dir)
    write(project, repository, Asked())
    before = state(project_dir / "gitops")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    with pytest.raises(BadInput, match=r"git config --global user\.name"):
        repository.commit_written()
    assert state(project_dir / "gitops") == before


def test_a_directory_that_is_no_clone_of_it_is_refused(project_dir: Path, tmp_path: Path) -> None:
    (project_dir / "gitops").mkdir()
    (project_dir / "gitops/mine.txt").write_text("mine")
    with pytest.raises(BadInput, match="is no clone of it; move it away"):
        opened(project_dir)
    elsewhere = bare(tmp_path / "elsewhere.git")
    git(tmp_path, "clone", "--quiet", str(elsewhere), "clone")
    with pytest.raises(BadInput, match=r"is a clone of .*elsewhere\.git"):
        open_repository(find_project(project_dir), clone=tmp_path / "clone")


def test_a_clone_whose_address_nobody_names_any_more_is_not_written_into(
    tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = tmp_path / "project"
    project_dir = write_project(top, TEAMS)
    git(top, "init", "--quiet", "--initial-branch=main")
    git(top, "remote", "add", "origin", str(bare(tmp_path / "teams.git")))
    monkeypatch.setenv("GITOPS_REPO_URL", remote.as_uri())
    assert elf("gitops", "write", cwd=project_dir).returncode == 0
    before = state(top / "gitops")
    monkeypatch.delenv("GITOPS_REPO_URL")
    for command in ("write", "diff", "commit", "push"):
        done = elf("gitops", command, cwd=project_dir)
        assert done.returncode == 2
        assert f"gitops is a clone of {remote.as_uri()}, and nothing here says" in done.stderr
    assert state(top / "gitops") == before


def test_the_project_s_own_repository_serves_too(tmp_path: Path, remote: Path) -> None:
    top = tmp_path / "mono"
    project_dir = write_project(top / "agents", TEAMS)
    done = elf("gitops", "write", cwd=project_dir)
    assert done.returncode == 2
    assert "is in no git repository; run git init" in done.stderr
    git(top, "init", "--quiet", "--initial-branch=main")
    done = elf("gitops", "write", cwd=project_dir)
    assert done.returncode == 2
    assert "has no remote called origin" in done.stderr
    git(top, "remote", "add", "origin", str(remote))
    git(top, "add", "agents/teams")
    git(top, "commit", "--quiet", "-m", "Teams")
    for command in ("write", "commit", "push"):
        done = elf("gitops", command, cwd=project_dir)
        assert done.returncode == 0, done.stderr
    assert "agents/gitops/environments/dev/brand-team/app.yaml" in git(remote, "ls-tree", "-r", "--name-only", "main")
    assert 'path: "agents/gitops' in git(remote, "show", "main:agents/gitops/applicationsets/dev.yaml")


def test_an_error_is_one_sentence(project_dir: Path, remote: Path) -> None:
    (project_dir / "elf.yaml").write_text(json.dumps({"gitops": {"url": (remote.parent / "none.git").as_uri()}}))
    with pytest.raises(ElfError) as caught:
        opened(project_dir)
    assert "none.git" in str(caught.value)
    assert "\n" not in str(caught.value)
