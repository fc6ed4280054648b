"""What the offline model says: a script of rules, and the pure matching of a request against it.

A script is a YAML file. Its rules are tried in order, and the first that fits a request answers it. No rule fits:
the model says that it is the offline model, and repeats what it was asked and as whom. The format is described for
people in `docs/reference/offline-model.md`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from elf_sdk.errors import BadSpec
from elf_sdk.team.document import read
from elf_sdk.team.explain import explain
from elf_sdk.team.kinds import duration_seconds

__all__ = ["Call", "Fault", "OfflineScript", "Prompt", "Reply", "Rule", "When", "load_script", "reply_to", "tokens"]

_PLACEHOLDER: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_BUILT_IN: Final = frozenset({"question", "role", "result"})


def tokens(text: str) -> list[str]:
    """`text` in the pieces in which it is streamed and counted: words, each with the space before it."""
    return re.findall(r"\s*\S+|\s+$", text)


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is no regular expression: {error}") from None
    return text


def _duration(text: str) -> str:
    duration_seconds(text)
    return text


Pattern = Annotated[str, AfterValidator(_pattern)]
Duration = Annotated[str, AfterValidator(_duration)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class When(_Part):
    """Which requests a rule answers. All that is given must fit; patterns are searched, not matched whole."""

    user: Pattern | None = None
    """In what the person asked: the last message of the user, before any tool calls that it led to."""
    system: Pattern | None = None
    """In the system prompt."""
    before: Pattern | None = None
    """In what was said before that question, by whomever. Fits nothing where nothing was said."""
    after_tool: Pattern | None = None
    """In the name of the tool that has just answered. A rule without it never fits after a tool's answer."""
    result: Pattern | None = None
    """In what that tool answered; needs `after_tool`."""

    @model_validator(mode="after")
    def _result_of_a_tool(self) -> Self:
        if self.result is not None and self.after_tool is None:
            raise ValueError("result is what a tool answered; name the tool with after_tool, or .* for any")
        return self

    @property
    def names(self) -> frozenset[str]:
        """The named groups of all patterns."""
        patterns = (self.user, self.system, self.before, self.after_tool, self.result)
        return frozenset(name for pattern in patterns if pattern for name in re.compile(pattern).groupindex)


class Call(_Part):
    """A tool call. The rule fits only where the request offers this tool."""

    tool: str
    arguments: dict[str, Any] = {}
    raw: str | None = None
    """The arguments exactly as written here, whether they are JSON or not; instead of `arguments`."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.raw is not None and self.arguments:
            raise ValueError("raw is instead of arguments; write one of them")
        return self


class Fault(_Part):
    """What goes wrong. Exactly one of `status`, `context_too_long`, `reset_after` and `hang_after`."""

    status: Annotated[int, Field(ge=400, le=599)] | None = None
    message: str = "a scripted fault"
    retry_after: Annotated[int, Field(ge=0)] | None = None
    """Seconds, as the header Retry-After; with `status`."""
    context_too_long: bool = False
    """Say that the conversation has more tokens than the model takes, as the provider says it."""
    reset_after: Annotated[int, Field(ge=0)] | None = None
    """Cut the connection after so many tokens; at 0 before anything but the headers of the answer."""
    hang_after: Annotated[int, Field(ge=0)] | None = None
    """Send nothing more after so many tokens, until the client goes; at 0 nothing but the headers."""
    times: Annotated[int, Field(ge=1)] | None = None
    """Only the first so many requests that the rule fits; later ones pass the rule by. Default: all."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [kind is not None for kind in (self.status, self.reset_after, self.hang_after)]
        if sum((*given, self.context_too_long)) != 1:
            raise ValueError("give exactly one of status, context_too_long, reset_after and hang_after")
        if self.retry_after is not None and self.status is None:
            raise ValueError("retry_after is a header of an answer with a status; add status, such as 429")
        return self


