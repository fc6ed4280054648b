"""Reports: whatever a team says is shown, and is nothing but text."""

from __future__ import annotations

import json
from xml.etree import ElementTree

from elf_sdk.evals.reply import Reply, Spent
from elf_sdk.evals.report import as_data, as_junit, as_markdown, failures
from elf_sdk.evals.result import CheckResult, ConversationResult, Report, Session, TurnResult

HOSTILE = "```\n# Heading\n````\n</failure>]]> | cell | <b>\x1b[2J\x00\ud800 [x](javascript:1)"


def report(text: str) -> Report:
    check = CheckResult(f"contains: {text}", False, "the answer does not hold it", 7)
    turn = TurnResult("say", text, 5, Reply(text, seconds=1.25, spent=Spent(42, 0.002)), (check,))
    session = Session((turn,), (CheckResult("tokens: 1", False, "it used 42", 3),), "it ended", 1.25, Spent(42, 0.002))
    return Report("boss", "http://boss", "", (ConversationResult(f"a {text}", "evals/a.yaml", (session,), 1),))


def test_lines_name_file_and_line_and_steer_no_terminal() -> None:
    lines = list(failures(report(HOSTILE).conversations[0]))
    assert lines[0].startswith("evals/a.yaml:7: turn 1: contains: ``` # Heading")
    assert "evals/a.yaml:3: tokens: 1: it used 42" in lines
    assert all(character.isprintable() for line in lines for character in line)


def test_markdown_shows_what_was_said_and_nothing_in_it_counts() -> None:
    page = as_markdown([report(HOSTILE)])
    outside = []
    fence = ""
    for line in page.splitlines():
        if not fence and line.startswith("```"):
            fence = line.removesuffix("text")
        elif fence and line == fence:
            fence = ""
        elif not fence:
            outside.append(line)
    assert fence == "", "every block is closed"
    assert not any(line.startswith("# Heading") for line in outside)
    assert all(line.count("|") - line.count("\\|") in (0, 4) for line in outside), "no cell is added"
    assert "<b>" not in "".join(outside).replace("\\<b\\>", "")


def test_junit_can_be_read_back() -> None:
    root = ElementTree.fromstring(as_junit([report(HOSTILE)]).encode())  # noqa: S314 - our own
    [case] = root.iter("testcase")
    [failure] = case
    assert (case.get("classname"), case.get("time")) == ("boss", "1.250")
    assert "evals/a.yaml:7" in (failure.text or "")
    assert root.find("testsuite") is not None
    assert [suite.get("failures") for suite in root] == ["1"]


def test_json_has_everything() -> None:
    text = "as it is"
    told = json.loads(json.dumps(as_data([report(text)])))
    assert told["ok"] is False
    [conversation] = told["teams"][0]["conversations"]
    [session] = conversation["sessions"]
    assert session["turns"][0]["reply"]["spent"] == {"tokens": 42, "cost_usd": 0.002}
    assert session["turns"][0]["checks"][0]["line"] == 7
