"""What a function asks a person, and how it goes on after the answer: from its start, past what it asked before."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Mapping
from typing import Final

from elf_sdk.runs.adapter import RunError
from elf_sdk.runs.events import Event, InputRequired, LoggedEvent, Usage, clean

__all__ = ["Asked", "Questions"]

log = logging.getLogger("elf.runs")

_PREFIX: Final = "ask-"
_PROMPT: Final = 200
"""Characters of a question that are repeated."""


class Asked(BaseException):
    """Nobody has answered yet: the function is left here, and called again once somebody has.

    Not an `Exception`, so that a function's own handling of errors lets it through.
    """


class Questions:
    """The questions of one run, by the order in which its function asks them.

    What the function says until it has passed all that was asked already was said before, when it came to the last
    question, and is in the log.

    Args:
        answers: what a person answered so far, by the id of the question.
        before: what the run's log holds.

    Attributes:
        open: those that wait for an answer now, by id.
    """

    def __init__(self, answers: Mapping[str, str], before: Iterable[LoggedEvent] = ()) -> None:
        self._asked = {
            logged.event.question_id: logged.event.prompt
            for logged in before
            if isinstance(logged.event, InputRequired)
        }
        self._answers = answers
        self._to_pass = {question_id for question_id in (*self._asked, *answers) if question_id.startswith(_PREFIX)}
        self._numbers = itertools.count(1)
        self.open: dict[str, InputRequired] = {}

    def ask(self, prompt: str) -> str:
        """The answer.

        Raises:
            Asked: there is none yet.
        """
        question_id = f"{_PREFIX}{next(self._numbers)}"
        if question_id not in self._answers:
            self.open[question_id] = InputRequired(question_id, prompt)
            raise Asked
        self._to_pass.discard(question_id)
        if (before := self._asked.get(question_id, prompt)) != clean(prompt):
            log.warning("it asked %r before and %r now; the answer is to the first", before[:_PROMPT], prompt[:_PROMPT])
        return self._answers[question_id]

    def end(self) -> None:
        """Say that the function has come to its end.

        Raises:
            RunError: it has not asked what it asked before, so what it said since is lost: it is another function now.
        """
        if self._to_pass and not self.open:
            prompt = self._asked.get(min(self._to_pass, key=_number), "")
            raise RunError(
                f"the team's function has changed since it asked {prompt[:_PROMPT]!r}, or does not do the same each "
                "time: it did not ask that again; send it again to begin anew"
            )

    def is_new(self, event: Event) -> bool:
        """Whether an event is to be said, and is not a repetition. A call to the model costs each time.

        Raises:
            Asked: the function goes on, although it waits for an answer.
        """
        if self.open:
            raise Asked
        return not self._to_pass or isinstance(event, Usage)


def _number(question_id: str) -> int:
    return int(question_id.removeprefix(_PREFIX))
