"""Runs as A2A tasks, events as stream events, messages as requests. Pure: no I/O, no clock.

| event                | in a stream                                               | in a task                    |
|----------------------|-----------------------------------------------------------|------------------------------|
| Started              | status WORKING                                            | status                       |
| TextDelta            | artifact `elf.answer`, appended; the last chunk is empty  | artifact `elf.answer`        |
| Rewound              | artifact `elf.answer`, replaced by what still holds       | text and artifacts dropped   |
| Artifact             | artifact, whole                                           | artifact                     |
| DelegationProposed   | artifact `delegation-proposal` with a data part           | artifact                     |
| Step                 | status WORKING, metadata `event: step`, name, phase, agent | left out                    |
| ToolCall, ToolResult | status WORKING, metadata `event: tool_call`/`tool_result`; | left out                    |
|                      | never arguments or output, which are the team's own       |                              |
| Usage                | left out                                                  | metadata `usage`, summed     |
| InputRequired        | status INPUT_REQUIRED with the prompt                     | status with all open prompts |
| Answered             | left out                                                  | history                      |
| Finished, Cancelled  | status                                                    | status                       |
| Failed               | status with message; its metadata: `code`, `retryable`    | status                       |
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from elf_sdk.errors import BadInput
from elf_sdk.runs import events
from elf_sdk.runs.adapter import Owner
from elf_sdk.runs.events import LoggedEvent
from elf_sdk.runs.run import Run, RunRequest, RunState, next_state
from elf_sdk.server.a2a.errors import Fault, FaultKind
from elf_sdk.server.a2a.values import Message

__all__ = [
    "ANSWER",
    "DELEGATION",
    "RUN_STATES",
    "TASK_STATES",
    "TaskView",
    "message_text",
    "run_request",
]

ANSWER: Final = "elf.answer"
"""Id of the artifact that holds the run's text."""

DELEGATION: Final = "urn:elf:a2a:delegation:v1"
"""Key in a message's metadata; holds `chain` (teams that the work came through, oldest first, the caller last),
`delegation_id` and `user` (a label for audit, which gives no right)."""

TASK_STATES: Final[Mapping[RunState, str]] = {
    RunState.QUEUED: "TASK_STATE_SUBMITTED",
    RunState.WORKING: "TASK_STATE_WORKING",
    RunState.INPUT_REQUIRED: "TASK_STATE_INPUT_REQUIRED",
    RunState.FINISHED: "TASK_STATE_COMPLETED",
    RunState.FAILED: "TASK_STATE_FAILED",
    RunState.CANCELLED: "TASK_STATE_CANCELED",
}
RUN_STATES: Final[Mapping[str, RunState]] = {
    **{task_state: run_state for run_state, task_state in TASK_STATES.items()},
    # Other servers' ways to say that it will not be done, and that somebody has to act.
    "TASK_STATE_REJECTED": RunState.FAILED,
    "TASK_STATE_AUTH_REQUIRED": RunState.INPUT_REQUIRED,
}

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


def run_request(message: Message, team: str, owner: Owner, max_depth: int) -> RunRequest:
    """What a message that starts a task asks of a team.

    Without a context id the task gets one of its own, the same for the same message, so that a repeat is a repeat.

    Raises:
        BadInput: an id is too long, or the delegation metadata is malformed, goes in a circle or too deep.
        Fault: the parts cannot be used; see `message_text`.
    """
    for name, value in (("messageId", message.message_id), ("contextId", message.context_id)):
        if len(value) > _ID_LENGTH:
            raise BadInput(f"message.{name} has {len(value)} characters; use at most {_ID_LENGTH}")
    return RunRequest(
        team=team,
        owner=owner,
        context_id=message.context_id or str(uuid.uuid5(_CONTEXTS, f"{owner.key}:{message.message_id}")),
        text=message_text(message),
        metadata={"message_id": message.message_id, **_delegation(message, team, owner, max_depth)},
    )


def _delegation(message: Message, team: str, owner: Owner, max_depth: int) -> dict[str, Any]:
    if DELEGATION not in message.metadata:
        return {}
    given = message.metadata[DELEGATION]
    found = (
        {key: given[key] for key in ("chain", "delegation_id", "user") if key in given} if type(given) is dict else {}
    )
    chain = found.get("chain", [])
    if not isinstance(chain, list) or not all(isinstance(name, str) for name in chain):
        raise BadInput(f"message.metadata[{DELEGATION!r}].chain must be a list of team names")
    if not all(isinstance(found.get(key, ""), str) for key in ("delegation_id", "user")):
        raise BadInput(f"message.metadata[{DELEGATION!r}]: delegation_id and user must be text")
    kind, _, caller = owner.subject.partition(":")
    if kind == "team" and chain and chain[-1] != caller:
        raise BadInput(f"the work was handed on by {chain[-1]!r}, as its chain says, but {caller!r} sent it")
    if team in chain:
        raise BadInput(f"the work came through {team!r} already ({' > '.join(chain)}); it cannot go in a circle")
    if len(chain) > max_depth:
        raise BadInput(
            f"the work was handed on {len(chain)} times; {team!r} takes it at a depth of {max_depth} at most"
        )
    return found


