"""Runs as A2A tasks, events as stream events, messages as requests. Pure: no I/O, no clock.

| event                | in a stream                                               | in a task                    |
|----------------------|-----------------------------------------------------------|------------------------------|
| MessageOnly          | left out                                                  | a Message, where that can be |
| Started              | status WORKING                                            | status                       |
| TextDelta            | artifact `elf.answer`, appended; the last chunk is empty  | artifact `elf.answer`        |
| Rewound              | artifact `elf.answer`, replaced by what still holds       | text and artifacts dropped   |
| Artifact             | artifact, whole or its next part                          | artifact with all its parts  |
| DelegationProposed   | artifact `delegation-proposal` with a data part           | artifact                     |
| Step                 | status WORKING, metadata `event: step`, name, phase, agent | left out                    |
| ToolCall, ToolResult | status WORKING, metadata `event: tool_call`/`tool_result`; | left out                    |
|                      | never arguments or output, which are the team's own       |                              |
| Usage                | left out                                                  | metadata `usage`, summed     |
| InputRequired        | status INPUT_REQUIRED with the prompt                     | status with all open prompts |
| AuthRequired         | the same, AUTH_REQUIRED; with its address as a URL part   | the same                     |
| Answered             | left out                                                  | history                      |
| Finished, Cancelled  | status                                                    | status                       |
| Failed               | status with message; its metadata: `code`, `retryable`;   | status                       |
|                      | REJECTED where the code is `rejected`, else FAILED        |                              |
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import orjson

from elf_sdk.errors import BadInput
from elf_sdk.runs import events
from elf_sdk.runs.adapter import Owner
from elf_sdk.runs.events import LoggedEvent
from elf_sdk.runs.run import Run, RunRequest, RunState, next_state
from elf_sdk.server.a2a.errors import Fault, FaultKind
from elf_sdk.server.a2a.propagation import deadline_of, delegation_of
from elf_sdk.server.a2a.values import Message, PushTarget

__all__ = [
    "ANSWER",
    "RUN_STATES",
    "TASK_STATES",
    "TaskView",
    "message_text",
    "push_target",
    "run_request",
]

ANSWER: Final = "elf.answer"
"""Id of the artifact that holds the run's text."""

TASK_STATES: Final[Mapping[RunState, str]] = {
    RunState.QUEUED: "TASK_STATE_SUBMITTED",
    RunState.WORKING: "TASK_STATE_WORKING",
    RunState.INPUT_REQUIRED: "TASK_STATE_INPUT_REQUIRED",
    RunState.AUTH_REQUIRED: "TASK_STATE_AUTH_REQUIRED",
    RunState.FINISHED: "TASK_STATE_COMPLETED",
    RunState.FAILED: "TASK_STATE_FAILED",
    RunState.REJECTED: "TASK_STATE_REJECTED",
    RunState.CANCELLED: "TASK_STATE_CANCELED",
}
RUN_STATES: Final[Mapping[str, RunState]] = {task_state: run_state for run_state, task_state in TASK_STATES.items()}

_ID_LENGTH: Final = 256
_CONTEXTS: Final = uuid.UUID("6f0a3f0e-5f5c-5b1e-9c57-0d3f6a1c2b44")


def message_text(message: Message) -> str:
    """The text that a message asks; data parts as JSON.

    Raises:
        Fault: a part is a file, which a team cannot take yet; or there is nothing but space.
    """
    pieces: list[str] = []
    for part in message.parts:
        match part.kind:
            case "text":
                pieces.append(part.content)
            case "data":
                pieces.append(orjson.dumps(part.content, option=orjson.OPT_SORT_KEYS).decode())
            case _:
                raise Fault(
                    FaultKind.CONTENT_TYPE_NOT_SUPPORTED, "this team takes text and data parts only; send no files"
                )
    text = "\n\n".join(pieces)
    if not text.strip():
        raise Fault(FaultKind.INVALID_PARAMS, "message.parts holds no text; write what the team should do")
    return text


