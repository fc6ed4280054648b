"""Another team's task, read off its A2A stream as plain values. Pure.

Answers are read as ProtoJSON is written: camelCase, names of enums, what is empty left out. Whatever is not as the
protocol has it raises KeyError, TypeError, ValueError or AttributeError, which the client takes for what it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from elf_sdk.runs.run import RunState
from elf_sdk.server.a2a.codec import ANSWER, RUN_STATES
from elf_sdk.server.remote import RemoteTask, RemoteUpdate

__all__ = ["Seen", "remote_task"]

Json = Mapping[str, Any]

_ASKS: Final = frozenset({"TASK_STATE_INPUT_REQUIRED", "TASK_STATE_AUTH_REQUIRED"})
_FAILED: Final = frozenset({"TASK_STATE_FAILED", "TASK_STATE_REJECTED"})


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

    def updates(self, response: Json) -> Iterator[RemoteUpdate]:
        """What is new in a StreamResponse."""
        match response:
            case {"task": task}:
                self.task_id = _text(task["id"])
                yield from self._upto(task)
            case {"statusUpdate": event}:
                self.task_id = _text(event["taskId"])
                yield from self._status(event["status"], _step(event.get("metadata") or {}))
            case {"artifactUpdate": event}:
                self.task_id = _text(event["taskId"])
                yield from self._artifact(event)
            case {"message": message}:
                # An agent that answers without a task: all is said.
                text = _said(message)
                self._last = (RunState.FINISHED, "")
                yield self._update(text_delta=text, final=True)
            case _:
                pass

    def is_all_of(self, task: Json) -> bool:
        """Whether all that the task shows was passed on."""
        return (_state(task["status"]), _about(task["status"])) == self._last and self._answer(task) == self._text

    def _artifact(self, event: Json) -> Iterator[RemoteUpdate]:
        if not _counts(event["artifact"], self.only_answer):
            return
        text = _said(event["artifact"])
        if not event.get("append") and self._text and self.only_answer:
            self._text = text
            yield self._update(text_delta=text, replaces=True)
        elif text:
            self._text += text
            yield self._update(text_delta=text)

    def _upto(self, task: Json) -> Iterator[RemoteUpdate]:
        text = self._answer(task)
        if text.startswith(self._text):
            delta, replaces = text[len(self._text) :], False
        else:
            delta, replaces = text, True
        self._text = text
        if delta or replaces:
            self._last = self._last or (RunState.WORKING, "")
            yield self._update(text_delta=delta, replaces=replaces)
        yield from self._status(task["status"], "")

    def _status(self, status: Json, step: str) -> Iterator[RemoteUpdate]:
        state, about = _state(status), _about(status)
        if (state, about) == self._last and not step:
            return
        self._last = (state, about)
        yield self._update(
            step=step,
            question=about if status["state"] in _ASKS else "",
            error=about if state.terminal and state is not RunState.FINISHED else "",
            retryable=_failure(status)[1],
            final=state.terminal,
        )

    def _answer(self, task: Json) -> str:
        return _answer(task, self.only_answer)

    def _update(self, **about: Any) -> RemoteUpdate:
        state = self._last[0] if self._last else RunState.WORKING
        return RemoteUpdate(self.task_id, state, **about)


def remote_task(task: Json, only_answer: bool) -> RemoteTask:
    """A task as GetTask and CancelTask return it."""
    code, retryable = _failure(task["status"])
    return RemoteTask(
        task_id=_text(task["id"]),
        state=_state(task["status"]),
        text=_answer(task, only_answer),
        message=_about(task["status"]),
        code=code,
        retryable=retryable,
    )


def _state(status: Json) -> RunState:
    return RUN_STATES.get(status["state"], RunState.WORKING)


def _about(status: Json) -> str:
    """What a status says; of one that asks something, never nothing."""
    said = _said(status.get("message") or {})
    match status["state"]:
        case "TASK_STATE_INPUT_REQUIRED":
            return said or "It asks for an answer, and does not say to what."
        case "TASK_STATE_AUTH_REQUIRED":
            # Not to be answered in words: the credential is given where the message says.
            links = [part["url"] for part in (status.get("message") or {}).get("parts", []) if "url" in part]
            return " ".join(["It needs a credential before it goes on.", said, *links]).replace("  ", " ").strip()
        case _:
            return said


def _said(holder: Json) -> str:
    """The text of a message or an artifact."""
    return "".join(part.get("text", "") for part in holder.get("parts", []))


def _answer(task: Json, only_answer: bool) -> str:
    return "".join(_said(artifact) for artifact in task.get("artifacts", []) if _counts(artifact, only_answer))


def _counts(artifact: Json, only_answer: bool) -> bool:
    return not only_answer or artifact["artifactId"] == ANSWER


def _step(metadata: Json) -> str:
    return str(metadata.get("name", "")) if (metadata.get("event"), metadata.get("phase")) == ("step", "start") else ""


def _failure(status: Json) -> tuple[str, bool]:
    if status["state"] not in _FAILED:
        return "", False
    metadata = (status.get("message") or {}).get("metadata") or {}
    return str(metadata.get("code", "")), metadata.get("retryable") is True


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
