from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MEMBERS = "members: [{role: Lead, is_manager: true}]\n"


def elf(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "elf_sdk", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in {
        "top-team": "manages: [brand-team, code-team]\nchat: {top_level: true}\nframework: crewai\n",
        "brand-team": "reports_to: top-team\nmanages: [film-team]\npeers: [code-team]\n",
        "film-team": "reports_to: brand-team\n",
        "code-team": "reports_to: top-team\npeers: [brand-team]\n",
    }.items():
        (tmp_path / "teams" / name).mkdir(parents=True)
        (tmp_path / "teams" / name / "team.yaml").write_text(f"name: {name}\n{MEMBERS}{text}", encoding="utf-8")
    (tmp_path / "elf.yaml").write_text("display_name: Acme\n", encoding="utf-8")
    return tmp_path


def test_check_of_a_right_project(project: Path) -> None:
    done = elf("check", cwd=project)
    assert (done.returncode, done.stdout, done.stderr) == (0, "✓ 4 teams, and nothing wrong\n", "")
    assert json.loads(elf("check", "--json", cwd=project).stdout) == {"ok": True, "problems": []}


def test_check_prints_every_problem_and_leaves_with_2(project: Path) -> None:
    film = project / "teams" / "film-team" / "team.yaml"
    film.write_text(f"name: film-team\n{MEMBERS}verson: 1\nreports_to: nobody\n", encoding="utf-8")
    (project / "elf.yaml").write_text("nam: Acme\n", encoding="utf-8")
    done = elf("check", "teams", "teams/film-team", cwd=project)
    assert done.returncode == 2
    assert done.stdout.splitlines() == [
        "elf.yaml:1: nam: there is no such field; did you mean 'name'?",
        "teams/film-team/team.yaml:3: verson: there is no such field; did you mean 'version'?",
    ]
    assert done.stderr == "2 problems\n"
    done = elf("check", "--json", cwd=project)
    assert done.returncode == 2
    assert json.loads(done.stdout)["problems"][0] == {
        "file": "elf.yaml",
        "line": 1,
        "field": "nam",
        "message": "there is no such field; did you mean 'name'?",
        "severity": "error",
    }


def test_a_half_relationship_is_a_warning(project: Path) -> None:
    film = project / "teams" / "film-team" / "team.yaml"
    film.write_text(f"name: film-team\n{MEMBERS}", encoding="utf-8")
    for command in (("check",), ("org", "check")):
        done = elf(*command, cwd=project)
        assert done.returncode == 0
        assert done.stdout == (
            "teams/brand-team/team.yaml:4: manages[0]: 'film-team' does not say so, and the edge does not count; "
            "write reports_to: brand-team in teams/film-team/team.yaml (warning)\n"
            "1 warning, and nothing that stops you\n"
        )
        assert json.loads(elf(*command, "--json", cwd=project).stdout)["ok"] is True


def test_the_tree_is_drawn(project: Path) -> None:
    done = elf("org", "tree", cwd=project)
    assert done.returncode == 0
    assert done.stdout == (
        "Acme\n"
        "└── top-team  crewai, top level\n"
        "    ├── brand-team  function, peers: code-team\n"
        "    │   └── film-team  function\n"
        "    └── code-team  function, peers: brand-team\n"
    )
    (top,) = json.loads(elf("org", "tree", "--json", cwd=project).stdout)["teams"]
    assert top["name"] == "top-team"
    assert [team["name"] for team in top["manages"]] == ["brand-team", "code-team"]


def test_org_check_is_about_relationships_only(project: Path) -> None:
    assert elf("org", "check", cwd=project).stdout == "✓ 4 teams and 4 relationships, and both sides name each\n"
    top = project / "teams" / "top-team" / "team.yaml"
    top.write_text(
        f"name: top-team\n{MEMBERS}manages: [brand-team, code-team]\nreports_to: film-team\n", encoding="utf-8"
    )
    done = elf("org", "check", cwd=project)
    assert done.returncode == 2
    assert done.stdout.splitlines()[0] == (
        "teams/brand-team/team.yaml:3: reports_to: brand-team → top-team → film-team → brand-team report to each other "
        "in a circle; cut it at one of them"
    )


@pytest.mark.parametrize("arguments", [("check", "nowhere"), ("org", "tree", "nowhere"), ("org", "check", "nowhere")])
def test_a_path_that_is_not_there(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = elf(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: nowhere does not exist; name a project, a directory of teams, or a team's directory\n"


@pytest.mark.parametrize("kind", ["team", "organisation"])
def test_schema(tmp_path: Path, kind: str) -> None:
    done = elf("schema", kind, cwd=tmp_path)
    assert done.returncode == 0
    assert json.loads(done.stdout)["$id"] == f"urn:elf:v1:{kind}"
    assert json.loads(elf("schema", kind, "--json", cwd=tmp_path).stdout) == json.loads(done.stdout)
    assert elf("schema", "nothing", cwd=tmp_path).returncode == 2


@pytest.mark.parametrize("command", [("check",), ("schema",), ("org",), ("org", "tree"), ("org", "check")])
def test_help_has_an_example(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = elf(*command, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert f"Example: elf {' '.join(command)}" in done.stdout


def test_a_command_of_commands_lists_whole_sentences_and_tells_what_was_meant(tmp_path: Path) -> None:
    listed = elf("gitops", "--help", cwd=tmp_path).stdout.partition("Commands:")[2]
    assert "exit code 1 if there is any." in listed
    assert "..." not in listed
    done = elf("gitops", "wriet", cwd=tmp_path)
    assert done.returncode == 2
    assert "there is no command 'wriet'; did you mean 'write'?" in done.stderr
    assert "elf gitops --help lists them" in elf("gitops", "frobnicate", cwd=tmp_path).stderr


def test_help_loads_neither_pydantic_nor_yaml(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from elf_sdk.cli import main\n"
        "sys.argv = ['elf', '--help']\n"
        "try: main()\n"
        "except SystemExit as left: assert left.code == 0, left.code\n"
        "heavy = {'pydantic', 'yaml', 'sqlalchemy', 'starlette', 'httpx', 'a2a', 'crewai', 'langgraph'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    assert "check" in done.stdout


def test_a_real_terminal_gets_colours_and_a_pipe_gets_none(project: Path) -> None:
    assert "\x1b[" not in elf("org", "tree", cwd=project).stdout
    assert "└── top-team\x1b[2m" in terminal("org", "tree", cwd=project)
    assert "Check team.yaml and elf.yaml files" in terminal("--help", cwd=project)


def terminal(*arguments: str, cwd: Path) -> str:
    """What a person sees who types this."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "TERM": "xterm"}
    environment.pop("NO_COLOR", None)
    command = [sys.executable, "-m", "elf_sdk", *arguments]
    shown = b""
    with subprocess.Popen(command, cwd=cwd, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as running:
        os.close(theirs)
        while chunk := _read(ours):
            shown += chunk
        os.close(ours)
    assert running.returncode == 0, shown
    return shown.decode()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # Linux says that the other end is closed by EIO
        return b""