class TaskView:
    """One run as an A2A task, built up event by event.

    Attributes:
        seq: number of the last event taken.
        state: of the run, after that event.
    """

    def __init__(self, run: Run, logged: Iterable[LoggedEvent] = ()) -> None:
        self.seq = 0
        self._id = run.id
        self._request = run.request
        self.state = RunState.QUEUED
        self._at = run.created_at
        self._text: list[tuple[int, str]] = []
        self._artifacts: dict[str, tuple[int, dict[str, Any]]] = {}
        self._questions: dict[str, tuple[int, str]] = {}
        self._later: list[dict[str, Any]] = []
        self._failure: events.Failed | None = None
        self._reason = ""
        self._usage = [0, 0]
        self._cost: int | None = 0
        for event in logged:
            self.take(event)

    def take(self, logged: LoggedEvent) -> None:
        """Take the next event."""
        self.seq = logged.seq
        self._at = logged.at
        self.state = next_state(self.state, (logged.event,))
        match logged.event:
            case events.TextDelta(text):
                self._text.append((logged.seq, text))
            case events.Rewound(to_seq):
                self._text = [piece for piece in self._text if piece[0] <= to_seq]
                self._artifacts = {key: item for key, item in self._artifacts.items() if item[0] <= to_seq}
            case events.Artifact() as artifact:
                self._artifacts[artifact.artifact_id] = (logged.seq, _artifact(artifact))
            case events.DelegationProposed() as proposal:
                self._artifacts[proposal.proposal_id] = (logged.seq, _proposal(proposal))
            case events.InputRequired(question_id, prompt):
                self._questions[question_id] = (logged.seq, prompt)
                self._later.append(self._message(_AGENT, str(logged.seq), prompt))
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
            case _:
                pass

    def updates(self, logged: LoggedEvent) -> Iterator[dict[str, Any]]:
        """Take the next event, and say it as StreamResponses."""
        first = not self._text
        self.take(logged)
        match logged.event:
            case events.TextDelta(text):
                yield self._answer_update(text, append=not first)
            case events.Rewound():
                yield self._answer_update(self._answer, append=False)
            case events.Artifact(artifact_id=key) | events.DelegationProposed(proposal_id=key):
                yield self._artifact_update(self._artifacts[key][1], last_chunk=True)
            case events.Step(name, phase, agent):
                yield self._progress("step", name=name, phase=phase, agent=agent)
            case events.ToolCall(call_id, name):
                yield self._progress("tool_call", name=name, call_id=call_id)
            case events.ToolResult(call_id, is_error=is_error):
                yield self._progress("tool_result", call_id=call_id, is_error=is_error)
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
            task["artifacts"] = [*answer, *(artifact for _, artifact in self._artifacts.values())]
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

    @property
    def _answer(self) -> str:
        return "".join(text for _, text in self._text)

    def _status(self) -> dict[str, Any]:
        status: dict[str, Any] = {"state": TASK_STATES[self.state], "timestamp": _timestamp(self._at)}
        if self.state is RunState.INPUT_REQUIRED and self._questions:
            prompt = "\n\n".join(prompt for _, prompt in self._questions.values())
            status["message"] = self._message(_AGENT, str(self.seq), prompt)
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

    def _progress(self, event: str, **about: Any) -> dict[str, Any]:
        return {
            "statusUpdate": {
                "taskId": self._id,
                "contextId": self._request.context_id,
                "status": {"state": TASK_STATES[self.state], "timestamp": _timestamp(self._at)},
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
    elif artifact.data is not None:
        part = {"data": artifact.data}
    else:
        part = {"text": artifact.text or ""}
    if artifact.media_type:
        part["mediaType"] = artifact.media_type
    named = {"name": artifact.name} if artifact.name else {}
    return {"artifactId": artifact.artifact_id, **named, "parts": [part]}


def _proposal(proposal: events.DelegationProposed) -> dict[str, Any]:
    return {
        "artifactId": proposal.proposal_id,
        "name": "delegation-proposal",
        "parts": [{"data": asdict(proposal), "mediaType": "application/json"}],
    }
