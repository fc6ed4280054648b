"""Bad input on the real command line: one sentence, the right exit code, no traceback, nothing half written."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEAM_YAML = "name: alpha\npurpose: To echo.\nframework: function\nmembers: [{role: Lead, is_manager: true}]\n"
TEAM_PY = """\
from elf_sdk import FunctionAdapter, TeamServer


async def answer(ctx):
    yield ctx.text


class Echo(TeamServer):
    adapter = FunctionAdapter(answer)


app = Echo()

if __name__ == "__main__":
    app.serve()
"""
BOMB = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(20)
)


def run(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ELF_", "JWT_"))}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={
            **inherited,
            "PYTHONPATH": str(ROOT),
            "PYTHONIOENCODING": "utf-8",
            "HOME": str(cwd),
            **variables,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def elf(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return run("-m", "elf_sdk", *arguments, cwd=cwd, **variables)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    directory = tmp_path / "teams" / "alpha"
    directory.mkdir(parents=True)
    (directory / "team.yaml").write_text(TEAM_YAML)
    (directory / "team.py").write_text(TEAM_PY)
    return tmp_path


def tree(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if "__pycache__" not in path.parts)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"{TEAM_YAML}verson: 1\n", "team.yaml:5: verson: there is no such field"),
        (f"{TEAM_YAML}manages: alpha\n", "team.yaml:5: manages:"),
        (TEAM_YAML.replace("alpha", "Alpha_Team"), "team.yaml:1: name:"),
        (f"{TEAM_YAML}reports_to: nobody\n", "'nobody'"),
        (f"{TEAM_YAML}reports_to: alpha\n", "alpha"),
        ("a: [\n", "team.yaml:"),
        ("", "team.yaml:"),
        ("just text\n", "team.yaml:"),
        ("x: " + "y" * 3_000_000, "team.yaml: "),
        ("[" * 5000, "team.yaml:"),
        (BOMB, "team.yaml:"),
    ],
    ids=[
        *("unknown field", "wrong type", "no label", "unknown parent", "circle"),
        *("no yaml", "empty", "no fields", "huge", "deep", "bomb"),
    ],
)
def test_a_wrong_team_yaml(project: Path, text: str, sentence: str) -> None:
    (project / "teams" / "alpha" / "team.yaml").write_text(text)
    before = tree(project)
    done = elf("package", cwd=project)
    assert done.returncode == 2
    assert sentence in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert len(done.stdout + done.stderr) < 5000
    assert tree(project) == before


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("import sys\nsys.exit(0)\n", "team.py:2: importing the team ended the process (exit 0)"),
        ("raise SystemExit('bye')\n", "team.py:1: importing the team ended the process (exit bye)"),
        ("import os\nraise BaseException('no')\n", "team.py:2: importing the team raised BaseException: no"),
        ("input()\n", "team.py:1: importing the team raised EOFError"),
        ("import sys\nsys.path.clear()\nx = y\n", "team.py:3: importing the team raised NameError"),
        (
            TEAM_PY.replace("app = Echo()", "").replace(
                "(answer)", "(answer)\n\n    def __init__(self):\n        1 / 0"
            ),
            "making the team raised ZeroDivisionError",
        ),
    ],
)
def test_a_team_py_that_misbehaves(project: Path, code: str, sentence: str) -> None:
    (project / "teams" / "alpha" / "team.py").write_text(code)
    done = elf("dev", "--no-reload", "--port", "0", cwd=project)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["logging.py", "queue.py", "click.py"])
def test_a_module_that_an_import_would_not_find(project: Path, name: str) -> None:
    (project / "teams" / "alpha" / name).write_text("X = 1\n")
    done = elf("serve", "teams/alpha", "--port", "0", cwd=project)
    assert done.returncode == 2
    assert f"{name}: " in done.stderr
    assert "give this one another name" in done.stderr


@pytest.mark.parametrize("arguments", [["-m", "elf_sdk", "serve"], ["team.py"]])
def test_serving_alone_leaves_with_the_same_codes(project: Path, arguments: list[str]) -> None:
    directory = project / "teams" / "alpha"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run(*arguments, cwd=directory, ELF_PORT=str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert done.stderr.startswith("error: port ")
    assert done.stderr.count("\n") == 1
    (directory / "team.yaml").write_text("name: alpha\n")
    done = run(*arguments, cwd=directory, ELF_PORT="0")
    assert done.returncode == 2
    assert "members: it is missing" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["talk", "alpha", "--say", "x", "--url", "nowhere"], 2, "'nowhere' is no address of a team"),
        (["talk", "alpha", "--say", "x", "--url", "http://["], 2, "is no address of a team"),
        (["token", "alpha", "--user", ""], 2, "--user '' is no name"),
        (["token", "alpha", "--user", "a\x1b[2J"], 2, "is no name"),
        (["dev", "--port", "0", "--host", "192.0.2.1"], 2, "cannot listen on 192.0.2.1:0"),
        (["package", "--output", "teams"], 2, "holds something else"),
        (["package", "--helm", "cli"], 1, "helm"),
    ],
)
def test_arguments_that_cannot_be_used(project: Path, arguments: list[str], code: int, sentence: str) -> None:
    before = tree(project / "teams")
    done = elf(*arguments, cwd=project, PATH="/nowhere")
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert "unexpected" not in done.stderr
    assert tree(project / "teams") == before


@pytest.mark.parametrize("content", [b"", b"short", b"\xff\xfe" * 40])
def test_a_development_secret_that_is_none(project: Path, content: bytes) -> None:
    (project / ".elf").mkdir()
    (project / ".elf" / "jwt-secret").write_bytes(content)
    done = elf("token", "alpha", cwd=project)
    assert (done.returncode, done.stdout) == (1, "")
    assert "jwt-secret holds no secret of at least 32 characters; delete it, and another is made" in done.stderr


def test_an_env_file_that_is_no_text(project: Path) -> None:
    (project / ".env").write_bytes(b"\xff\xfe=1\n")
    done = elf("dev", "--port", "0", cwd=project)
    assert done.returncode == 2
    assert ".env cannot be read" in done.stderr
