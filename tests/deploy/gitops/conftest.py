from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.deploy.gitops.remotes import bare
from tests.deploy.organisations import TEAMS, write_project


@pytest.fixture(autouse=True)
def _identity(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git knows who commits, and nothing else of the machine's own settings."""
    config = tmp_path_factory.mktemp("git") / "config"
    config.write_text("[user]\n\tname = Ada\n\temail = ada@example.com\n[init]\n\tdefaultBranch = main\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in [name for name in os.environ if name.startswith(("GIT_AUTHOR_", "GIT_COMMITTER_"))]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("GITOPS_REPO_URL", raising=False)


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """An empty repository to push to."""
    return bare(tmp_path / "remote.git")


@pytest.fixture
def project_dir(tmp_path: Path, remote: Path) -> Path:
    """Three teams, and a GitOps repository of their own."""
    return write_project(tmp_path / "project", TEAMS, {"gitops": {"url": remote.as_uri()}})