def run_request(message: Message, team: str, owner: Owner, max_depth: int, *, repeatable: bool = True) -> RunRequest:
    """What a message that starts a task asks of a team.

    Without a context id the task gets one of its own: if it is `repeatable`, the same for the same message.

    Raises:
        BadInput: an id is too long, or what the metadata says of deadline or delegation cannot be; see `propagation`.
        Fault: the parts cannot be used; see `message_text`.
    """
    for name, value in (("messageId", message.message_id), ("contextId", message.context_id)):
        if len(value) > _ID_LENGTH:
            raise BadInput(f"message.{name} has {len(value)} characters; use at most {_ID_LENGTH}")
    text = message_text(message)
    context_id = message.context_id
    if not context_id:
        named = f"{owner.key}:{message.message_id}"
        context_id = str(uuid.uuid5(_CONTEXTS, named) if repeatable else uuid.uuid4())
    return RunRequest(
        team=team,
        owner=owner,
        context_id=context_id,
        text=text,
        metadata={"message_id": message.message_id, **delegation_of(message.metadata, team, owner, max_depth)},
        deadline=deadline_of(message.metadata),
    )


def push_target(target: PushTarget) -> dict[str, Any]:
    """A TaskPushNotificationConfig, with all that its caller gave."""
    said = {"taskId": target.task_id, "id": target.id, "url": target.url}
    if target.token:
        said["token"] = target.token
    if not target.scheme:
        return said
    credentials = {"credentials": target.credentials} if target.credentials else {}
    return {**said, "authentication": {"scheme": target.scheme, **credentials}}


