"""Requests as values, read from ProtoJSON (the JSON form of a2a.proto). Pure: no I/O, no clock.

As ProtoJSON has it: a field goes by its camelCase or its proto name, null counts as absent, unknown fields are
ignored, numbers may be written as text, an enum's value as its number. Beyond it, an unknown value of an enum is
refused and not taken for none, and so is an id that is not given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from elf_sdk.server.a2a.errors import Fault, FaultKind

__all__ = [
    "ListPush",
    "ListTasks",
    "Message",
    "Part",
    "PushQuery",
    "PushTarget",
    "SendMessage",
    "TaskQuery",
    "from_query",
]

PartKind = Literal["text", "raw", "url", "data", ""]

_ROLES: Final = ("ROLE_UNSPECIFIED", "ROLE_USER", "ROLE_AGENT")
_STATES: Final = (
    "TASK_STATE_UNSPECIFIED",
    "TASK_STATE_SUBMITTED",
    "TASK_STATE_WORKING",
    "TASK_STATE_COMPLETED",
    "TASK_STATE_FAILED",
    "TASK_STATE_CANCELED",
    "TASK_STATE_INPUT_REQUIRED",
    "TASK_STATE_REJECTED",
    "TASK_STATE_AUTH_REQUIRED",
)
_CONTENTS: Final[tuple[PartKind, ...]] = ("text", "raw", "url", "data")
_PARTS: Final = 1000
"""Parts of a message: more are noise, and each costs more than its bytes."""
_DEPTH: Final = 50
"""Levels of lists and objects inside metadata or a data part; protobuf's own parser takes as many."""
_EXACT: Final = 2.0**53
"""Above this a float holds no fraction any more, and no longer every integer."""
_INT32: Final = 2**31
_INTEGER: Final = re.compile(r"-?\d{1,10}(\.0+)?")
_ID_LENGTH: Final = 256
_HEADER_LENGTH: Final = 8192
_HEADER: Final = re.compile(r"[!-~]([ -~]*[!-~])?")
_SCHEME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a message.

    Attributes:
        kind: which content it has; empty where it has none that is known.
        content: text for `text`, `raw` (base64) and `url`; any JSON for `data`.
    """

    kind: PartKind
    content: Any


@dataclass(frozen=True, slots=True)
class Message:
    """What a caller says.

    Attributes:
        message_id: the caller's own.
        role: `ROLE_USER` or `ROLE_AGENT`.
        parts: at least one.
        context_id: the conversation; empty where none is named.
        task_id: the task that this answers; empty for a new one.
        metadata: JSON.
    """

    message_id: str
    role: str
    parts: tuple[Part, ...]
    context_id: str = ""
    task_id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SendMessage:
    """SendMessageRequest.

    Attributes:
        message: what is said.
        history_length: how many of the latest messages to give back; None for all.
        return_immediately: whether not to wait.
        push: where news of the task are to be sent; None for nowhere.
    """

    message: Message
    history_length: int | None = None
    return_immediately: bool = False
    push: PushTarget | None = None

    @classmethod
    def parse(cls, params: Mapping[str, Any]) -> SendMessage:
        """Read the params.

        Raises:
            Fault: INVALID_PARAMS, with the field named.
        """
        given = _object(params, "message", "message", "")
        configuration = _object(params, "configuration", "configuration", "")
        if configuration is None and len(params) == 1:
            # As most requests are.
            return cls(_message(given))
        configuration = configuration or {}
        push = _object(configuration, "taskPushNotificationConfig", "task_push_notification_config", "configuration.")
        _texts(configuration, "acceptedOutputModes", "accepted_output_modes", "configuration.")
        _json(_object(params, "metadata", "metadata", ""), "metadata")
        message = _message(given)
        return cls(
            message,
            _integer(configuration, "historyLength", "history_length", "configuration."),
            _flag(configuration, "returnImmediately", "return_immediately", "configuration."),
            None if push is None else PushTarget.within(push, "configuration.taskPushNotificationConfig."),
        )


@dataclass(frozen=True, slots=True)
class PushTarget:
    """TaskPushNotificationConfig.

    Attributes:
        url: where to send news of the task; not checked here.
        id: the caller's own; empty where the team gives one.
        task_id: of the task; empty within a message, which has no task yet.
        token: sent back with each piece of news; empty for none.
        scheme: of the Authorization header that is sent; empty for none.
        credentials: the same.
    """

    url: str
    id: str = ""
    task_id: str = ""
    token: str = field(default="", repr=False)
    scheme: str = ""
    credentials: str = field(default="", repr=False)

    @classmethod
    def parse(cls, params: Mapping[str, Any]) -> PushTarget:
        """Read the params of CreateTaskPushNotificationConfig.

        Raises:
            Fault: INVALID_PARAMS, with the field named.
        """
        task_id = _text(params, "taskId", "task_id", "")
        if not task_id:
            raise _missing([("taskId", _REQUIRED)])
        return replace(cls.within(params, ""), task_id=task_id)

    @classmethod
    def within(cls, given: Mapping[str, Any], where: str) -> PushTarget:
        """Read the object at `where` in a message's configuration.

        Raises:
            Fault: INVALID_PARAMS, with the field named.
        """
        url = _text(given, "url", "url", where)
        if not url:
            raise _missing([(f"{where}url", _REQUIRED)])
        authentication = _object(given, "authentication", "authentication", where)
        below = f"{where}authentication."
        scheme = _text(authentication or {}, "scheme", "scheme", below)
        if authentication is not None and not scheme:
            raise _missing([(f"{below}scheme", _REQUIRED)])
        if scheme and not _SCHEME.fullmatch(scheme):
            raise _wrong(f"{below}scheme", "the name of an HTTP authentication scheme, such as Bearer")
        return cls(
            url,
            _push_id(given, where),
            token=_header(given, "token", where),
            scheme=scheme,
            credentials=_header(authentication or {}, "credentials", below),
        )


@dataclass(frozen=True, slots=True)
class PushQuery:
    """GetTaskPushNotificationConfigRequest or DeleteTaskPushNotificationConfigRequest.

    Attributes:
        task_id: of the task.
        id: of the config.
    """

    task_id: str
    id: str

    @classmethod
    def parse(cls, params: Mapping[str, Any]) -> PushQuery:
        """Read the params.

        Raises:
            Fault: INVALID_PARAMS, with the field named.
        """
        query = cls(_text(params, "taskId", "task_id", ""), _push_id(params, ""))
        absent = [(name, _REQUIRED) for name, value in (("taskId", query.task_id), ("id", query.id)) if not value]
        if absent:
            raise _missing(absent)
        return query


@dataclass(frozen=True, slots=True)
class ListPush:
    """ListTaskPushNotificationConfigsRequest.

    Attributes:
        task_id: of the task.
        page_size: None where it is not given.
        page_token: where to go on; empty for the beginning.
    """

    task_id: str
    page_size: int | None = None
    page_token: str = ""

    @classmethod
    def parse(cls, params: Mapping[str, Any]) -> ListPush:
        """Read the params.

        Raises:
            Fault: INVALID_PARAMS, with the field named.
        """
        task_id = _text(params, "taskId", "task_id", "")
        if not task_id:
            raise _missing([("taskId", _REQUIRED)])
        # Zero is how an integer says that it is not given where it cannot be absent (proto3).
        size = _integer(params, "pageSize", "page_size", "") or None
        return cls(task_id, size, _text(params, "pageToken", "page_token", ""))


@dataclass(frozen=True, slots=True)
class TaskQuery:
    """GetTaskRequest, CancelTaskRequest or SubscribeToTaskRequest.

    Attributes:
        id: of the task.
        history_length: how many of the latest messages to give; None for all.
    """

    id: str
    history_length: int | None = None

    @classmethod
    def parse(cls, params: Mapping[str, Any]) -> TaskQuery:
        """Read the params.

        Raises:
            Fault: INVALID_PARAMS, with the field named.
        """
        task_id = _text(params, "id", "id", "")
        if not task_id:
            raise _missing([("id", _REQUIRED)])
        return cls(task_id, _integer(params, "historyLength", "history_length", ""))


@dataclass(frozen=True, slots=True)
class ListTasks:
    """ListTasksRequest.

    Attributes:
        context_id: of one conversation; empty for all.
        status: name of a state; empty for all.
        page_size: None where it is not given.
        page_token: where to go on; empty for the beginning.
        history_length: as in `TaskQuery`.
        changed_since: tasks whose status is not older; None for all.
        include_artifacts: whether to give the results too.
    """

    context_id: str = ""
    status: str = ""
    page_size: int | None = None
    page_token: str = ""
    history_length: int | None = None
    changed_since: datetime | None = None
    include_artifacts: bool = False

    @classmethod
    def parse(cls, params: Mapping[str, Any]) -> ListTasks:
        """Read the params.

        Raises:
            Fault: INVALID_PARAMS, with the field named.
        """
        status = _enum(params, "status", "status", "", _STATES)
        return cls(
            _text(params, "contextId", "context_id", ""),
            "" if status == _STATES[0] else status,
            _integer(params, "pageSize", "page_size", ""),
            _text(params, "pageToken", "page_token", ""),
            _integer(params, "historyLength", "history_length", ""),
            _time(params, "statusTimestampAfter", "status_timestamp_after", ""),
            _flag(params, "includeArtifacts", "include_artifacts", ""),
        )


def from_query(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """A URL's query as params: the last of a name counts, nothing after `=` is nothing, `true` is true."""
    params: dict[str, Any] = {name: value for name, value in pairs if value}
    if "includeArtifacts" in params:
        params["includeArtifacts"] = params["includeArtifacts"].lower() == "true"
    return params


