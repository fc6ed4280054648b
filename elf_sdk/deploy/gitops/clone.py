"""Where the GitOps repository is: a clone of its own, or the repository that the project itself is in."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from elf_sdk.deploy.gitops.git import Git, said, without_credentials
from elf_sdk.deploy.gitops.repository import REMOTE, Repository
from elf_sdk.errors import BadInput, Failure
from elf_sdk.files import staged, swap, tree_lock
from elf_sdk.team.project import Project, ProjectRoot

__all__ = ["open_repository"]

_CLONE: Final = "gitops"
"""Where a clone is made, beside elf.yaml."""


def open_repository(project: Project | ProjectRoot, url: str = "", clone: Path | None = None) -> Repository:
    """The GitOps repository of a project; cloned where there is no clone yet.

    Args:
        project: whose elf.yaml says where it is.
        url: goes before `gitops.url` of elf.yaml.
        clone: the directory of the clone; default: `gitops` beside elf.yaml, and where there is no address, the
            repository that the project itself is in.

    Raises:
        BadInput: there is no such repository, or the directory is something else.
        Failure: it cannot be cloned.
        Retryable: it cannot be reached.
    """
    settings = project.organisation.gitops
    address = _address(url or settings.url)
    if not address:
        return _own(Path(os.path.abspath(clone or project.root)), project, clone is None)  # noqa: PTH100 - a link must stay one
    directory = Path(os.path.abspath(clone or project.root / _CLONE))  # noqa: PTH100 - the same
    with tree_lock(directory):
        if not directory.exists() or not any(directory.iterdir()):
            _clone(address, settings.branch, directory)
    shown = without_credentials(address)
    top = _top(directory)
    there = _remote_url(top) if top == directory.resolve() else ""
    if top is None or _same(there) != _same(address):
        what = f"a clone of {without_credentials(there)}" if there else "no clone of it"
        raise BadInput(
            f"the GitOps repository is {shown}, and {directory} is {what}; move it away, or name another place with "
            "--clone"
        )
    return Repository(top, top / settings.path, address, settings.branch, own=False)


def _own(start: Path, project: Project | ProjectRoot, beside: bool) -> Repository:
    settings = project.organisation.gitops
    clone = project.root / _CLONE
    if beside and (clone / ".git").exists():
        # Made under another environment, most often. Git would keep nothing of what is written into it.
        there = without_credentials(_remote_url(clone)) or "another repository"
        raise BadInput(
            f"{clone} is a clone of {there}, and nothing here says that this is the GitOps repository; "
            "say it with gitops: {url: …} in elf.yaml or GITOPS_REPO_URL, or move the clone away"
        )
    top = _top(start)
    remedy = "or name the repository that Argo CD watches: gitops: {url: …} in elf.yaml, or GITOPS_REPO_URL"
    if top is None:
        raise BadInput(f"{start} is in no git repository; run git init there, {remedy}")
    remote = _remote_url(top)
    if not remote:
        raise BadInput(f"{top} has no remote called {REMOTE} that Argo CD could read; add one, {remedy}")
    return Repository(top, (start.resolve() if beside else top) / settings.path, remote, settings.branch, own=True)


def _address(url: str) -> str:
    """An address as it is; a path of this machine as an address."""
    local = url and "://" not in url and not re.match(r"[^/]+:", url)
    return Path(url).resolve().as_uri() if local else url


def _same(url: str) -> str:
    return _address(without_credentials(url)).rstrip("/").removesuffix(".git")


def _top(directory: Path) -> Path | None:
    if not directory.is_dir():
        return None
    done = Git(directory).attempt("rev-parse", "--show-toplevel")
    return Path(done.stdout.decode().rstrip("\n")) if done.returncode == 0 else None


def _remote_url(top: Path | None) -> str:
    return Git(top).attempt("config", "--get", f"remote.{REMOTE}.url").stdout.decode().strip() if top else ""


def _clone(url: str, branch: str, directory: Path) -> None:
    shown = without_credentials(url)
    with staged(directory) as stage:
        git = Git(stage)
        done = git.remote(url, "clone", "--quiet", "--no-tags", "--no-checkout", "--", url, ".")
        if done.returncode != 0:
            raise Failure(f"{shown} cannot be cloned: {said(done)}")
        heads = git("for-each-ref", "--format=%(refname)", f"refs/remotes/{REMOTE}").split()
        if f"refs/remotes/{REMOTE}/{branch}" in heads:
            git("checkout", "--quiet", "-B", branch, "--track", f"{REMOTE}/{branch}")
        elif heads:
            raise BadInput(
                f"{shown} has no branch {branch}; make it there, or name another: gitops: {{branch: …}} in elf.yaml"
            )
        else:
            git("symbolic-ref", "HEAD", f"refs/heads/{branch}")
        swap(stage, directory)
