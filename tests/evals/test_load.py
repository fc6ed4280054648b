"""What a recorded conversation may hold, and what is said of one that is wrong."""

from __future__ import annotations

from pathlib import Path

import jsonschema_rs
import pytest

from elf_sdk.errors import BadInput, BadSpec
from elf_sdk.evals.load import conversations_of
from elf_sdk.evals.recorded import conversation_markdown, conversation_schema
from elf_sdk.team.document import read

from .conftest import Recordings

ROOT = Path(__file__).parents[2]

WHOLE = """\
format: elf/v1
name: Everything
llm: {provider: openai, model: gpt-5-mini}
repeat: 3
passes: 2
limits: {time: 2m, tokens: 5000, cost_usd: 0.5}
turns:
  - say: Hello
    limits: {time: 10s, tokens: 100, cost_usd: 0}
    expect:
      - contains: a
      - not_contains: b
      - matches: (?i)hello
      - not_matches: ^no
      - matches_schema: {type: object, required: [a]}
      - calls: search
      - not_calls: shell
      - delegates_to: worker
      - not_delegates_to: other
      - asks: Which
      - fails: budget
      - judge: It is polite.
  - answer: blue
  - confirm: worker
  - reject: other
    reason: too early
"""


def test_everything_that_can_be_written_is_read(recordings: Recordings) -> None:
    recordings.write(WHOLE)
    [conversation] = conversations_of(recordings.team)
    recorded = conversation.recorded
    assert [turn.act for turn in recorded.turns] == ["say", "answer", "confirm", "reject"]
    assert [check.kind for check in recorded.turns[0].expect][-1] == "judge"
    assert (recorded.needed, conversation.line(0, 2), conversation.line(3)) == (2, 13, 25)
    jsonschema_rs.validate(conversation_schema(), read(recordings.directory / "evals" / "first.yaml", "").data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("  - answer: blue", "  - answer: blue\n    say: red"),
            "23: turns[1]: a turn is one of say, answer, confirm, rej",
        ),
        (
            ("  - answer: blue", "  - expect: []"),
            "23: turns[1]: a turn is one of say, answer, confirm, reject, and this is n",
        ),
        (("- say: Hello", "- confirm: worker"), "8: turns[0].confirm: nothing was said before; begin with `say: …`"),
        (
            ("      - contains: a\n", "      - contain: a\n"),
            "11: turns[0].expect[0].contain: there is no such field; did you ",
        ),
        (
            ("contains: a\n", "contains: a\n        calls: x\n"),
            "11: turns[0].expect[0]: a check is one of contains, not_con",
        ),
        (
            ("not_contains: b", "not_contains:"),
            "12: turns[0].expect[1].not_contains: it is empty; write what is to be f",
        ),
        (("(?i)hello", "'(hello'"), "13: turns[0].expect[2].matches: '(hello' is no regular expression: missing )"),
        (("{type: object,", "{type: thing,"), "15: turns[0].expect[4].matches_schema: this is no JSON Schema: "),
        (
            ("{type: object, required: [a]}", '{$ref: "https://example.com/a"}'),
            "15: turns[0].expect[4].matches_schema: thi",
        ),
        (("passes: 2", "passes: 4"), "5: passes: 4 is more than repeat, 3; write at most that"),
        (("time: 10s", "time: 10"), "9: turns[0].limits.time: 10 is no text; write it in quotes"),
        (("cost_usd: 0}", "cost_usd: -1}"), "9: turns[0].limits.cost_usd: -1 is too small; write at least 0"),
        (
            ("  - confirm: worker", "  - confirm: worker\n    reason: x"),
            "25: turns[2].reason: only what is refused has one",
        ),
        (
            ("name: Everything", "name: Everything\nteam: x"),
            "3: team: there is no such field; the fields here are: format",
        ),
        (("turns:", "turns: ["), "this is not YAML"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_line(
    recordings: Recordings, change: tuple[str, str], message: str
) -> None:
    assert WHOLE.count(change[0]) == 1
    recordings.write(WHOLE.replace(*change))
    with pytest.raises(BadSpec) as error:
        conversations_of(recordings.team)
    assert f"evals/first.yaml:{message}" in str(error.value) or message in str(error.value)


def test_no_conversation_is_said_with_the_place(recordings: Recordings) -> None:
    with pytest.raises(BadInput, match=r"team\.yaml: there is no conversation in evals/; record one there"):
        conversations_of(recordings.team)


def test_the_schema_refuses_what_is_refused() -> None:
    jsonschema_rs.meta.validate(conversation_schema())
    check = jsonschema_rs.validator_for(conversation_schema())
    assert check.is_valid({"name": "a", "turns": [{"say": "b"}]})
    assert not check.is_valid({"name": "a", "turns": []})
    assert not check.is_valid({"name": "a", "turns": [{"say": "b", "expect": [{"contain": "c"}]}]})


def test_the_page_of_evals_is_up_to_date() -> None:
    page = ROOT / "docs" / "reference" / "evals.md"
    assert page.read_text(encoding="utf-8") == conversation_markdown(), "run scripts/docs"