_REQUIRED: Final = "Field is required."


def _message(given: Mapping[str, Any] | None) -> Message:
    if given is None:
        raise _missing([("message", _REQUIRED)])
    message_id = _text(given, "messageId", "message_id", "message.")
    role = _enum(given, "role", "role", "message.", _ROLES)
    parts = _list(given, "parts", "parts", "message.")
    _texts(given, "extensions", "extensions", "message.")
    _texts(given, "referenceTaskIds", "reference_task_ids", "message.")
    absent: list[tuple[str, str]] = []
    if not message_id:
        absent.append(("message.messageId", _REQUIRED))
    if role in ("", _ROLES[0]):
        absent.append(("message.role", _REQUIRED))
    if not parts:
        absent.append(("message.parts", "Field must contain at least one element."))
    if absent:
        raise _missing(absent)
    if len(parts) > _PARTS:
        raise Fault(FaultKind.INVALID_PARAMS, f"message.parts has {len(parts)} elements; send at most {_PARTS}")
    return Message(
        message_id,
        role,
        tuple(_part(part, f"message.parts[{index}]") for index, part in enumerate(parts)),
        _text(given, "contextId", "context_id", "message."),
        _text(given, "taskId", "task_id", "message."),
        _json(_object(given, "metadata", "metadata", "message."), "message.metadata") or {},
    )


