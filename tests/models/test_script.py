from pathlib import Path
from typing import Any

import pytest

from elf_sdk.errors import BadSpec
from elf_sdk.models.script import OfflineScript, Prompt, load_script, reply_to, tokens

TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {}}}


def _script(*rules: dict[str, Any]) -> OfflineScript:
    return OfflineScript.model_validate({"rules": rules})


def _prompt(user: str, *, system: str = "You are the cook.", tools: list[Any] | None = None, more: Any = ()) -> Prompt:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}, *more]
    return Prompt.of({"messages": messages, "tools": tools or []})


def _asked_and_answered(output: str) -> list[dict[str, Any]]:
    call = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": output},
    ]


def test_the_first_rule_that_fits_answers() -> None:
    script = _script({"when": {"user": "soup"}, "say": "Soup."}, {"say": "Bread."})
    assert reply_to(_prompt("Make soup"), script).text == "Soup."
    assert reply_to(_prompt("Anything"), script).text == "Bread."


def test_a_rule_sees_the_system_prompt() -> None:
    script = _script({"when": {"system": "waiter"}, "say": "At once."}, {"say": "No."})
    assert reply_to(_prompt("Hi", system="You are the waiter."), script).text == "At once."
    assert reply_to(_prompt("Hi"), script).text == "No."


def test_a_rule_sees_what_was_said_before_the_question() -> None:
    script = _script(
        {"when": {"user": "again", "before": "(?P<dish>soup|bread)"}, "say": "More ${dish}."}, {"say": "No."}
    )
    said = [{"role": "user", "content": "I want soup"}, {"role": "assistant", "content": "Here it is."}]
    again = {"role": "user", "content": "Some again"}
    assert reply_to(Prompt.of({"messages": [*said, again]}), script).text == "More soup."
    assert reply_to(Prompt.of({"messages": [again]}), script).text == "No."
    # What is said now, or by the colleagues who work on it, was not said before.
    drafted = {"role": "assistant", "content": "A draft about soup."}
    now = {"role": "user", "content": "Some soup again"}
    assert reply_to(Prompt.of({"messages": [now, drafted]}), script).text == "No."


def test_named_groups_reach_text_and_arguments_and_are_never_read_again() -> None:
    script = _script(
        {
            "when": {"user": "cook (?P<dish>.+) please"},
            "say": "Looking for ${dish} as ${role}.",
            "call": {"tool": "look_up", "arguments": {"dish": "${dish}", "tags": ["${dish}!"], "n": 2}},
        }
    )
    reply = reply_to(_prompt('cook "${role}" {x} please', tools=[TOOL]), script)
    assert reply.text == 'Looking for "${role}" {x} as the cook.'
    assert reply.calls == (("look_up", {"dish": '"${role}" {x}', "tags": ['"${role}" {x}!'], "n": 2}),)


def test_a_call_needs_the_tool_to_be_offered() -> None:
    script = _script({"call": {"tool": "look_up"}}, {"say": "I have no such tool."})
    assert reply_to(_prompt("Hi"), script).text == "I have no such tool."
    assert reply_to(_prompt("Hi", tools=[TOOL]), script).calls == (("look_up", {}),)


def test_after_a_tool_only_rules_for_that_fit() -> None:
    script = _script(
        {"call": {"tool": "look_up"}},
        {"when": {"after_tool": "look_up", "result": "(?P<grams>\\d+) g"}, "say": "${grams} grams. ${question}"},
    )
    # CrewAI and others add a user message after the result; the question is the one before the call.
    more = [*_asked_and_answered("200 g"), {"role": "user", "content": "Analyze the result"}]
    assert reply_to(_prompt("How much?", tools=[TOOL], more=more), script).text == "200 grams. How much?"


def test_earlier_turns_do_not_count_as_the_present_exchange() -> None:
    more = [
        *_asked_and_answered("200 g"),
        {"role": "assistant", "content": "200"},
        {"role": "user", "content": "Thanks"},
    ]
    prompt = _prompt("How much?", more=more)
    assert (prompt.question, prompt.results) == ("Thanks", ())


def test_without_a_rule_it_says_what_it_is_and_repeats_the_question() -> None:
    text = reply_to(_prompt("What is for dinner?"), OfflineScript()).text
    assert text.startswith("[offline model]")
    assert "the cook" in text
    assert "What is for dinner?" in text
    after = reply_to(_prompt("How much?", more=_asked_and_answered("200 g")), OfflineScript()).text
    assert after.startswith("[offline model]")
    assert "200 g" in after


def test_content_may_be_a_list_of_parts() -> None:
    body = {"messages": [{"role": "user", "content": [{"type": "text", "text": "soup"}]}]}
    assert Prompt.of(body).question == "soup"


@pytest.mark.parametrize("text", ["", "one", "one two\n\n- three", "  led by spaces ", "ends\n"])
def test_tokens_are_the_text(text: str) -> None:
    assert "".join(tokens(text)) == text


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("rules:\n  - when: {user: '('}\n    say: x\n", 2, "is no regular expression"),
        ("rules:\n  - say: x\n  - delai: y\n", 3, "did you mean 'delay'"),
        ("rules:\n  - when: {user: soup}\n", 2, "answers nothing"),
        ("rules:\n  - say: hello ${nobody}\n", 2, "${nobody} is no named group"),
        ("rules:\n  - say: x\n    delay: soon\n", 3, "soon"),
        ("rules:\n  - fault: {status: 429, hang_after: 2}\n", 2, "exactly one of"),
        ("rules:\n  - fault: {status: 200}\n", 2, "400"),
        ("rules:\n  - say: x\n    calls: [{tool: a}]\n    call: {tool: b}\n", 2, "calls is instead of call"),
        ("rules:\n  - call: {tool: a, raw: '{', arguments: {b: 1}}\n", 2, "raw is instead of arguments"),
        ("rules:\n  - finish: stop\n    forever: true\n", 2, "forever repeats what say has"),
        ("rules:\n  - finish: tired\n", 2, "'tired' is not known"),
        ("rules:\n  - fault: {context_too_long: true, status: 500}\n", 2, "exactly one of"),
        ("rules: [\n", 1, "not YAML"),
        ("- a\n", 1, "list"),
        ("rules:\n  - when: {result: x}\n    say: y\n", 2, "after_tool"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, line: int, says: str) -> None:
    file = tmp_path / "offline.yaml"
    file.write_text(text)
    with pytest.raises(BadSpec) as raised:
        load_script(file)
    assert says in str(raised.value)
    assert raised.value.problems[0].line == line


def test_all_problems_are_found_at_once(tmp_path: Path) -> None:
    file = tmp_path / "offline.yaml"
    file.write_text("delay: x\nrules:\n  - when: {user: '('}\n    say: x\n  - say: 5\n")
    with pytest.raises(BadSpec) as raised:
        load_script(file)
    assert [problem.line for problem in raised.value.problems] == [1, 3, 5]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadSpec, match=r"nowhere\.yaml.*cannot be read"):
        load_script(tmp_path / "nowhere.yaml")
