"""The format of a recorded conversation: what a person does, turn by turn, and what must be true of what comes back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field

from elf_sdk.team.base import FORMAT, FORMAT_TYPE, FileModel, Frozen, Location, shown
from elf_sdk.team.kinds import Duration, Name, Number, TeamName, Text, Whole
from elf_sdk.team.schema import file_schema, schema_markdown
from elf_sdk.team.work import LLM

__all__ = ["Check", "Limits", "Recorded", "Turn", "conversation_markdown", "conversation_schema"]


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{shown(text)} is no regular expression: {error}; mend it, or write contains") from None
    return text


Pattern = Annotated[Text, AfterValidator(_pattern)]


class Limits(Frozen):
    """Upper bounds of a turn, or of a whole conversation."""

    time: Duration | None = None
    """From what the person does to the end of what comes back. Default: 5m for a turn, which is stopped then."""
    tokens: Annotated[Whole, Field(ge=0)] | None = None
    """Tokens that the team's models read and write; not those of teams that it delegates to."""
    cost_usd: Annotated[Number, Field(ge=0)] | None = None
    """What these tokens cost, in US dollars. Fails where the price of a model is not known."""


class Check(Frozen):
    """Something that must be true of what came back to a turn. Each check is one of these."""

    contains: Text | None = None
    """Text that the answer holds, letter by letter."""
    not_contains: Text | None = None
    """Text that the answer does not hold."""
    matches: Pattern | None = None
    """Regular expression of Python that is found in the answer."""
    not_matches: Pattern | None = None
    """Regular expression that is not found in it."""
    matches_schema: dict[str, Any] | None = None
    """JSON Schema (draft 2020-12) of the answer, which is JSON, by itself or as its one fenced block."""
    calls: Name | None = None
    """Name of a tool that is called."""
    not_calls: Name | None = None
    """Name of a tool that is not called."""
    delegates_to: TeamName | None = None
    """Team that work is proposed to."""
    not_delegates_to: TeamName | None = None
    """Team that no work is proposed to."""
    asks: Text | None = None
    """Text that a question of the team's holds."""
    fails: Text | None = None
    """Text that an error holds with which the turn ends. Without this check an error fails the conversation."""
    judge: Text | None = None
    """What a model that reads the conversation has to find true of the answer."""

    @property
    def kind(self) -> str:
        """Which one it is, such as `contains`."""
        return next(iter(self.model_fields_set))

    @property
    def value(self) -> Any:
        """What stands behind it."""
        return getattr(self, self.kind)


class Turn(Frozen):
    """One thing that a person does, and what must be true of what comes back. A turn is one of the first four."""

    say: Text | None = None
    """A message to the team."""
    answer: Text | None = None
    """The answer to the question that the team asked last."""
    confirm: TeamName | None = None
    """The team whose proposed delegation is confirmed. What it answers is what comes back."""
    reject: TeamName | None = None
    """The team whose proposed delegation is refused."""
    reason: Text | None = None
    """Why it is refused."""
    expect: tuple[Check, ...] = ()
    """What must be true, all of it."""
    limits: Limits = Limits()
    """Upper bounds of this turn."""

    @property
    def act(self) -> str:
        """What the person does: `say`, `answer`, `confirm` or `reject`."""
        return next(name for name in _ACTS if name in self.model_fields_set)

    @property
    def value(self) -> str:
        """What is said, or which team is meant."""
        return str(getattr(self, self.act))


_ACTS: Final = ("say", "answer", "confirm", "reject")
_CHECKS: Final = tuple(Check.model_fields)


class Recorded(FileModel):
    """A conversation that a team must still get right: a file in its `evals/`."""

    format: FORMAT_TYPE = FORMAT
    """The format of this file."""
    name: Name
    """What the conversation shows, as a sentence."""
    turns: Annotated[tuple[Turn, ...], Field(min_length=1)]
    """What happens, in order, in one session."""
    llm: LLM | None = None
    """The model that judges. Default: the team's own."""
    repeat: Annotated[Whole, Field(ge=1, le=100)] = 1
    """How often the conversation is had, each time in a session of its own."""
    passes: Annotated[Whole, Field(ge=1)] | None = None
    """How many of them have to be right. Default: all."""
    limits: Limits = Limits()
    """Upper bounds of all turns together."""

    def problems(self) -> list[tuple[Location, str]]:
        """What is wrong between fields that are each right."""
        return list(self._problems())

    def _problems(self) -> Iterator[tuple[Location, str]]:
        if self.passes is not None and self.passes > self.repeat:
            yield ("passes",), f"{self.passes} is more than repeat, {self.repeat}; write at most that"
        for place, turn in enumerate(self.turns):
            here: Location = ("turns", place)
            acts = [name for name in _ACTS if name in turn.model_fields_set]
            if len(acts) != 1:
                found = " and ".join(acts) or "none of them"
                yield here, f"a turn is one of {', '.join(_ACTS)}, and this is {found}; write one"
                continue
            if getattr(turn, turn.act) is None:
                yield (*here, turn.act), "it is empty; write what is said, or the team"
            elif place == 0 and turn.act != "say":
                yield (*here, turn.act), "nothing was said before; begin with `say: …`"
            if turn.reason is not None and turn.act != "reject":
                yield (*here, "reason"), "only what is refused has one; write it below `reject: …`"
            for number, check in enumerate(turn.expect):
                kinds = [name for name in _CHECKS if name in check.model_fields_set]
                if len(kinds) != 1:
                    found = " and ".join(kinds) or "none of them"
                    message = f"a check is one of {', '.join(_CHECKS)}, and this is {found}; write one a line"
                    yield (*here, "expect", number), message
                elif check.value is None or check.value == "":
                    yield (*here, "expect", number, check.kind), "it is empty; write what is to be found"

    @property
    def needed(self) -> int:
        """How many repetitions have to be right."""
        return self.repeat if self.passes is None else self.passes


def conversation_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a recorded conversation."""
    return file_schema(Recorded, "urn:elf:v1:eval", "A recorded conversation of ELF")


def conversation_markdown() -> str:
    """The page `docs/reference/evals.md`: every field with its type, default and meaning."""
    return _PAGE + schema_markdown("evals/NAME.yaml", conversation_schema())


_PAGE: Final = """\
# Evals

Generated from the models by `elf_sdk.evals.recorded.conversation_markdown`; a test says when it is out of date.

A file for each conversation, in the directory that `evals:` of the [team.yaml](team-yaml.md) names.
[Evals](../how-to/evals.md) shows how they are written and had. Unknown fields are refused. `elf check` checks these
files offline, and `elf schema eval` prints their JSON Schema.
"""
