"""Where a team's files come from, as git says it, and the elf-sdk that goes into an image."""

from __future__ import annotations

import io
import subprocess
import zipfile
from pathlib import Path

import pytest

from elf_sdk.deploy.image.build import labels_of
from elf_sdk.deploy.image.provenance import provenance_of
from elf_sdk.deploy.image.wheel import elf_sdk_wheel
from elf_sdk.settings import ImageSettings, load_image_settings
from elf_sdk.team.organisation import Organisation
from elf_sdk.team.project import find_project
from tests.deploy.organisations import write_project


def git(root: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")
    command = ["git", "-C", str(root), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_project(tmp_path, {"brand-team": {}, "data-team": {}})
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    return tmp_path


def test_the_revision_is_the_last_commit_of_the_team(root: Path) -> None:
    first = git(root, "rev-parse", "HEAD")
    (root / "teams" / "data-team" / "team.py").write_text("")
    (root / "teams" / "brand-team" / "images.lock.yaml").write_text("")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "second")
    assert provenance_of(root / "teams" / "brand-team").revision == first
    assert provenance_of(root / "teams" / "data-team").revision == git(root, "rev-parse", "HEAD")


def test_files_that_no_commit_has_have_no_revision(root: Path) -> None:
    (root / "teams" / "brand-team" / "team.py").write_text("")
    assert provenance_of(root / "teams" / "brand-team").revision == ""


def test_without_git_there_is_nothing_to_say(tmp_path: Path) -> None:
    found = provenance_of(tmp_path)
    assert (found.revision, found.source) == ("", "")


@pytest.mark.parametrize(
    ("remote", "source"),
    [
        ("https://ada:lovelace@git.example.com/lumen/teams.git", "https://git.example.com/lumen/teams.git"),
        ("git@git.example.com:lumen/teams.git", "ssh://git.example.com/lumen/teams.git"),
        ("ssh://git@git.example.com:2222/teams", "ssh://git.example.com:2222/teams"),
        ("/srv/git/teams", ""),
        ("file:///srv/git/teams", ""),
    ],
)
def test_the_source_holds_no_credentials(root: Path, remote: str, source: str) -> None:
    git(root, "remote", "add", "origin", remote)
    assert provenance_of(root / "teams" / "brand-team").source == source


def test_a_time_is_a_label_only_where_it_is_the_sources(root: Path) -> None:
    [team, _] = find_project(root).teams
    settings = load_image_settings({"SOURCE_DATE_EPOCH": "1700000000"})
    labels = labels_of(team, Organisation(), "x.io/python:1", settings)
    assert labels["org.opencontainers.image.created"] == "2023-11-14T22:13:20Z"
    assert "org.opencontainers.image.created" not in labels_of(team, Organisation(), "x.io/python:1", ImageSettings())


def test_the_wheel_holds_what_runs_here_and_is_the_same_each_time() -> None:
    name, content = elf_sdk_wheel()
    assert (name, content) == elf_sdk_wheel()
    with zipfile.ZipFile(io.BytesIO(content)) as wheel:
        names = wheel.namelist()
        assert wheel.testzip() is None
    assert {"elf_sdk/__main__.py", "elf_sdk/py.typed", "elf_sdk/requirements/image.txt"} <= set(names)
    assert "elf_sdk/chart-templates/elf-team/Chart.yaml" in names
    assert not [each for each in names if "__pycache__" in each or each.endswith(".pyc")]
    assert ".dist-info/" in names[-1]
