"""What happens in a run: the neutral events between frameworks and protocols.

A run *is* its append-only, numbered log of these events. Adapters yield them, the engine numbers and stores them,
codecs turn them into A2A, chat or whatever the wire wants. An event is frozen, knows nothing of any framework or
protocol, and has one canonical JSON form: sorted keys, UTF-8, at most `MAX_EVENT_BYTES`.

The answer of a run is the concatenation of its `TextDelta`s after the last `Rewound`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, ClassVar, Final

import orjson

__all__ = [
    "KINDS",
    "MAX_EVENT_BYTES",
    "NANO",
    "REJECTED",
    "Answered",
    "Artifact",
    "AuthRequired",
    "Cancelled",
    "DelegationProposed",
    "Event",
    "Failed",
    "Finished",
    "InputRequired",
    "LoggedEvent",
    "MessageOnly",
    "Rewound",
    "Started",
    "Step",
    "TextDelta",
    "ToolCall",
    "ToolResult",
    "UnknownEvent",
    "Usage",
    "answer_text",
    "as_stored",
    "clean",
    "decode",
    "dollars",
    "encode",
    "holding",
    "is_terminal",
    "stored_kind",
]

MAX_EVENT_BYTES: Final = 256 * 1024
"""Upper bound of one encoded event; the engine splits larger text and refuses larger data."""

NANO: Final = 1_000_000_000
"""Billionths in a dollar, in which costs are counted: a token of the cheapest models costs some ten of them."""

REJECTED: Final = "rejected"
"""Code of a `Failed` that says: the team will not do this. It is a decision and no breakdown."""


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events. `kind` is the name under which it is stored."""

    kind: ClassVar[str] = ""


@dataclass(frozen=True, slots=True)
class Started(Event):
    """The run has a holder and begins; written once by the engine, again after each takeover."""

    kind: ClassVar[str] = "started"
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class TextDelta(Event):
    """The next piece of the answer."""

    kind: ClassVar[str] = "text_delta"
    text: str


@dataclass(frozen=True, slots=True)
class MessageOnly(Event):
    """The answer is said and nobody needs to look it up later: where a protocol can, it gives a message and no task."""

    kind: ClassVar[str] = "message_only"


@dataclass(frozen=True, slots=True)
class Step(Event):
    """A part of the work begins or ends: a graph's node, a crew's task."""

    kind: ClassVar[str] = "step"
    name: str
    phase: str = "start"
    """`start` or `end`."""
    agent: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall(Event):
    """The model asked for a tool."""

    kind: ClassVar[str] = "tool_call"
    call_id: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolResult(Event):
    """A tool answered, or failed."""

    kind: ClassVar[str] = "tool_result"
    call_id: str
    output: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class DelegationProposed(Event):
    """The team wants another team to do something. Nothing is sent by this: a person confirms first."""

    kind: ClassVar[str] = "delegation_proposed"
    proposal_id: str
    target: str
    title: str
    description: str = ""
    requirements: tuple[str, ...] = ()
    priority: str = "normal"
    deadline: str = ""
    constraints: tuple[str, ...] = ()
    success_criteria: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InputRequired(Event):
    """The run waits for an answer from whoever started it."""

    kind: ClassVar[str] = "input_required"
    question_id: str
    prompt: str


@dataclass(frozen=True, slots=True)
class AuthRequired(InputRequired):
    """The run waits until somebody has given the team a right or a credential that it lacks.

    `prompt` says which and why. The credential itself reaches the team by a way of its own and never as the answer,
    which is stored: an answer only says that it is there, or that it will not come.
    """

    kind: ClassVar[str] = "auth_required"
    url: str = ""
    """Where a person gives it, such as a page to sign in; empty where the prompt says it all."""


@dataclass(frozen=True, slots=True)
class Answered(Event):
    """The answer to a question; written by the engine."""

    kind: ClassVar[str] = "answered"
    question_id: str
    answer: str
    key: str = ""
    """The caller's own id of the answer, such as an A2A message id; makes a repeat recognisable."""


