"""`elf eval`, as somebody at a terminal and a pipeline meet it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_talk import elf

TEAM = "name: help-team\nmembers: [{role: Lead, is_manager: true}]\n"
CODE = """\
from elf_sdk import FunctionAdapter, TeamServer


async def answer(ctx):
    yield await ctx.complete(system="You are the lead.")


class Help(TeamServer):
    adapter = FunctionAdapter(answer)
"""
EVAL = """\
name: An order is found
turns:
  - say: Where is my order?
    expect:
      - contains: '[offline model] As the lead'
      - not_contains: lost
    limits: {tokens: 500}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    team = tmp_path / "teams" / "help-team"
    (team / "evals").mkdir(parents=True)
    (team / "team.yaml").write_text(TEAM, encoding="utf-8")
    (team / "team.py").write_text(CODE, encoding="utf-8")
    (team / "evals" / "order.yaml").write_text(EVAL, encoding="utf-8")
    return tmp_path


def test_a_team_is_served_asked_and_reported_on(project: Path) -> None:
    done = elf("eval", "help-team", "--report", "evals.md", "--junit", "evals.xml", cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✓ An order is found" in done.stdout
    assert "1 conversation, all of them right" in done.stdout
    assert done.stderr == ""
    assert "Where is my order?" in (project / "evals.md").read_text(encoding="utf-8")
    assert 'tests="1" failures="0"' in (project / "evals.xml").read_text(encoding="utf-8")
    assert not (project / ".elf").exists(), "the team's own database is left alone"


def test_what_is_wrong_ends_with_exit_code_1_and_the_line(project: Path) -> None:
    file = project / "teams/help-team/evals/order.yaml"
    file.write_text(EVAL.replace("not_contains: lost", "contains: lost"), encoding="utf-8")
    done = elf("eval", "help-team", cwd=project)
    assert done.returncode == 1
    assert "teams/help-team/evals/order.yaml:6: turn 1: contains: lost: the answer does not hold it" in done.stdout
    assert "error: 1 of 1 conversation went wrong" in done.stderr
    told = elf("eval", "help-team", "--json", cwd=project)
    assert told.returncode == 1
    assert json.loads(told.stdout)["teams"][0]["conversations"][0]["ok"] is False


def test_what_cannot_be_used_is_exit_code_2(project: Path) -> None:
    (project / "teams/help-team/evals/order.yaml").write_text(
        "name: x\nturns: [{say: a, expct: b}]\n", encoding="utf-8"
    )
    for command in (("eval", "help-team"), ("check",)):
        done = elf(*command, cwd=project)
        assert done.returncode == 2, done.stdout
        assert "evals/order.yaml:2: turns[0].expct: there is no such field; did you mean 'expect'?" in (
            done.stdout + done.stderr
        )
    done = elf("eval", "help-team", "--digest", "sha256:00", cwd=project)
    assert (done.returncode, "--digest needs --url" in done.stderr) == (2, True)


def test_nobody_at_an_address_is_said(project: Path) -> None:
    done = elf("eval", "help-team", "--url", "http://127.0.0.1:1/teams/help-team", "--token", "x", cwd=project)
    assert done.returncode == 1
    assert "nobody serves a chat at http://127.0.0.1:1/teams/help-team/chat (connection refused)" in done.stderr