def _part(given: Any, where: str) -> Part:
    if type(given) is not dict:
        raise _wrong(where, "an object")
    below = f"{where}."
    if len(given) > 1 or "text" not in given:
        _json(_object(given, "metadata", "metadata", below), f"{below}metadata")
        _text(given, "filename", "filename", below)
        _text(given, "mediaType", "media_type", below)
    contents = [kind for kind in _CONTENTS if given.get(kind) is not None]
    if len(contents) > 1:
        raise Fault(
            FaultKind.INVALID_PARAMS, f"{where} holds {' and '.join(contents)}; put each into a part of its own"
        )
    if not contents:
        # Null is a value where any JSON is.
        return Part("data", None) if "data" in given else Part("", None)
    kind = contents[0]
    return Part(kind, _json(given["data"], f"{below}data") if kind == "data" else _text(given, kind, kind, below))


def _push_id(given: Mapping[str, Any], where: str) -> str:
    value = _text(given, "id", "id", where)
    if len(value) > _ID_LENGTH or not value.isprintable():
        raise _wrong(f"{where}id", f"at most {_ID_LENGTH} characters that can be printed")
    return value


def _header(given: Mapping[str, Any], name: str, where: str) -> str:
    """Text that is to be part of an HTTP header. It may be a secret, so that nothing of it is repeated."""
    value = _text(given, name, name, where)
    if value and (len(value) > _HEADER_LENGTH or not _HEADER.fullmatch(value)):
        raise _wrong(where + name, f"at most {_HEADER_LENGTH} characters of ASCII that fit into an HTTP header")
    return value