@dataclass(frozen=True, slots=True)
class Artifact(Event):
    """A result beside the text, or its next part: a document, a file, data, a link.

    Exactly one of `text`, `data`, `url` and `raw` is meant. A result of several parts, or one that is too large for one
    event, is several of these with one id, each after the first with `append`.
    """

    kind: ClassVar[str] = "artifact"
    artifact_id: str
    name: str
    media_type: str = "text/plain"
    text: str | None = None
    data: Any = None
    url: str | None = None
    raw: str | None = None
    """A file's bytes in base64 (RFC 4648, section 4)."""
    filename: str = ""
    """Of a file or a link."""
    append: bool = False
    """Whether this is one more part of the artifact with this id, and does not replace it."""
    last: bool = True
    """Whether no more parts come."""


@dataclass(frozen=True, slots=True)
class Usage(Event):
    """What one call to a model used, in tokens, and what that cost."""

    kind: ClassVar[str] = "usage"
    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    """Of the input, those that the provider had in its cache."""
    reasoning_tokens: int = 0
    """Of the output, those that were thought and not said."""
    cost: int | None = None
    """Billionths of a US dollar; None where no price is known. Adapters leave it to the engine."""
    provider: str = ""
    """Whose model it was where a fallback answered; empty for the team's own model."""


@dataclass(frozen=True, slots=True)
class Rewound(Event):
    """Work is repeated, after a takeover or an answer: all that came after `to_seq` is superseded by what follows."""

    kind: ClassVar[str] = "rewound"
    to_seq: int


@dataclass(frozen=True, slots=True)
class Finished(Event):
    """The end: it worked."""

    kind: ClassVar[str] = "finished"


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """The end: it did not work. `message` is for the caller and holds no secret."""

    kind: ClassVar[str] = "failed"
    code: str
    """`internal`, `interrupted`, `deadline`, `model`, `team`, `input` or `rejected`."""
    message: str
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Cancelled(Event):
    """The end: somebody cancelled it."""

    kind: ClassVar[str] = "cancelled"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class UnknownEvent(Event):
    """An event of a newer release. Readers skip it; nothing is lost by storing it again."""

    kind: ClassVar[str] = "unknown"
    name: str
    data: Mapping[str, Any]


KINDS: Final[Mapping[str, type[Event]]] = {
    cls.kind: cls
    for cls in (
        Answered,
        Artifact,
        AuthRequired,
        Cancelled,
        DelegationProposed,
        Failed,
        Finished,
        InputRequired,
        MessageOnly,
        Rewound,
        Started,
        Step,
        TextDelta,
        ToolCall,
        ToolResult,
        Usage,
    )
}
"""Every kind that this release writes."""

