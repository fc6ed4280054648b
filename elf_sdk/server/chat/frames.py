"""The simple frames of the chat: one JSON object each way. Pure.

What a person types into a plain WebSocket client works too: text that is no JSON object is a message, and `/answer
<text>`, `/confirm <code>`, `/reject <code>`, `/stop` and `/end` stand for the frames of those names. The code is the
beginning of the preview's hash, so that also a typed confirmation names what was shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NotRequired, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from typing_extensions import TypedDict

from elf_sdk.errors import BadInput
from elf_sdk.team.described import Described

__all__ = [
    "CODE_LENGTH",
    "SUBPROTOCOL",
    "Answer",
    "ClientFrame",
    "Confirm",
    "DelegationPreview",
    "DelegationUpdate",
    "End",
    "Error",
    "Greeting",
    "Message",
    "MessageDelta",
    "Question",
    "Reject",
    "ServerFrame",
    "SessionEnded",
    "Status",
    "Stop",
    "frame_schemas",
    "parse",
]

SUBPROTOCOL: Final = "elf.simple.v1"
"""What a browser asks for beside its token; a client that asks for nothing gets the same frames."""
CODE_LENGTH: Final = 8
"""Characters of a preview's hash that are enough to name it within a session."""


class _Frame(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(_Frame):
    """Say something to the team."""

    type: Literal["message"] = "message"
    text: Annotated[str, Field(min_length=1)]
    message_id: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Sent again with the same id, the message is not run again."""


class Answer(_Frame):
    """Answer a question of the team; without an id the oldest one that is open."""

    type: Literal["answer"] = "answer"
    text: Annotated[str, Field(min_length=1)]
    run_id: str | None = None
    """Of the question; needed beside `question_id`."""
    question_id: str | None = None

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.run_id is None) != (self.question_id is None):
            raise ValueError("a question is named by its run_id and its question_id; give both, or neither")
        return self


class Confirm(_Frame):
    """Let the delegation that was shown happen."""

    type: Literal["confirm"] = "confirm"
    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")]
    """The preview's hash, or at least its first eight characters."""


class Reject(_Frame):
    """Refuse the delegation that was shown."""

    type: Literal["reject"] = "reject"
    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")]
    reason: Annotated[str, Field(max_length=1000)] = ""


class Stop(_Frame):
    """Cancel what runs in this session."""

    type: Literal["stop"] = "stop"


class End(_Frame):
    """End the session."""

    type: Literal["end"] = "end"


ClientFrame = Message | Answer | Confirm | Reject | Stop | End
_CLIENT: Final[TypeAdapter[ClientFrame]] = TypeAdapter(Annotated[ClientFrame, Field(discriminator="type")])


class Greeting(TypedDict):
    """The first frame of a session. `image` is the digest of the container image that answers, where that is known."""

    type: Literal["greeting"]
    session_id: str
    team: str
    manager: str
    message: str
    image: NotRequired[str]


class Status(TypedDict):
    """What the team is doing. `state` is the run's state, `step` or `tool`."""

    type: Literal["status"]
    state: str
    run_id: str
    detail: str


class MessageDelta(TypedDict):
    """The next piece of an answer. `done` comes once, with an empty delta, when the answer is complete.

    With `replaces` the delta stands in place of all that the run has said so far: some of that is void.
    """

    type: Literal["message"]
    run_id: str
    delta: str
    done: bool
    replaces: NotRequired[bool]


class Question(TypedDict):
    """The run waits for an answer. `url` is where a person gives the team what it lacks, and not in the answer."""

    type: Literal["question"]
    run_id: str
    question_id: str
    prompt: str
    answer_with: str
    url: NotRequired[str]


class DelegationPreview(TypedDict):
    """Work that the team proposes to hand to another; nothing is sent before it is confirmed by its hash."""

    type: Literal["delegation_preview"]
    run_id: str
    delegation_id: str
    hash: str
    title: str
    description: str
    requirements: list[str]
    priority: str
    deadline: str
    constraints: list[str]
    success_criteria: list[str]
    target: str
    target_title: str
    route: list[str]
    approval: str
    confirm_with: str
    reject_with: str


class DelegationUpdate(TypedDict):
    """Progress of a delegation. `delta` is new text of the other team, `result` its whole answer at the end."""

    type: Literal["delegation_update"]
    delegation_id: str
    target: str
    state: str
    delta: NotRequired[str]
    detail: NotRequired[str]
    result: NotRequired[str]


class Error(TypedDict):
    """Something that was sent could not be done; the session goes on."""

    type: Literal["error"]
    code: str
    message: str


class SessionEnded(TypedDict):
    """The last frame of a session."""

    type: Literal["session_ended"]
    summary: str
    reason: str


ServerFrame = Greeting | Status | MessageDelta | Question | DelegationPreview | DelegationUpdate | Error | SessionEnded


def parse(raw: str) -> ClientFrame:
    """The frame that a client sent, as JSON or typed by hand.

    Raises:
        BadInput: it is neither; the message says what to send instead.
    """
    text = raw.strip()
    if not text:
        raise BadInput("an empty frame says nothing; send text, or a JSON frame")
    if text.startswith("{"):
        try:
            return _CLIENT.validate_json(text)
        except ValidationError as error:
            raise BadInput(_explain(error)) from None
    if text.startswith("/"):
        return _typed(text)
    return Message(text=text)


def _typed(text: str) -> ClientFrame:
    command, _, rest = text.partition(" ")
    code, _, reason = rest.strip().partition(" ")
    try:
        match command:
            case "/answer":
                return Answer(text=rest.strip())
            case "/confirm":
                return Confirm(hash=code)
            case "/reject":
                return Reject(hash=code, reason=reason)
            case "/stop":
                return Stop()
            case "/end":
                return End()
    except ValidationError:
        if command == "/answer":
            raise BadInput("/answer needs the answer after it, such as /answer yes") from None
        raise BadInput(f"{command} needs the code that the preview showed, such as {command} 0a1b2c3d") from None
    raise BadInput(
        f"there is no command {command}; there are /answer TEXT, /confirm CODE, /reject CODE, /stop and /end"
    )


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return "the frame is not valid JSON"
    if first["type"].startswith("union_tag"):
        return "the frame's type is unknown; send one of message, answer, confirm, reject, stop, end"
    field = ".".join(str(part) for part in first["loc"][1:]) or "frame"
    return f"{field}: {first['msg'][:1].lower()}{first['msg'][1:]}"


def frame_schemas() -> Mapping[str, Any]:
    """JSON Schemas of both directions, as published at `/chat/schema.json`."""
    server: TypeAdapter[ServerFrame] = TypeAdapter(ServerFrame)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ELF chat, simple frames",
        "client": _CLIENT.json_schema(schema_generator=Described),
        "server": server.json_schema(),
    }
