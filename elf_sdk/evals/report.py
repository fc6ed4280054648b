"""A report as people and machines read it: lines for a terminal, Markdown, JSON, and JUnit's XML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final
from xml.etree import ElementTree

from elf_sdk.evals.reply import Spent
from elf_sdk.evals.result import CheckResult, ConversationResult, Report, Session, TurnResult

__all__ = ["as_data", "as_junit", "as_markdown", "failures", "summary"]

_SHOWN: Final = 2000
"""Characters of an answer that a report shows; JSON has all."""


def summary(conversation: ConversationResult) -> str:
    """What a conversation came to, on one line: sessions, seconds, tokens and dollars."""
    sessions = conversation.sessions
    seconds = sum(session.seconds for session in sessions)
    parts = [f"{seconds:.1f} s", _spent(session.spent for session in sessions)]
    if len(sessions) > 1:
        parts.insert(0, f"{conversation.right} of {len(sessions)} right")
    if judged := sum(session.judged for session in sessions):
        parts.append(f"{judged} tokens to judge")
    return ", ".join(parts)


def _spent(parts: Iterable[Spent | None]) -> str:
    total = Spent()
    for part in parts:
        if part is None:
            return "usage not known"
        total += part
    cost = "price not known" if total.cost_usd is None else f"${total.cost_usd:.4f}"
    return f"{total.tokens} tokens, {cost}"


def failures(conversation: ConversationResult) -> Iterator[str]:
    """What was not as it should be, a line each, with file and line; the answer is cut to its beginning."""
    for number, session in enumerate(conversation.sessions, 1):
        which = f" (time {number} of {len(conversation.sessions)})" if len(conversation.sessions) > 1 else ""
        for place, turn in enumerate(session.turns, 1):
            for check in turn.checks:
                if not check.holds:
                    found = f"{_one_line(check.check)}: {_one_line(check.detail)}"
                    yield f"{conversation.file}:{check.line}: turn {place}{which}: {found}"
            if not turn.holds:
                yield f"    {turn.act}: {_one_line(turn.value)}"
                yield f"    came back: {_one_line(turn.reply.text) or 'no text'}"
        for check in session.checks:
            if not check.holds:
                where = f"{conversation.file}:{check.line}" if check.line else conversation.file
                yield f"{where}{which}: {check.check}: {check.detail}"
        if session.error:
            yield f"{conversation.file}{which}: {_one_line(session.error)}"


def _plain(text: str) -> str:
    """On one line, without what a terminal would take for a command."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in " ".join(text.split()))


def _one_line(text: str) -> str:
    line = _plain(text)
    return line if len(line) <= 160 else f"{line[:159]}…"


def as_data(reports: Sequence[Report]) -> dict[str, Any]:
    """Everything, in values that JSON has."""
    return {"ok": all(report.holds for report in reports), "teams": [_team(report) for report in reports]}


def _team(report: Report) -> dict[str, Any]:
    return {
        "team": report.team,
        "ok": report.holds,
        "url": report.url,
        "digest": report.digest or None,
        "images": list(report.images),
        "conversations": [
            {
                "name": conversation.name,
                "file": conversation.file,
                "ok": conversation.holds,
                "right": conversation.right,
                "needed": conversation.needed,
                "sessions": [{"ok": session.holds, **asdict(session)} for session in conversation.sessions],
            }
            for conversation in report.conversations
        ],
    }


def as_markdown(reports: Sequence[Report]) -> str:
    """A page: a table of each team's conversations, and below it what was said in those that failed."""
    return "\n".join(_page(reports)) + "\n"


def _page(reports: Sequence[Report]) -> Iterator[str]:
    yield "# Evals"
    for report in reports:
        yield ""
        yield f"## {_escaped(report.team)}"
        yield ""
        right = sum(conversation.holds for conversation in report.conversations)
        images = f", answered by {', '.join(map(_escaped, report.images))}" if report.images else ""
        yield f"{right} of {len(report.conversations)} conversations are right, at {_escaped(report.url)}{images}."
        yield ""
        yield "| conversation | | came to |"
        yield "|---|---|---|"
        for conversation in report.conversations:
            verdict = "right" if conversation.holds else "**wrong**"
            yield f"| {_escaped(conversation.name)} | {verdict} | {summary(conversation)} |"
        for conversation in report.conversations:
            yield from _conversation(conversation)


def _conversation(conversation: ConversationResult) -> Iterator[str]:
    yield ""
    yield f"### {_escaped(conversation.name)}"
    yield ""
    yield _escaped(conversation.file)
    for number, session in enumerate(conversation.sessions, 1):
        if len(conversation.sessions) > 1:
            yield ""
            yield f"#### Time {number}: {'right' if session.holds else 'wrong'}"
        yield from _session(session)


def _session(session: Session) -> Iterator[str]:
    for place, turn in enumerate(session.turns, 1):
        yield from _turn(place, turn)
    if session.checks or session.error:
        yield ""
        yield from (_checked(check) for check in session.checks)
        if session.error:
            yield f"- ✗ {_escaped(session.error)}"


def _turn(place: int, turn: TurnResult) -> Iterator[str]:
    yield ""
    yield f"{place}. {turn.act}, {turn.reply.seconds:.1f} s, {_spent([turn.reply.spent])}"
    yield ""
    yield from _fenced(turn.value)
    for text in (turn.reply.text, *turn.reply.questions, *turn.reply.errors):
        if text:
            yield ""
            yield from _fenced(text)
    if turn.checks:
        yield ""
        yield from (_checked(check) for check in turn.checks)


def _checked(check: CheckResult) -> str:
    mark = "✓" if check.holds else "✗"
    judged = f", judged by {check.model}" if check.model else ""
    detail = f" — {check.detail}" if check.detail else ""
    return f"- {mark} {_escaped(_one_line(check.check))}{_escaped(judged)}{_escaped(_one_line(detail))}"


def _fenced(text: str) -> Iterator[str]:
    shown = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
    # Longer than any fence in the text, so that nothing in it ends the block (CommonMark 0.31, section 4.5).
    longest = max(map(len, re.findall("`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    yield f"{fence}text"
    yield from shown.split("\n")
    yield fence


def _escaped(text: str) -> str:
    """`text` as Markdown that shows it and nothing else: every ASCII punctuation may be escaped (section 2.4)."""
    return re.sub(r"([\\`*_{}\[\]<>#|!&~])", r"\\\1", _plain(text))


def as_junit(reports: Sequence[Report]) -> str:
    """JUnit's XML: a suite for each team, a case for each conversation. Pipelines show it beside the tests."""
    root = ElementTree.Element("testsuites")
    for report in reports:
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=report.team,
            tests=str(len(report.conversations)),
            failures=str(sum(not conversation.holds for conversation in report.conversations)),
        )
        for conversation in report.conversations:
            seconds = sum(session.seconds for session in conversation.sessions)
            case = ElementTree.SubElement(
                suite,
                "testcase",
                classname=report.team,
                name=_storable(conversation.name),
                file=_storable(conversation.file),
                time=f"{seconds:.3f}",
            )
            if not conversation.holds:
                lines = list(failures(conversation))
                failure = ElementTree.SubElement(case, "failure", message=_storable(lines[0]) if lines else "")
                failure.text = _storable("\n".join(lines))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _storable(text: str) -> str:
    """`text` without what XML 1.0 cannot hold (section 2.2)."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\N{REPLACEMENT CHARACTER}", text)
