"""What of a team's directory goes into its image."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from elf_sdk.deploy.image.context import team_files, write_context
from elf_sdk.errors import BadInput
from elf_sdk.team.project import LoadedTeam, find_project
from tests.deploy.organisations import write_project

REAL = {"provider": "openai", "model": "gpt-5-mini"}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    root = write_project(tmp_path, {"brand-team": {"llm": REAL}})
    place = root / "teams" / "brand-team"
    (place / "team.py").write_text("", encoding="utf-8")
    return place


def loaded(directory: Path) -> LoadedTeam:
    [team] = find_project(directory).teams
    return team


def files(directory: Path) -> list[str]:
    return list(team_files(loaded(directory)))


def put(directory: Path, *paths: str) -> None:
    for path in paths:
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text("", encoding="utf-8")


def test_code_and_data_go_in(directory: Path) -> None:
    put(directory, "src/tools/search.py", "prompts/brief.md", "data/colours.csv")
    assert files(directory) == [
        "data/colours.csv",
        "prompts/brief.md",
        "src/tools/search.py",
        "team.py",
        "team.yaml",
    ]


def test_what_no_running_team_needs_stays_out(directory: Path) -> None:
    put(directory, ".env", ".env.local", ".git/config", ".elf/elf.db", "evals/tone.yaml", "tests/test_it.py")
    put(directory, "__pycache__/team.cpython-311.pyc", "old.pyc", "mine/pyvenv.cfg", "mine/lib/x.py")
    put(directory, "images.lock.yaml", "requirements.txt", "requirements.lock", "node_modules/a/b.js")
    put(directory, "brand.egg-info/PKG-INFO", "offline.yaml")
    assert files(directory) == ["team.py", "team.yaml"]


def test_a_package_of_the_teams_may_be_called_as_a_directory_that_stays_out(directory: Path) -> None:
    put(directory, "src/pipeline/build/steps.py", "src/pipeline/__pycache__/steps.pyc")
    assert files(directory) == ["src/pipeline/build/steps.py", "team.py", "team.yaml"]


def test_the_evals_stay_out_wherever_they_are(tmp_path: Path) -> None:
    root = write_project(tmp_path, {"brand-team": {"evals": "checks/evals/", "llm": REAL}})
    place = root / "teams" / "brand-team"
    put(place, "team.py", "checks/evals/a.yaml", "checks/b.yaml")
    assert files(place) == ["checks/b.yaml", "team.py", "team.yaml"]


def test_the_offline_models_script_goes_in_where_that_model_is_used(tmp_path: Path) -> None:
    model = {"provider": "offline", "model": "offline"}
    root = write_project(tmp_path, {"brand-team": {"llm": REAL, "environments": {"dev": {"llm": model}}}})
    place = root / "teams" / "brand-team"
    put(place, "team.py", "offline.yaml")
    assert files(place) == ["offline.yaml", "team.py", "team.yaml"]


def test_a_dockerignore_takes_out_and_in_again(directory: Path) -> None:
    put(directory, "data/a.csv", "data/b.csv", "data/deep/c.csv", "notes.md", "docs/notes.md", "big/x/y/model.bin")
    (directory / ".dockerignore").write_text("# mine\ndata/*.csv\n!data/b.csv\n**/notes.md\nbig\nteam.yaml\n")
    assert files(directory) == ["data/b.csv", "data/deep/c.csv", "team.py", "team.yaml"]


def test_a_link_inside_goes_in_as_what_it_leads_to(directory: Path, tmp_path: Path) -> None:
    put(directory, "prompts/long.md")
    (directory / "prompts" / "short.md").symlink_to("long.md")
    found = team_files(loaded(directory))
    (tmp_path / "context").mkdir()
    write_context(tmp_path / "context", {}, found, {})
    copied = tmp_path / "context" / "team" / "prompts" / "short.md"
    assert copied.is_file()
    assert not copied.is_symlink()


@pytest.mark.parametrize("target", ["/etc/hostname", "../other.md", "nowhere", "prompts", "loop"])
def test_a_link_out_of_the_team_is_refused(directory: Path, target: str) -> None:
    put(directory, "prompts/a.md", "../other.md")
    (directory / "loop").symlink_to(target)
    with pytest.raises(BadInput, match=r"teams/brand-team/loop: this link leads out of the team's directory"):
        files(directory)


def test_what_is_no_file_is_refused(directory: Path) -> None:
    os.mkfifo(directory / "pipe")
    with pytest.raises(BadInput, match=r"teams/brand-team/pipe: this is neither a file nor a directory"):
        files(directory)


def test_a_dockerfile_of_the_teams_own_is_refused_unless_it_is_for_something_else(directory: Path) -> None:
    put(directory, "Dockerfile")
    with pytest.raises(BadInput, match=r"teams/brand-team/Dockerfile: elf image build writes the Dockerfile itself"):
        files(directory)
    (directory / ".dockerignore").write_text("Dockerfile\n")
    assert files(directory) == ["team.py", "team.yaml"]


def test_modes_do_not_depend_on_the_umask(directory: Path, tmp_path: Path, strict_umask: None) -> None:
    put(directory, "run.sh")
    (directory / "run.sh").chmod(0o700)
    (tmp_path / "context").mkdir()
    write_context(tmp_path / "context", {"Dockerfile": b""}, team_files(loaded(directory)), {})
    modes = {
        path.relative_to(tmp_path / "context").as_posix(): path.stat().st_mode & 0o777
        for path in (tmp_path / "context").rglob("*")
    }
    assert modes["team/run.sh"] == 0o755
    assert modes["team/team.py"] == modes["Dockerfile"] == 0o644
    assert modes["team"] == modes["packages/wheels"] == 0o755