_FIELDS: Final = {kind: {field.name: field for field in fields(cls)} for kind, cls in KINDS.items()}
_TUPLES: Final = {
    kind: frozenset(name for name, field in by_name.items() if str(field.type).startswith("tuple"))
    for kind, by_name in _FIELDS.items()
}
_PLAIN: Final = {
    cls: tuple(_FIELDS[kind])
    for kind, cls in KINDS.items()
    if all(field.type in ("str", "int", "int | None", "bool") for field in _FIELDS[kind].values())
}
"""Kinds whose fields are all text, numbers, flags, and numbers that may be missing."""
_SAFE_INTEGER: Final = 2**53
_TERMINAL: Final = (Finished, Failed, Cancelled)
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event with its place in the log.

    Attributes:
        run_id: whose log it is.
        seq: 1-based, without gaps.
        at: when it was stored, aware, by the store's clock.
        event: what happened.
    """

    run_id: str
    seq: int
    at: datetime
    event: Event


def is_terminal(event: Event) -> bool:
    """Whether this event ends its run. A log holds exactly one such event, the last."""
    return isinstance(event, _TERMINAL)


def holding(events: Iterable[LoggedEvent]) -> list[LoggedEvent]:
    """What of a log holds: without what was rewound, and without the rewinding."""
    found: list[LoggedEvent] = []
    for logged in events:
        if isinstance(logged.event, Rewound):
            to_seq = logged.event.to_seq
            found = [earlier for earlier in found if earlier.seq <= to_seq]
        else:
            found.append(logged)
    return found


def answer_text(events: Iterable[LoggedEvent]) -> str:
    """The answer so far: text deltas joined, what was rewound left out."""
    return "".join(logged.event.text for logged in holding(events) if isinstance(logged.event, TextDelta))


def dollars(cost: int) -> str:
    """Billionths of a dollar as dollars: plain decimal digits, without zeros at the end."""
    whole, part = divmod(cost, NANO)
    return f"{whole}.{part:09d}".rstrip("0").rstrip(".")


def stored_kind(event: Event) -> str:
    """The kind under which an event is stored; an unknown one keeps its own.

    Raises:
        ValueError: an `UnknownEvent` pretends to be a known one.
    """
    if not isinstance(event, UnknownEvent):
        return event.kind
    if event.name in KINDS:
        raise ValueError(f"an unknown event cannot be named {event.name!r}, which is a known kind")
    return event.name


def encode(event: Event) -> bytes:
    """The event's fields as canonical JSON.

    U+0000 and lone surrogates, which no store and no wire takes, become U+FFFD.

    Raises:
        ValueError: the event is larger than `MAX_EVENT_BYTES`, or holds a value that JSON cannot.
    """
    if isinstance(event, UnknownEvent):
        data = dict(event.data)
    else:
        data = {name: getattr(event, name) for name in _FIELDS[event.kind]}
    try:
        encoded = orjson.dumps(data, option=orjson.OPT_SORT_KEYS)
        storable = b"\\u0000" not in encoded
    except (TypeError, orjson.JSONEncodeError):
        storable = False
    if not storable:
        try:
            encoded = orjson.dumps(clean(data), option=orjson.OPT_SORT_KEYS)
        except (TypeError, orjson.JSONEncodeError) as error:
            raise ValueError(f"a {event.kind} event holds a value that JSON cannot: {error}") from None
    if len(encoded) > MAX_EVENT_BYTES:
        raise ValueError(f"a {event.kind} event has {len(encoded)} bytes; at most {MAX_EVENT_BYTES} are stored")
    return encoded


def decode(kind: str, data: bytes | str) -> Event:
    """The event that `encode` wrote. An unknown kind becomes `UnknownEvent`; unknown fields are skipped."""
    loaded: dict[str, Any] = orjson.loads(data)
    cls = KINDS.get(kind)
    if cls is None:
        return UnknownEvent(name=kind, data=loaded)
    known = _FIELDS[kind]
    values = {name: value for name, value in loaded.items() if name in known}
    for name in _TUPLES[kind]:
        if name in values:
            values[name] = tuple(values[name])
    return cls(**values)


def as_stored(event: Event) -> Event:
    """The event as a log gives it back: `decode` of `encode`, without the detour where they change nothing.

    Raises:
        ValueError: as `encode` does.
    """
    names = _PLAIN.get(type(event))
    if names is not None:
        characters = 0
        for name in names:
            value = getattr(event, name)
            if type(value) is str:
                if _UNSTORABLE.search(value):
                    break
                characters += len(value)
            elif value is None or type(value) is bool:
                continue
            elif type(value) is not int or abs(value) > _SAFE_INTEGER:
                break
        else:
            # JSON writes a character in six bytes at most, and the names are short.
            if characters * 6 < MAX_EVENT_BYTES - 1000:
                return event
    return decode(stored_kind(event), encode(event))


def clean(value: Any) -> Any:
    """JSON with U+FFFD for U+0000 and lone surrogates, in keys and values."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, Mapping):
        return {_UNSTORABLE.sub("\ufffd", str(key)): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    return value
