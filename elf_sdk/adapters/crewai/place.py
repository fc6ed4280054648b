"""Where in a crew's work an effect is made, so that its key is the same when the work is repeated after a crash."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from elf_sdk.adapters.crewai.kept import Kept
from elf_sdk.runs.adapter import RunContext

__all__ = ["WorkPlace"]


class WorkPlace:
    """The task whose agent is at work, and how often a person has been asked about it; in a flow, the latest answer."""

    def __init__(self, ctx: RunContext, kept: Kept) -> None:
        self._answers = len(ctx.answers)
        self._kept = kept
        self._tasks: dict[str, str] = {}

    def watch(self, tasks: Sequence[Any]) -> None:
        """Know a crew's own tasks, by their place in it."""
        for number, task in enumerate(tasks):
            review = self._kept.get(f"review/{number:04d}")
            self._tasks[str(task.id)] = f"task {number + 1}, question {review['round'] if review else 0}"

    def now(self) -> tuple[str, int]:
        """The place of the caller, as `effects.Place`."""
        from crewai.context import get_current_task_id

        return self._tasks.get(get_current_task_id() or "", f"answer {self._answers}"), 1
