"""Another team's task, read off its A2A stream as plain values. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from a2a.types import Artifact, StreamResponse, Task, TaskState, TaskStatus
from google.protobuf.json_format import MessageToDict

from elf_sdk.runs.run import RunState
from elf_sdk.server.a2a.codec import ANSWER, RUN_STATES
from elf_sdk.server.remote import RemoteTask, RemoteUpdate

__all__ = ["Seen", "remote_task"]

_STATES: Final = {TaskState.Value(name): state for name, state in RUN_STATES.items()}


class Seen:
    """What was passed on of a task, so that nothing is passed on twice.

    Attributes:
        task_id: empty as long as it is not known.
        only_answer: only the artifact `elf.answer` counts as text; else all text does, for servers that are not ours.
    """

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        self.only_answer = True
        self._text = ""
        self._last: tuple[RunState, str] | None = None

    def updates(self, response: StreamResponse) -> Iterator[RemoteUpdate]:
        """What is new in `response`."""
        match response.WhichOneof("payload"):
            case "task":
                self.task_id = response.task.id
                yield from self._upto(response.task)
            case "status_update":
                self.task_id = response.status_update.task_id
                metadata = response.status_update.metadata
                yield from self._status(response.status_update.status, _step(metadata))
            case "artifact_update":
                event = response.artifact_update
                self.task_id = event.task_id
                if _counts(event.artifact, self.only_answer):
                    text = _text(event.artifact)
                    if not event.append and self._text and self.only_answer:
                        self._text = text
                        yield self._update(text_delta=text, replaces=True)
                    elif text:
                        self._text += text
                        yield self._update(text_delta=text)
            case "message":
                # An agent that answers without a task: all is said.
                text = "".join(part.text for part in response.message.parts)
                self._last = (RunState.FINISHED, "")
                yield self._update(text_delta=text, final=True)
            case _:
                pass

    def _upto(self, task: Task) -> Iterator[RemoteUpdate]:
        text = _answer(task, self.only_answer)
        if text.startswith(self._text):
            delta, replaces = text[len(self._text) :], False
        else:
            delta, replaces = text, True
        self._text = text
        if delta or replaces:
            self._last = self._last or (RunState.WORKING, "")
            yield self._update(text_delta=delta, replaces=replaces)
        yield from self._status(task.status, "")

    def _status(self, status: TaskStatus, step: str) -> Iterator[RemoteUpdate]:
        state = _STATES.get(status.state, RunState.WORKING)
        said = "".join(part.text for part in status.message.parts)
        if (state, said) == self._last and not step:
            return
        self._last = (state, said)
        yield self._update(
            step=step,
            question=said if state.waits else "",
            error=said if state.terminal and state is not RunState.FINISHED else "",
            retryable=_failure(status)[1],
            final=state.terminal,
        )

    def _update(self, **about: Any) -> RemoteUpdate:
        state = self._last[0] if self._last else RunState.WORKING
        return RemoteUpdate(self.task_id, state, **about)


def _counts(artifact: Artifact, only_answer: bool) -> bool:
    return artifact.artifact_id == ANSWER or not only_answer


def _text(artifact: Artifact) -> str:
    return "".join(part.text for part in artifact.parts)


def _answer(task: Task, only_answer: bool) -> str:
    return "".join(_text(artifact) for artifact in task.artifacts if _counts(artifact, only_answer))


def _step(metadata: Any) -> str:
    given = MessageToDict(metadata)
    return str(given.get("name", "")) if given.get("event") == "step" and given.get("phase") == "start" else ""


def _failure(status: TaskStatus) -> tuple[str, bool]:
    if status.state not in (TaskState.TASK_STATE_FAILED, TaskState.TASK_STATE_REJECTED):
        return "", False
    metadata = MessageToDict(status.message.metadata)
    return str(metadata.get("code", "")), metadata.get("retryable") is True


def remote_task(task: Task, only_answer: bool) -> RemoteTask:
    """A task as GetTask and CancelTask return it."""
    code, retryable = _failure(task.status)
    return RemoteTask(
        task_id=task.id,
        state=_STATES.get(task.status.state, RunState.WORKING),
        text=_answer(task, only_answer),
        message="".join(part.text for part in task.status.message.parts),
        code=code,
        retryable=retryable,
    )
