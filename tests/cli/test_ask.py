"""`elf ask`: one question by A2A, as the test of a deployment asks it."""

from __future__ import annotations

from pathlib import Path

from tests.cli.test_talk import ASKING, elf, project, served

__all__ = ["project"]


def test_a_team_answers_whoever_has_a_token_for_it(project: Path, tmp_path: Path) -> None:
    with served(project) as (url, _):
        by_itself = elf("ask", "help-team", "Where is my order?", "--url", url, cwd=project)
        token = elf("token", "help-team", cwd=project).stdout.strip()
        given = elf("ask", "help-team", "And now?", "--url", url, "--token", token, cwd=tmp_path)
        refused = elf("ask", "help-team", "And now?", "--url", url, "--token", "x", cwd=tmp_path)
    assert by_itself.returncode == 0, by_itself.stderr
    assert by_itself.stdout.startswith("[offline model] As the lead, I was asked: “Where is my order?”")
    assert "And now?" in given.stdout
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: ")
    assert "Traceback" not in refused.stderr


def test_a_question_of_the_teams_is_an_answer_too(project: Path) -> None:
    (project / "teams" / "help-team" / "team.py").write_text(ASKING, encoding="utf-8")
    with served(project) as (url, _):
        done = elf("ask", "help-team", "A room, please", "--url", url, cwd=project)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Which city?\n(help-team waits for an answer to this)\n"


def test_a_team_that_fails_or_is_not_there_is_told_in_a_sentence(project: Path) -> None:
    code = ASKING.replace("yield f\"Booked: {await ctx.ask('Which city?')}.\"", 'raise ValueError("no")\n    yield ""')
    (project / "teams" / "help-team" / "team.py").write_text(code, encoding="utf-8")
    with served(project) as (url, _):
        failed = elf("ask", "help-team", "A room, please", "--url", url, cwd=project)
    assert failed.returncode == 1
    assert "help-team ended as failed" in failed.stderr
    late = elf("ask", "help-team", "A room, please", "--url", "http://127.0.0.1:9", cwd=project)
    assert late.returncode == 1
    assert "127.0.0.1:9" in late.stderr