class Rule(_Part):
    """One answer: text, tool calls or both, and how slowly; or a fault."""

    when: When = When()
    say: str = ""
    """Text, in which `${name}` stands for a named group, or for `question`, `role` or `result`."""
    call: Call | None = None
    """A tool call, in whose arguments `${name}` stands for the same."""
    calls: tuple[Call, ...] = ()
    """Several in one message, instead of `call`."""
    delay: Duration | None = None
    """Before each token, such as 20ms; default: the script's."""
    pause: Duration = "0ms"
    """Before the first token, and before the headers of an answer that is not streamed."""
    finish: Literal["stop", "length", "content_filter"] | None = None
    """Why the model stops, in the words of OpenAI's API. With nothing to say, the answer is empty."""
    forever: bool = False
    """Say it over and over, until the client goes."""
    fault: Fault | None = None

    @property
    def all_calls(self) -> tuple[Call, ...]:
        """The tool calls, however they are written."""
        return self.calls if self.call is None else (self.call,)

    @model_validator(mode="after")
    def _answers(self) -> Self:
        if not (self.say or self.all_calls or self.fault or self.finish):
            raise ValueError("the rule answers nothing; add say, call, calls, finish or fault")
        if self.call is not None and self.calls:
            raise ValueError("calls is instead of call; write one of them")
        if self.forever and not self.say:
            raise ValueError("forever repeats what say has; add say")
        known = self.when.names | _BUILT_IN
        written = [text for call in self.all_calls for text in (*_strings(call.arguments), call.raw or "")]
        for text in (self.say, *written):
            for name in _PLACEHOLDER.findall(text):
                if name not in known:
                    raise ValueError(f"${{{name}}} is no named group of the rule; there is {', '.join(sorted(known))}")
        return self


class OfflineScript(_Part):
    """The rules of one team's offline model."""

    delay: Duration = "0ms"
    """Before each token, where the rule says nothing else."""
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """The parts of a chat completion request that rules look at.

    Attributes:
        system: all system and developer messages, joined by newlines.
        question: the last user message before the tool calls it led to.
        results: (tool, output) of the tools that have just answered, or nothing.
        offered: names of the tools that may be called.
        before: the texts of the user and the assistant before the question, joined by newlines.
    """

    system: str
    question: str
    results: tuple[tuple[str, str], ...] = ()
    offered: frozenset[str] = frozenset()
    before: str = ""

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Prompt:
        """The prompt in the body of a request to `/v1/chat/completions`; the body's shape was checked before."""
        messages: Sequence[Mapping[str, Any]] = body["messages"]
        system = "\n".join(text_of(message) for message in messages if message.get("role") in ("system", "developer"))
        # Some frameworks add a user message after each tool result, so the question is looked for before the
        # whole exchange with tools, which begins after the last plain answer.
        answered = [i for i, m in enumerate(messages) if m.get("role") == "assistant" and not m.get("tool_calls")]
        tail = messages[answered[-1] + 1 :] if answered else messages
        calls = [i for i, message in enumerate(tail) if message.get("tool_calls")]
        asked = tail[: calls[0]] if calls else tail
        users = [message for message in asked if message.get("role") == "user"] or [
            message for message in messages if message.get("role") == "user"
        ]
        names = {call.get("id"): call["function"]["name"] for m in tail for call in m.get("tool_calls") or ()}
        results = tuple(
            (names.get(message.get("tool_call_id"), ""), text_of(message))
            for message in (tail[calls[-1] :] if calls else ())
            if message.get("role") == "tool"
        )
        offered = frozenset(tool["function"]["name"] for tool in body.get("tools") or () if "function" in tool)
        earlier = itertools.takewhile(lambda message: not users or message is not users[-1], messages)
        before = "\n".join(text_of(message) for message in earlier if message.get("role") in ("user", "assistant"))
        return cls(system, text_of(users[-1]) if users else "", results, offered, before)


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model does with a request.

    Attributes:
        text: what it says, may be empty.
        calls: tools with their arguments, which are text where they are to be sent as they are.
        delay: seconds before each token.
        fault: what goes wrong, or None.
        rule: index of the rule that fitted, -1 for the generic answer.
        pause: seconds before the first token.
        finish: why it stops, or empty for the usual reason.
        forever: whether it never stops.
    """

    text: str
    calls: tuple[tuple[str, Mapping[str, Any] | str], ...] = ()
    delay: float = 0.0
    fault: Fault | None = None
    rule: int = -1
    pause: float = 0.0
    finish: str = ""
    forever: bool = False


@dataclass(slots=True)
class Faults:
    """How often each rule's fault has happened: the only memory the model has, and only where `times` is given."""

    seen: dict[int, int] = field(default_factory=dict)

    def spent(self, rule: int, fault: Fault) -> bool:
        """Count one occurrence; True when the fault has already happened as often as it should."""
        if fault.times is None:
            return False
        self.seen[rule] = self.seen.get(rule, 0) + 1
        return self.seen[rule] > fault.times