class TaskView:
    """One run as an A2A task, built up event by event.

    Attributes:
        seq: number of the last event taken.
        state: of the run, after that event. The status has the time at which it became that.
    """

    def __init__(self, run: Run, logged: Iterable[LoggedEvent] = ()) -> None:
        self.seq = 0
        self._id = run.id
        self._request = run.request
        self.state = RunState.QUEUED
        self._at = run.created_at
        self._text: list[tuple[int, str]] = []
        self._artifacts: dict[str, list[_Made]] = {}
        self._questions: dict[str, events.InputRequired] = {}
        self._later: list[dict[str, Any]] = []
        self._failure: events.Failed | None = None
        self._reason = ""
        self._usage = [0, 0]
        self._message_only = False
        self._cost: int | None = 0
        for event in logged:
            self.take(event)

    def take(self, logged: LoggedEvent) -> None:
        """Take the next event."""
        self.seq = logged.seq
        before = self.state
        self.state = next_state(before, (logged.event,))
        if self.state is not before:
            self._at = logged.at
        match logged.event:
            case events.TextDelta(text):
                self._text.append((logged.seq, text))
            case events.Rewound(to_seq):
                self._text = [piece for piece in self._text if piece[0] <= to_seq]
                held = {key: [one for one in made if one.seq <= to_seq] for key, made in self._artifacts.items()}
                self._artifacts = {key: made for key, made in held.items() if made}
            case events.Artifact(artifact_id) as artifact:
                made = self._artifacts.setdefault(artifact_id, [])
                made.append(_Made(logged.seq, artifact.append and bool(made), _artifact(artifact)))
            case events.DelegationProposed(proposal_id) as proposal:
                self._artifacts.setdefault(proposal_id, []).append(_Made(logged.seq, False, _proposal(proposal)))
            case events.InputRequired() as question:
                self._questions[question.question_id] = question
                self._later.append(self._message(_AGENT, str(logged.seq), question.prompt))
            case events.Answered(question_id, answer, key):
                self._questions.pop(question_id, None)
                self._later.append(self._message(_USER, key or str(logged.seq), answer))
            case events.Usage() as usage:
                self._usage[0] += usage.input_tokens
                self._usage[1] += usage.output_tokens
                self._cost = None if self._cost is None or usage.cost is None else self._cost + usage.cost
            case events.Failed() as failure:
                self._failure = failure
            case events.Cancelled(reason):
                self._reason = reason
            case events.MessageOnly():
                self._message_only = True
            case _:
                pass

    def updates(self, logged: LoggedEvent) -> Iterator[dict[str, Any]]:
        """Take the next event, and say it as StreamResponses."""
        first = not self._text
        before = self._artifacts
        self.take(logged)
        match logged.event:
            case events.TextDelta(text):
                yield self._answer_update(text, append=not first)
            case events.Rewound():
                yield self._answer_update(self._answer, append=False)
                for key, made in self._artifacts.items():
                    if len(made) < len(before[key]):
                        yield self._artifact_update(_whole(made))
            case events.Artifact(artifact_id=key, last=last):
                latest = self._artifacts[key][-1]
                yield self._artifact_update(latest.artifact, append=latest.append, last_chunk=last)
            case events.DelegationProposed(proposal_id=key):
                yield self._artifact_update(self._artifacts[key][-1].artifact, last_chunk=True)
            case events.Step(name, phase, agent):
                yield self._progress(logged.at, "step", name=name, phase=phase, agent=agent)
            case events.ToolCall(call_id, name):
                yield self._progress(logged.at, "tool_call", name=name, call_id=call_id)
            case events.ToolResult(call_id, is_error=is_error):
                yield self._progress(logged.at, "tool_result", call_id=call_id, is_error=is_error)
            case events.Finished() | events.Failed() | events.Cancelled():
                if self._text:
                    yield self._answer_update("", append=True, last_chunk=True)
                yield self._status_update()
            case events.Started() | events.InputRequired():
                yield self._status_update()
            case _:
                pass

    def task(self, history_length: int | None = None, artifacts: bool = True) -> dict[str, Any]:
        """The Task as it is now.

        Args:
            history_length: how many of the latest messages; None for all, 0 for none.
            artifacts: whether to give the results too.
        """
        task: dict[str, Any] = {"id": self._id, "contextId": self._request.context_id, "status": self._status()}
        if artifacts and (self._text or self._artifacts):
            answer = [_text_artifact(self._answer)] if self._text else []
            task["artifacts"] = [*answer, *(_whole(made) for made in self._artifacts.values())]
        if history_length != 0:
            asked = self._request.metadata.get("message_id") or self._id
            history = [self._message(_USER, asked, self._request.text), *self._later]
            task["history"] = history if history_length is None else history[-history_length:]
        if any(self._usage):
            usage: dict[str, Any] = {"input_tokens": self._usage[0], "output_tokens": self._usage[1]}
            if self._cost is not None:
                usage["cost_usd"] = events.dollars(self._cost)
            task["metadata"] = {"usage": usage}
        return task

    def answer(self, history_length: int | None = None) -> dict[str, Any]:
        """The SendMessageResponse: the Task, or the Message where the run worked and wants no more than that."""
        if self._message_only and self.state is RunState.FINISHED and self._text and not self._artifacts:
            message = self._message(_AGENT, str(self.seq), self._answer)
            # There is no task that a client should ask for.
            del message["taskId"]
            return {"message": message}
        return {"task": self.task(history_length)}

    @property
    def _answer(self) -> str:
        return "".join(text for _, text in self._text)

    def _status(self) -> dict[str, Any]:
        status: dict[str, Any] = {"state": TASK_STATES[self.state], "timestamp": _timestamp(self._at)}
        if self.state.waits and self._questions:
            prompt = "\n\n".join(question.prompt for question in self._questions.values())
            status["message"] = self._message(_AGENT, str(self.seq), prompt)
            status["message"]["parts"] += [
                {"url": question.url}
                for question in self._questions.values()
                if isinstance(question, events.AuthRequired) and question.url
            ]
            status["message"]["metadata"] = {"question_ids": list(self._questions)}
        elif self._failure is not None:
            status["message"] = self._message(_AGENT, str(self.seq), self._failure.message)
            status["message"]["metadata"] = {"code": self._failure.code, "retryable": self._failure.retryable}
        elif self._reason:
            status["message"] = self._message(_AGENT, str(self.seq), self._reason)
        return status

    def _message(self, role: str, name: str, text: str) -> dict[str, Any]:
        return {
            # The team's own messages are numbered by the log, so that the same log gives the same ids.
            "messageId": name if role == _USER else f"{self._id}.{name}",
            "contextId": self._request.context_id,
            "taskId": self._id,
            "role": role,
            "parts": [{"text": text}],
        }

    def _status_update(self) -> dict[str, Any]:
        return {
            "statusUpdate": {
                "taskId": self._id,
                "contextId": self._request.context_id,
                "status": self._status(),
            }
        }

    def _progress(self, at: datetime, event: str, **about: Any) -> dict[str, Any]:
        # A client takes it for the whole status, so an open question has to stay in it.
        return {
            "statusUpdate": {
                "taskId": self._id,
                "contextId": self._request.context_id,
                "status": {**self._status(), "timestamp": _timestamp(at)},
                "metadata": {"event": event, **about},
            }
        }

    def _answer_update(self, text: str, append: bool, last_chunk: bool = False) -> dict[str, Any]:
        return self._artifact_update(_text_artifact(text), append=append, last_chunk=last_chunk)

    def _artifact_update(
        self, artifact: dict[str, Any], append: bool = False, last_chunk: bool = False
    ) -> dict[str, Any]:
        update: dict[str, Any] = {"taskId": self._id, "contextId": self._request.context_id, "artifact": artifact}
        if append:
            update["append"] = True
        if last_chunk:
            update["lastChunk"] = True
        return {"artifactUpdate": update}


