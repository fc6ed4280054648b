"""A project, its GitOps repository with a real remote, and what people do with them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from elf_sdk.deploy.gitops.choice import Asked
from elf_sdk.deploy.gitops.clone import open_repository
from elf_sdk.deploy.gitops.promote import Promotion, commit, promotion, prove
from elf_sdk.deploy.gitops.repository import Repository
from elf_sdk.deploy.gitops.write import write
from elf_sdk.deploy.images import write_digest
from elf_sdk.team.project import Project, find_project
from tests.deploy.organisations import TEAMS, write_project


def digest(number: int) -> str:
    """A digest that can be told from others."""
    return f"sha256:{number:064x}"


class Site:
    """An organisation of three teams, who run in dev, and the clone of their GitOps repository."""

    def __init__(
        self,
        directory: Path,
        organisation: Mapping[str, Any] | None = None,
        teams: Mapping[str, Mapping[str, Any]] = TEAMS,
    ) -> None:
        self.directory = directory
        self.remote = directory / "gitops.git"
        subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", self.remote], check=True)
        self.teams = teams
        self.root = write_project(
            directory / "project", teams, {"gitops": {"url": str(self.remote)}, **(organisation or {})}
        )

    @property
    def project(self) -> Project:
        return find_project(self.root)

    def clone(self, name: str = "") -> Repository:
        """A clone; the one beside elf.yaml, or one of somebody else's."""
        return open_repository(self.project, "", self.directory / name if name else None)

    def release(self, version: str, number: int, *teams: str) -> None:
        """Give teams a new version and image, and write that into dev."""
        for team in teams or self.teams:
            self.edit(team, version=version)
            write_digest(self.root / "teams" / team, self.project.organisation, "dev", digest(number))
        repository = self.clone()
        write(self.project, repository, Asked(teams))
        repository.commit_written()
        repository.push()

    def edit(self, team: str, **fields: Any) -> None:
        file = self.root / "teams" / team / "team.yaml"
        file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **fields}), encoding="utf-8")

    def lock(self, team: str) -> dict[str, str]:
        """What images.lock.yaml says."""
        data: dict[str, str] = yaml.safe_load((self.root / "teams" / team / "images.lock.yaml").read_text("utf-8"))
        return data

    def place(self, environment: str, team: str, name: str = "") -> Path:
        """A file of the clone's work tree, or the directory."""
        return self.root / "gitops" / "gitops" / "environments" / environment / team / name

    def data(self, environment: str, team: str, name: str = "app.yaml") -> dict[str, Any]:
        data: dict[str, Any] = yaml.safe_load(self.place(environment, team, name).read_text(encoding="utf-8"))
        return data

    def files(self, environment: str) -> dict[str, bytes]:
        """All files of an environment, by path."""
        root = self.place(environment, "x").parent
        return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}

    def log(self, *options: str) -> str:
        """The last commit of the clone."""
        command = ["git", "log", "-1", *(options or ["--format=%B"])]
        done = subprocess.run(command, cwd=self.root / "gitops", check=True, capture_output=True, text=True)
        return done.stdout


def plan(site: Site, to: str, *teams: str, clone: Repository | None = None, by_tag: bool = False) -> Promotion:
    repository = clone or site.clone()
    return promotion(site.project, repository.head(), repository.source, teams, to, by_tag=by_tag)


def promote(site: Site, to: str, *teams: str) -> str | None:
    planned = plan(site, to, *teams)
    prove(planned)
    repository = site.clone()
    made = commit(site.project, repository, planned, notes=["as the tests want it"], verdict="3 right")
    repository.push()
    return made


@pytest.fixture(autouse=True)
def committer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who commits; nothing of the machine's own settings counts."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Ada")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "ada@example.com")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    site.release("1.0.0", 1)
    return site
