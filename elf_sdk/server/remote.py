"""Another team as this one sees it, whatever protocol lies between. Pure."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from elf_sdk.runs.run import RunState

__all__ = ["RemoteTask", "RemoteTeam", "RemoteUpdate"]


@dataclass(frozen=True, slots=True)
class RemoteTask:
    """Another team's task.

    Attributes:
        task_id: its id there.
        state: where it is.
        text: the answer, as far as it goes.
        message: the question, the error or the reason, as the state is; else empty.
        code: of a failure, as `Failed.code`; else empty.
        retryable: of a failure.
    """

    task_id: str
    state: RunState
    text: str
    message: str = ""
    code: str = ""
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class RemoteUpdate:
    """What is new about another team's task.

    Attributes:
        task_id: its id there.
        state: where it is.
        text_delta: the next piece of the answer, or empty.
        replaces: `text_delta` is the whole answer so far, and what came before is void.
        step: name of a step that began, or empty.
        question: what the team asks, or what it needs before it goes on; else empty.
        error: why it failed or was cancelled.
        retryable: of a failure.
        final: the task has ended.
    """

    task_id: str
    state: RunState
    text_delta: str = ""
    replaces: bool = False
    step: str = ""
    question: str = ""
    error: str = ""
    retryable: bool = False
    final: bool = False


class RemoteTeam(Protocol):
    """A team that can be given work."""

    def send(
        self,
        text: str,
        *,
        message_id: str,
        context_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        deadline: float | None = None,
    ) -> AsyncGenerator[RemoteUpdate, None]:
        """Send a message, and follow its task until it ends or asks something.

        Args:
            text: what is asked.
            message_id: the caller's id; the same one again gives the same task.
            context_id: the conversation.
            metadata: `chain`, `delegation_id` and `user` of a delegation; the same when it is sent again.
            deadline: seconds that are left for the task; None for no bound.

        Raises:
            Retryable: the team is not reachable for now.
            ElfError: it refuses, or its answer is none.
        """
        ...
