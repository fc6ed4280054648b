"""What a function asks a person, and how it goes on after the answer: from its start, past what it asked before."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from elf_sdk.runs.events import Event, InputRequired, LoggedEvent, Rewound, Started, Usage, clean

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
    question, and is in the log. Where it ends without having come to that question, it has gone another way this time,
    as one does that lets a model decide; then what it said this time holds.

    Args:
        answers: what a person answered so far, by the id of the question.
        before: what the run's log holds.

    Attributes:
        open: those that wait for an answer now, by id.
    """

    def __init__(self, answers: Mapping[str, str], before: Iterable[LoggedEvent] = ()) -> None:
        before = tuple(before)
        self._asked = {
            logged.event.question_id: logged.event.prompt
            for logged in before
            if isinstance(logged.event, InputRequired)
        }
        self._begin = next((logged.seq for logged in before if not isinstance(logged.event, Started)), None)
        self._held: list[Event] = []
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
        if not self._to_pass:
            self._held.clear()
        return self._answers[question_id]

    def is_new(self, event: Event) -> bool:
        """Whether an event is to be said, and is not a repetition. A call to the model costs each time.

        Raises:
            Asked: the function goes on, although it waits for an answer.
        """
        if self.open:
            raise Asked
        if not self._to_pass or isinstance(event, Usage):
            return True
        self._held.append(event)
        return False

    def amends(self) -> Iterator[Event]:
        """What is to be said at the end of a function that has not passed all that was asked before."""
        if self._to_pass and not self.open:
            log.warning("it has not asked again what it asked before, and goes another way; the answer is not used")
            if self._begin is not None:
                yield Rewound(self._begin - 1)
            yield from self._held