class _Made(NamedTuple):
    """An artifact, or its next part, as it was made.

    Attributes:
        seq: number of its event.
        append: whether it is a part of what came before it.
        artifact: an Artifact.
    """

    seq: int
    append: bool
    artifact: dict[str, Any]


def _whole(made: list[_Made]) -> dict[str, Any]:
    """The artifact with all parts, from the last time on that it was made anew."""
    if not made[-1].append:
        return made[-1].artifact
    start = max(place for place, one in enumerate(made) if not one.append)
    parts = [part for one in made[start:] for part in one.artifact["parts"]]
    return {**made[start].artifact, "parts": parts}


_USER: Final = "ROLE_USER"
_AGENT: Final = "ROLE_AGENT"


def _timestamp(at: datetime) -> str:
    """As ProtoJSON has it: in UTC, with no, three or six digits of the second."""
    microsecond = at.microsecond
    precision = "microseconds" if microsecond % 1000 else "milliseconds" if microsecond else "seconds"
    return at.astimezone(UTC).isoformat(timespec=precision)[:-6] + "Z"


def _text_artifact(text: str) -> dict[str, Any]:
    return {"artifactId": ANSWER, "name": "answer", "parts": [{"text": text}]}


def _artifact(artifact: events.Artifact) -> dict[str, Any]:
    part: dict[str, Any]
    if artifact.url is not None:
        part = {"url": artifact.url}
    elif artifact.raw is not None:
        part = {"raw": artifact.raw}
    elif artifact.data is not None:
        part = {"data": artifact.data}
    else:
        part = {"text": artifact.text or ""}
    if artifact.media_type:
        part["mediaType"] = artifact.media_type
    if artifact.filename:
        part["filename"] = artifact.filename
    named = {"name": artifact.name} if artifact.name else {}
    return {"artifactId": artifact.artifact_id, **named, "parts": [part]}


def _proposal(proposal: events.DelegationProposed) -> dict[str, Any]:
    return {
        "artifactId": proposal.proposal_id,
        "name": "delegation-proposal",
        "parts": [{"data": asdict(proposal), "mediaType": "application/json"}],
    }
