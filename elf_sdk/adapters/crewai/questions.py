"""Questions to a person in a crew: a task with `human_input` is asked about, and the run waits for the answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from elf_sdk.adapters.base import Bridge
from elf_sdk.adapters.crewai.kept import Kept
from elf_sdk.runs.events import InputRequired, Step

__all__ = ["Asked", "Refused", "Reviewer", "is_yes"]

_YES: Final = re.compile(
    r"(ok(ay)?|yes|y|fine|good|great|lgtm|accept(ed)?|approved?|(it )?looks good( to me)?)?", re.IGNORECASE
)


class Asked(BaseException):
    """The run waits for a person. Not an `Exception`, so that CrewAI's own handling of errors lets it through."""


class Refused(BaseException):
    """The crew or flow wants what a run cannot give; the text says what to do instead. Not an `Exception`, as above."""


def is_yes(answer: str) -> bool:
    """Whether a person took a task's output as it is."""
    return _YES.fullmatch(answer.strip(" \t\r\n.!")) is not None


class Reviewer:
    """CrewAI's `HumanInputProvider` of one run: it asks by an event, and keeps what the agent had said by then.

    Args:
        bridge: takes the events.
        kept: what the run keeps.
        answers: what a person answered so far, by question.
    """

    def __init__(self, bridge: Bridge, kept: Kept, answers: Mapping[str, str]) -> None:
        self._bridge = bridge
        self._kept = kept
        self._answers = answers
        self._places: dict[str, int] = {}
        self._changes: dict[int, list[Any]] = {}

    def watch(self, tasks: Sequence[Any]) -> dict[int, str]:
        """Take the crew's tasks: outputs that a person has accepted, by place; and ask again what has no answer yet.

        Raises:
            Asked: a question waits for its answer.
        """
        self._places = {str(task.id): place for place, task in enumerate(tasks)}
        accepted = {}
        for place in range(len(tasks)):
            review = self._kept.get(_key(place))
            if review is None:
                continue
            answer = self._answers.get(review["question_id"])
            if answer is None:
                self._ask(review)
            elif is_yes(answer):
                accepted[place] = review["output"]
            else:
                self._changes[place] = [*review["messages"], answer]
        return accepted

    def setup_messages(self, context: Any) -> bool:
        """Go on, once, with what was said before the question, and with what is to be changed."""
        changes = self._changes.pop(self._places.get(str(getattr(context.task, "id", "")), -1), None)
        if changes is None:
            return False
        *messages, answer = changes
        context.messages = [*messages, context._format_feedback_message(answer)]
        return True

    def post_setup_messages(self, context: Any) -> None:
        """Nothing to add; CrewAI calls it."""

    def handle_feedback(self, formatted_answer: Any, context: Any) -> Any:
        """Ask about an agent's answer.

        Raises:
            Asked: always; the answer comes in another life of the run.
            Refused: the task is in a crew inside a flow or a tool, whose place in the work is not kept.
        """
        task = context.task
        place = self._places.get(str(task.id))
        name = " ".join(str(task.name or task.description).split())[:80]
        if place is None:
            raise Refused(
                f"the task “{name}” has human_input, and its crew is run by a flow or a tool; ask by @human_feedback"
            )
        before = self._kept.get(_key(place))
        number = before["round"] + 1 if before else 1
        output = formatted_answer.output
        role = str(getattr(context.agent, "role", "")).strip()
        review = {
            "question_id": f"task-{place + 1}-{number}",
            "round": number,
            "output": output if isinstance(output, str) else output.model_dump_json(),
            "messages": list(context.messages),
        }
        self._kept.save(_key(place), review)
        self._bridge.push(Step(name, "end", role))
        self._ask(review)

    async def handle_feedback_async(self, formatted_answer: Any, context: Any) -> Any:
        """As `handle_feedback`."""
        return self.handle_feedback(formatted_answer, context)

    def _ask(self, review: Mapping[str, Any]) -> None:
        prompt = f"{review['output']}\n\nIs this all right? Answer “ok”, or say what to change."
        self._bridge.push(InputRequired(review["question_id"], prompt))
        raise Asked


def _key(place: int) -> str:
    return f"review/{place:04d}"