def _get(given: Mapping[str, Any], name: str, proto: str) -> Any:
    value = given.get(name)
    return given.get(proto) if value is None and name != proto else value


def _text(given: Mapping[str, Any], name: str, proto: str, where: str) -> str:
    value = _get(given, name, proto)
    if value is None:
        return ""
    if type(value) is not str:
        raise _wrong(where + name, "text")
    return value


def _flag(given: Mapping[str, Any], name: str, proto: str, where: str) -> bool:
    value = _get(given, name, proto)
    if value is None:
        return False
    if type(value) is not bool:
        raise _wrong(where + name, "true or false")
    return value


def _integer(given: Mapping[str, Any], name: str, proto: str, where: str) -> int | None:
    value = _get(given, name, proto)
    if value is None:
        return None
    number = _whole(value)
    if number is None or not -_INT32 <= number < _INT32:
        raise _wrong(where + name, "an integer of 32 bits")
    return number


def _whole(value: Any) -> int | None:
    """The integer that ProtoJSON reads in `value`; None where it is none."""
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    if type(value) is str and value.isascii() and _INTEGER.fullmatch(value):
        return int(value.partition(".")[0])
    return None


def _enum(given: Mapping[str, Any], name: str, proto: str, where: str, names: tuple[str, ...]) -> str:
    value = _get(given, name, proto)
    if value is None:
        return ""
    if type(value) is str and value in names:
        return value
    number = None if type(value) is str and not value.isdecimal() else _whole(value)
    if number is None or not 0 <= number < len(names):
        raise _wrong(where + name, f"one of {', '.join(names[1:])}")
    return names[number]


def _object(given: Mapping[str, Any], name: str, proto: str, where: str) -> dict[str, Any] | None:
    value = _get(given, name, proto)
    if value is not None and type(value) is not dict:
        raise _wrong(where + name, "an object")
    return value


def _list(given: Mapping[str, Any], name: str, proto: str, where: str) -> list[Any]:
    value = _get(given, name, proto)
    if value is None:
        return []
    if type(value) is not list:
        raise _wrong(where + name, "a list")
    return value


def _texts(given: Mapping[str, Any], name: str, proto: str, where: str) -> None:
    if not all(type(item) is str for item in _list(given, name, proto, where)):
        raise _wrong(where + name, "a list of text")


def _time(given: Mapping[str, Any], name: str, proto: str, where: str) -> datetime | None:
    value = _get(given, name, proto)
    if value is None:
        return None
    found = _TIME.fullmatch(value) if type(value) is str and value.isascii() else None
    if found is None:
        raise _wrong(where + name, "a time such as 2026-01-31T08:00:00Z")
    seconds, fraction, zone = found.groups()
    try:
        moment = datetime.fromisoformat(seconds + zone).astimezone(UTC)
        # Nothing is stored finer than a microsecond, so the next one is as good.
        return moment + timedelta(microseconds=-(-int((fraction or "0").ljust(9, "0")) // 1000))
    except (ValueError, OverflowError):
        raise _wrong(where + name, "a time such as 2026-01-31T08:00:00Z") from None


def _json(value: Any, where: str, depth: int = 0) -> Any:
    """The same JSON, bounded in depth, with whole numbers as integers, however they were written."""
    if type(value) is dict:
        if depth == _DEPTH:
            raise Fault(FaultKind.INVALID_PARAMS, f"{where} is deeper than {_DEPTH} levels")
        return {key: _json(item, where, depth + 1) for key, item in value.items()}
    if type(value) is list:
        if depth == _DEPTH:
            raise Fault(FaultKind.INVALID_PARAMS, f"{where} is deeper than {_DEPTH} levels")
        return [_json(item, where, depth + 1) for item in value]
    if type(value) is float and abs(value) < _EXACT and value.is_integer():
        return int(value)
    return value


def _wrong(where: str, wanted: str) -> Fault:
    return Fault(FaultKind.INVALID_PARAMS, f"{where} must be {wanted}", violations=[(where, f"must be {wanted}")])


def _missing(violations: list[tuple[str, str]]) -> Fault:
    fields = ", ".join(name for name, _ in violations)
    return Fault(FaultKind.INVALID_PARAMS, f"missing or empty: {fields}", violations=violations)
