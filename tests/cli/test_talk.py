"""`elf talk` and the commands around it, as a person at a terminal meets them."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from elf_sdk.closing import Remedies, connecting
from elf_sdk.errors import Retryable
from tests.server.signing import certificate, publishing

ROOT = Path(__file__).parents[2]
TEAM = "name: help-team\nmembers: [{role: Lead, is_manager: true}]\n"
CODE = """\
from elf_sdk import FunctionAdapter, TeamServer


async def answer(ctx):
    yield await ctx.complete(system="You are the lead.")


class Help(TeamServer):
    adapter = FunctionAdapter(answer)
"""
ASKING = """\
from elf_sdk import FunctionAdapter, TeamServer


async def answer(ctx):
    yield f"Booked: {await ctx.ask('Which city?')}."


class Help(TeamServer):
    adapter = FunctionAdapter(answer)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "teams" / "help-team").mkdir(parents=True)
    (tmp_path / "teams" / "help-team" / "team.yaml").write_text(TEAM, encoding="utf-8")
    (tmp_path / "teams" / "help-team" / "team.py").write_text(CODE, encoding="utf-8")
    return tmp_path


def environment(**variables: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", **variables}


def elf(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "elf_sdk", *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )  # fmt: skip


@contextmanager
def served(project: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`elf dev` of the project, and the address of its team."""
    command = [sys.executable, "-m", "elf_sdk", "dev", "--port", "0", "--no-reload"]
    with subprocess.Popen(command, cwd=project, env=environment(), stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        shown = ""
        while "Ctrl-C stops" not in shown:
            line = server.stdout.readline()
            assert line, shown
            shown += line
        found = re.search(r"http://\S+/teams/help-team", shown)
        assert found, shown
        try:
            yield found[0], server
        finally:
            server.send_signal(signal.SIGINT)


@contextmanager
def at_a_terminal(*arguments: str, cwd: Path, **variables: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`elf` in a terminal of its own, and the end at which a person sits."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "elf_sdk", *arguments]
    env = environment(TERM="xterm", **variables)
    with subprocess.Popen(command, cwd=cwd, env=env, stdin=theirs, stdout=theirs, stderr=theirs) as running:
        os.close(theirs)
        try:
            yield running, ours
        finally:
            running.kill()
            os.close(ours)


def until(terminal: int, text: str) -> str:
    """What the terminal shows, up to `text`."""
    shown = b""
    while text.encode() not in shown:
        try:
            shown += os.read(terminal, 4096)
        except OSError:  # Linux says that the other end is closed by EIO
            raise AssertionError(f"{text!r} was not shown: {shown.decode()}") from None
    return shown.decode()


def test_a_team_without_a_script_is_answered_by_the_offline_model(project: Path) -> None:
    with served(project) as (url, _):
        done = elf("talk", "help-team", "--url", url, "--say", "Where is my order?", cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[offline model] As the lead, I was asked: “Where is my order?”" in done.stdout


def test_questions_are_answered_at_a_prompt_of_their_own(project: Path) -> None:
    (project / "teams" / "help-team" / "team.py").write_text(ASKING, encoding="utf-8")
    with served(project) as (url, _):
        with at_a_terminal("talk", "help-team", "--url", url, cwd=project) as (running, terminal):
            until(terminal, "you > ")
            os.write(terminal, b"a room\n")
            assert "Which city?" in until(terminal, "answer > ")
            os.write(terminal, b"Rome\n")
            assert "Booked: Rome." in until(terminal, "you > ")
            os.write(terminal, b"another\n")
            until(terminal, "answer > ")
            os.write(terminal, b"\x04")
            assert "the question stays open: run " in until(terminal, "session ended")
            assert running.wait(20) == 0
        said = elf("talk", "help-team", "--url", url, "--say", "a room", "--say", "Oslo", cwd=project)
    assert "answer > Oslo" in said.stdout
    assert "Booked: Oslo." in said.stdout


def test_ctrl_c_at_the_prompt_leaves_at_once(project: Path) -> None:
    with served(project) as (url, _), at_a_terminal("talk", "help-team", "--url", url, cwd=project) as (talk, terminal):
        until(terminal, "you > ")
        begin = time.monotonic()
        talk.send_signal(signal.SIGINT)
        assert "Traceback" not in until(terminal, "stopped")
        assert talk.wait(20) == 130
        assert time.monotonic() - begin < 10


def test_a_server_that_stops_is_noticed_at_the_prompt(project: Path) -> None:
    with (
        served(project) as (url, server),
        at_a_terminal("talk", "help-team", "--url", url, cwd=project) as (talk, terminal),
    ):
        until(terminal, "you > ")
        server.send_signal(signal.SIGINT)
        server.wait(40)
        until(terminal, "the team stopped serving, or began anew after a change; talk again once it serves")
        assert talk.wait(20) == 1


def test_no_colour_where_none_is_wanted(project: Path) -> None:
    with served(project) as (url, _):
        with at_a_terminal("talk", "help-team", "--url", url, cwd=project, NO_COLOR="1") as (_, terminal):
            assert not re.search("\x1b\\[[0-9;]*m", until(terminal, "you > "))
        with at_a_terminal("talk", "help-team", "--url", url, cwd=project, NO_COLOR="") as (_, terminal):
            assert "\x1b[1mhelp-team · Lead" in until(terminal, "you > ")


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("localhost:80", "error: 'localhost:80' is no address of a team; write http://HOST:PORT/teams/TEAM\n"),
        ("http://127.0.0.1:9", "error: nobody serves a chat at ws://127.0.0.1:9/chat (connection refused); start it "),
    ],
)
def test_an_address_where_no_team_is(project: Path, address: str, sentence: str) -> None:
    assert elf("talk", "help-team", "--url", address, "--say", "hi", cwd=project).stderr.startswith(sentence)


def test_a_certificate_that_nobody_trusts_is_told(project: Path, tmp_path: Path) -> None:
    with publishing(certificate(tmp_path / "server.pem")) as server:
        done = elf("talk", "help-team", "--url", server.address, "--say", "hi", cwd=project)
    assert "certificate verify failed" in done.stderr


def test_a_name_that_nobody_has_is_told() -> None:
    # The resolver's error without the resolver, which would ask the network.
    why = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    with (
        pytest.raises(Retryable, match=r"chat at ws://nobody/chat \(Name or service not known\); start it"),
        connecting("ws://nobody/chat", Remedies(start="start it", token="", again="")),
    ):
        raise why


def test_an_address_that_serves_something_else(project: Path) -> None:
    with served(project) as (url, _):
        done = elf("talk", "help-team", "--url", f"{url}s", "--say", "hi", cwd=project)
    assert done.stderr.startswith(f"error: there is no chat at {url.replace('http', 'ws')}s/chat (HTTP 40")


def test_a_misspelt_framework_or_command_is_told(project: Path) -> None:
    file = project / "teams" / "help-team" / "team.yaml"
    file.write_text(f"{TEAM}framework: langraph\n", encoding="utf-8")
    assert elf("check", cwd=project).stdout.splitlines()[0] == (
        "teams/help-team/team.yaml:3: framework: no adapter 'langraph' is installed here; did you mean 'langgraph'? "
        "(warning)"
    )
    assert "there is no command 'chek'; did you mean 'check'?" in elf("chek", cwd=project).stderr


@pytest.mark.parametrize("module", ["token", "talk", "dev"])
def test_a_command_loads_no_server_before_it_serves(module: str) -> None:
    program = (
        f"import sys, elf_sdk.cli.{module}\n"
        "assert not {'a2a', 'sqlalchemy', 'google', 'crewai', 'langgraph'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], env=environment(), check=True, timeout=60)
