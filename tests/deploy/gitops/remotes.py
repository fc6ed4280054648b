"""Real git repositories to push to, and what can be seen in them."""

from __future__ import annotations

import subprocess
from pathlib import Path


def git(directory: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=directory, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def bare(directory: Path) -> Path:
    directory.mkdir(parents=True)
    git(directory, "init", "--quiet", "--bare", "--initial-branch=main")
    return directory


def files(directory: Path, commit: str = "main", path: str = "gitops") -> set[str]:
    """What a commit holds in the directory that ELF writes, relative to it."""
    return {
        name.removeprefix(f"{path}/") for name in git(directory, "ls-tree", "-r", "--name-only", commit).splitlines()
    }


def show(directory: Path, path: str, commit: str = "main") -> str:
    return git(directory, "show", f"{commit}:gitops/{path}")


def state(clone: Path) -> tuple[str, str, str]:
    """All that a command could have changed in a clone: its branches, its index, its files."""
    heads = git(clone, "for-each-ref", "--format=%(refname) %(objectname)", "refs/heads")
    symbolic = (clone / ".git/HEAD").read_text()
    return heads + symbolic, git(clone, "ls-files", "--stage"), git(clone, "status", "--porcelain", "-uall")