def reply_to(prompt: Prompt, script: OfflineScript, faults: Faults | None = None) -> Reply:
    """The answer of `script` to `prompt`: the first rule that fits, else the generic answer."""
    for index, rule in enumerate(script.rules):
        groups = _fits(rule, prompt)
        if groups is None or (rule.fault is not None and faults is not None and faults.spent(index, rule.fault)):
            continue
        values = {
            "question": prompt.question.strip(),
            "role": role_of(prompt.system),
            "result": prompt.results[-1][1] if prompt.results else "",
        } | groups
        return Reply(
            _filled(rule.say, values),
            tuple(
                (call.tool, _filled(call.arguments if call.raw is None else call.raw, values))
                for call in rule.all_calls
            ),
            duration_seconds(rule.delay or script.delay),
            rule.fault,
            index,
            duration_seconds(rule.pause),
            rule.finish or "",
            rule.forever,
        )
    return Reply(_generic(prompt), delay=duration_seconds(script.delay))


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a message, whose content is a string or a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""


def role_of(system: str) -> str:
    """Who the system prompt says the model is: `the marketing strategist` in "You are the marketing strategist."."""
    found = re.search(r"[Yy]ou are ([^.\n]{1,100})", system)
    return found[1].strip() if found else "an assistant"


def _fits(rule: Rule, prompt: Prompt) -> dict[str, str] | None:
    when = rule.when
    if not prompt.offered.issuperset(call.tool for call in rule.all_calls):
        return None
    if (when.after_tool is None) == bool(prompt.results):
        return None
    tool, output = prompt.results[-1] if prompt.results else ("", "")
    groups: dict[str, str] = {}
    for pattern, text in (
        (when.system, prompt.system),
        (when.user, prompt.question),
        (when.before, prompt.before),
        (when.after_tool, tool),
        (when.result, output),
    ):
        if pattern is None:
            continue
        found = re.search(pattern, text)
        if found is None:
            return None
        groups |= {name: value or "" for name, value in found.groupdict().items()}
    return groups


def _generic(prompt: Prompt) -> str:
    role = role_of(prompt.system)
    # Frameworks put their own instructions below the question, after a blank line.
    asked = _shortened(prompt.question.strip().partition("\n\n")[0].removeprefix("Current Task: "))
    if prompt.results:
        tool, output = prompt.results[-1]
        return f"[offline model] As {role}, I used {tool or 'a tool'} for “{asked}”. It answered: {_shortened(output)}"
    return (
        f"[offline model] As {role}, I was asked: “{asked}”. My script has no answer to this, so take this text as a "
        "placeholder: a real model would answer here. Set llm.provider and llm.model in team.yaml to use one."
    )


def _shortened(text: str, limit: int = 400) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    # One pass over the parsed value: what is put in is never looked at again, and never becomes syntax.
    if isinstance(value, str):
        return _PLACEHOLDER.sub(lambda found: values[found[1]], value)
    if isinstance(value, dict):
        return {key: _filled(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, values) for item in value]
    return value


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def load_script(path: Path | str) -> OfflineScript:
    """The script in the YAML file at `path`.

    Raises:
        BadSpec: the file is no script; every problem with its line.
    """
    document = read(Path(path), str(path))
    try:
        script = OfflineScript.model_validate(document.data)
    except ValidationError as error:
        found = [document.problem(where, what) for where, what in explain(error, OfflineScript, document)]
        problems = sorted([*document.problems, *found], key=lambda problem: problem.line)
        raise BadSpec(problems) from None
    if document.problems:
        raise BadSpec(document.problems)
    return script
