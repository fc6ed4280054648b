"""Killed at any moment, and two at once."""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import elf_sdk
from elf_sdk.deploy.gitops.change import Change
from elf_sdk.deploy.gitops.clone import open_repository
from elf_sdk.deploy.gitops.repository import Repository
from elf_sdk.deploy.gitops.write import write
from elf_sdk.errors import Retryable
from elf_sdk.files import list_tree, tree_lock
from elf_sdk.team.project import find_project
from tests.deploy.gitops.remotes import git
from tests.deploy.organisations import TEAMS, write_project

LOOP = """
import sys, time
from pathlib import Path
from elf_sdk import files
from elf_sdk.deploy.gitops.clone import open_repository
from elf_sdk.team.project import find_project
from elf_sdk.deploy.gitops.change import Change
from elf_sdk.deploy.gitops.worktree import replace_places

repository = open_repository(find_project(Path(sys.argv[1])))
changes = [repository.at(commit).read_all(repository.at(commit).ids) for commit in sys.argv[3:]]
while True:
    started = time.monotonic()
    for places in changes:
        with repository.lock():
            if sys.argv[2] == "files":
                replace_places(repository.root, places)
            else:
                repository.commit(Change(places))
    print(time.monotonic() - started, flush=True)
"""


def tree(root: Path) -> dict[str, bytes]:
    return {path: (root / path).read_bytes() for path in list_tree(root)}


def two_commits(project_dir: Path) -> tuple[Repository, list[str]]:
    """Two commits in which every team is another."""
    commits = []
    for version in ("0.1.0", "0.2.0"):
        write_project(project_dir, {team: {**fields, "version": version} for team, fields in TEAMS.items()})
        project = find_project(project_dir)
        repository = open_repository(project)
        write(project, repository)
        commits.append(repository.commit_written() or "")
    return repository, commits


def killed(project_dir: Path, what: str, commits: list[str], chance: random.Random) -> None:
    environ = {**os.environ, "PYTHONPATH": str(Path(elf_sdk.__file__).parents[1])}
    command = [sys.executable, "-c", LOOP, str(project_dir), what, *commits]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        time.sleep(chance.uniform(0, float(line)))
        process.send_signal(signal.SIGKILL)


def test_killed_while_it_writes_it_leaves_the_old_tree_or_the_new_one(project_dir: Path) -> None:
    repository, commits = two_commits(project_dir)
    trees = []
    for commit in commits:
        git(repository.top, "reset", "--quiet", "--hard", commit)
        trees.append(tree(repository.root))
    chance = random.Random(3)  # noqa: S311 - when to kill
    for _ in range(4):
        killed(project_dir, "files", commits, chance)
        assert tree(repository.root) in trees
    with repository.lock():
        pass
    left = [path.name for path in repository.root.parent.iterdir() if path.name.startswith(".gitops.")]
    assert left == []


def test_killed_while_it_commits_it_leaves_whole_commits(project_dir: Path) -> None:
    repository, commits = two_commits(project_dir)
    wanted = [repository.at(commit).ids for commit in commits]
    chance = random.Random(4)  # noqa: S311 - when to kill
    for _ in range(4):
        killed(project_dir, "commits", commits, chance)
        assert repository.head().ids in wanted
    git(repository.top, "fsck", "--strict")
    # The git that it had started goes on to its end.
    end = time.monotonic() + 30
    while (repository.top / ".git/index.lock").exists() and time.monotonic() < end:
        time.sleep(0.05)
    # The next command tidies up whatever was underway.
    git(repository.top, "reset", "--quiet")
    git(repository.top, "restore", ".")
    places = repository.at(commits[0]).read_all(repository.at(commits[0]).ids)
    with repository.lock():
        repository.commit(Change(places))
    assert repository.head().ids == wanted[0]
    assert git(repository.top, "status", "--porcelain") == ""


def test_what_was_committed_and_not_yet_noticed_is_no_change(project_dir: Path) -> None:
    repository, commits = two_commits(project_dir)
    # The branch has moved, and the index has not followed.
    git(repository.top, "update-ref", "refs/heads/main", commits[0])
    git(repository.top, "reset", "--quiet")
    git(repository.top, "update-ref", "refs/heads/main", commits[1])
    assert git(repository.top, "status", "--porcelain") != ""
    project = find_project(project_dir)
    write(project, repository)
    assert repository.commit_written() is None
    assert git(repository.top, "status", "--porcelain") == ""


def test_two_at_once_in_a_clone_one_of_them_says_so(project_dir: Path) -> None:
    project = find_project(project_dir)
    repository = open_repository(project)
    with tree_lock(repository.root), pytest.raises(Retryable, match="another process is writing"):
        write(project, repository)
    write(project, repository)
    descriptor = os.open(repository.root.parent / ".gitops.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(Retryable):
        write(project, repository)
    os.close(descriptor)
    (repository.root.parent / ".gitops.lock").unlink()


def test_a_record_that_is_broken_only_asks_for_another_write(project_dir: Path) -> None:
    project = find_project(project_dir)
    repository = open_repository(project)
    write(project, repository)
    record = repository.top / ".git/elf-gitops.json"
    assert json.loads(record.read_text())["operation"] == "write"
    record.write_text("{")
    write(project, repository)
    assert repository.commit_written()
