"""Our codec beside protobuf's: what it writes, protobuf reads; what protobuf writes, it reads."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from a2a.server.request_handlers.response_helpers import agent_card_to_dict
from a2a.types import (
    AgentCard,
    GetTaskRequest,
    ListTaskPushNotificationConfigsRequest,
    ListTasksRequest,
    ListTasksResponse,
    Message,
    Part,
    SendMessageRequest,
    StreamResponse,
    Task,
    TaskPushNotificationConfig,
)
from a2a.utils.errors import InvalidParamsError
from a2a.utils.proto_utils import validate_proto_required_fields
from google.protobuf.json_format import MessageToDict, MessageToJson, ParseDict, ParseError

from elf_sdk.runs import events
from elf_sdk.runs.adapter import AdapterCapabilities, Owner
from elf_sdk.runs.events import Event, LoggedEvent
from elf_sdk.runs.run import Run, RunRequest, RunState
from elf_sdk.server.a2a.card import agent_card
from elf_sdk.server.a2a.codec import TaskView, message_text, push_target
from elf_sdk.server.a2a.errors import Fault
from elf_sdk.server.a2a.values import ListPush, ListTasks, PushTarget, SendMessage, TaskQuery
from elf_sdk.team.spec import TeamSpec
from elf_sdk.team.work import Member, Skill

WORDS = ("", "a", "Grüße", "line\nbreak", "\u2028 \U0001f600", '"quoted" \\', "x" * 400, "null", "0")


class Source:
    """Random material, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - made-up data

    def word(self) -> str:
        return self.random.choice(WORDS)

    def some(self, make: Callable[[], Any], most: int = 3) -> list[Any]:
        return [make() for _ in range(self.random.randrange(most + 1))]

    def json(self, depth: int = 0) -> Any:
        kinds: list[Callable[[], Any]] = [
            lambda: None,
            lambda: True,
            lambda: self.random.randrange(-(2**53), 2**53),
            lambda: self.random.uniform(-1e9, 1e9),
            lambda: 1e300,
            self.word,
        ]
        if depth < 3:
            kinds.append(lambda: [self.json(depth + 1) for _ in range(2)])
            kinds.append(lambda: self.struct(depth + 1))
        return self.random.choice(kinds)()

    def struct(self, depth: int = 0) -> dict[str, Any]:
        return {f"{self.word()}{number}": self.json(depth) for number in range(self.random.randrange(3))}

    def time(self) -> datetime:
        micro = self.random.choice((0, 5000, 120_000, 123_456, 1, 999_999))
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.random.randrange(10**8), microseconds=micro)

    def event(self) -> Event:
        made: list[Callable[[], Event]] = [
            events.Started,
            lambda: events.TextDelta(self.word()),
            lambda: events.Step(self.word(), self.random.choice(("start", "end")), self.word()),
            lambda: events.ToolCall(self.word(), self.word(), self.struct()),
            lambda: events.ToolResult(self.word(), self.word(), self.random.random() < 0.5),
            lambda: events.DelegationProposed("p" + self.word(), self.word(), self.word(), requirements=("r", "")),
            lambda: events.InputRequired("q" + self.word(), self.word()),
            lambda: events.Answered("q" + self.word(), self.word(), self.word()),
            lambda: events.Artifact("a1", self.word(), self.word(), text=self.word()),
            lambda: events.Artifact("a2", self.word(), data=self.json()),
            lambda: events.Artifact("a3", self.word(), url="https://example.com/"),
            lambda: events.Usage("model", self.random.randrange(9), 2**31),
            lambda: events.Rewound(self.random.randrange(5)),
        ]
        return self.random.choice(made)()

    def log(self) -> list[LoggedEvent]:
        ends: list[Callable[[], Event]] = [
            events.Finished,
            lambda: events.Cancelled(self.word()),
            lambda: events.Failed("team", self.word(), retryable=True),
            events.Started,
        ]
        happened = [*self.some(self.event, 12), self.random.choice(ends)()]
        return [LoggedEvent("r1", seq, self.time(), event) for seq, event in enumerate(happened, start=1)]

    def message(self) -> Message:
        parts: list[Callable[[], Part]] = [
            lambda: Part(text=self.word(), media_type=self.word()),
            lambda: Part(data=ParseDict(self.json(), Part().data)),
            lambda: Part(raw=b"\x00\xff"),
            lambda: Part(url=self.word(), filename=self.word(), metadata=self.struct()),
            Part,
        ]
        message = Message(
            message_id=self.word(),
            context_id=self.word(),
            task_id=self.word(),
            role=self.random.choice(("ROLE_UNSPECIFIED", "ROLE_USER", "ROLE_USER", "ROLE_AGENT")),
            parts=self.some(lambda: self.random.choice(parts)()),
            extensions=self.some(self.word),
            reference_task_ids=self.some(self.word),
        )
        if self.random.random() < 0.5:
            message.metadata.update(self.struct())
        return message

    def request(self) -> SendMessageRequest:
        request = SendMessageRequest(tenant=self.word())
        if self.random.random() < 0.95:
            request.message.CopyFrom(self.message())
        if self.random.random() < 0.5:
            request.configuration.accepted_output_modes.extend(self.some(self.word))
            request.configuration.return_immediately = self.random.random() < 0.5
            if self.random.random() < 0.5:
                request.configuration.history_length = self.random.choice((-1, 0, 3, 2**31 - 1))
            if self.random.random() < 0.2:
                request.configuration.task_push_notification_config.url = "https://example.com/"
        return request


def run(source: Source) -> Run:
    request = RunRequest("painting", Owner("i", "s"), "c1", source.word(), {"message_id": "m1"})
    return Run("r1", request, RunState.QUEUED, 0, source.time(), source.time(), source.time())


def wire(value: Any) -> Any:
    """As it arrives."""
    return orjson.loads(orjson.dumps(value))


@pytest.mark.parametrize("seed", range(300))
def test_what_is_written_is_what_protobuf_would_write(seed: int) -> None:
    source = Source(seed)
    log = source.log()
    view = TaskView(run(source))
    for logged in log:
        for update in view.updates(logged):
            parsed = ParseDict(wire(update), StreamResponse())
            assert MessageToDict(parsed) == wire(update)
        task = view.task(source.random.choice((None, 0, 1, 5)), source.random.random() < 0.7)
        assert MessageToDict(ParseDict(wire(task), Task())) == wire(task)
        assert MessageToDict(ParseDict(wire({"task": task}), StreamResponse())) == wire({"task": task})
    page = {"tasks": [view.task()], "nextPageToken": "1", "pageSize": 1, "totalSize": 2}
    assert MessageToDict(ParseDict(wire(page), ListTasksResponse())) == wire(page)


def missing(request: SendMessageRequest) -> list[str]:
    """Required fields that are not there, as the SDK finds them, by their JSON names."""
    try:
        validate_proto_required_fields(request)
    except InvalidParamsError as error:
        fields = [item["field"] for item in (error.data or {})["errors"]]
        return [re.sub("_(.)", lambda found: found[1].upper(), field) for field in fields]
    return []


@pytest.mark.parametrize("seed", range(300))
def test_what_protobuf_writes_is_read(seed: int) -> None:
    source = Source(seed)
    request = source.request()
    text = MessageToJson(
        request,
        preserving_proto_field_name=source.random.random() < 0.5,
        use_integers_for_enums=source.random.random() < 0.5,
        always_print_fields_with_no_presence=source.random.random() < 0.5,
    )
    if absent := missing(request):
        with pytest.raises(Fault) as caught:
            SendMessage.parse(orjson.loads(text))
        assert [field for field, _ in caught.value.violations] == absent
        return
    read = SendMessage.parse(orjson.loads(text))
    message, configuration = request.message, request.configuration
    assert (read.message.message_id, read.message.context_id, read.message.task_id) == (
        message.message_id,
        message.context_id,
        message.task_id,
    )
    assert read.message.role == ("ROLE_UNSPECIFIED", "ROLE_USER", "ROLE_AGENT")[message.role]
    assert dict(read.message.metadata) == MessageToDict(message.metadata)
    assert [part.kind for part in read.message.parts] == [part.WhichOneof("content") or "" for part in message.parts]
    for part, meant in zip(read.message.parts, message.parts, strict=True):
        if part.kind == "data":
            assert part.content == MessageToDict(meant.data)
        elif part.kind in ("text", "url"):
            assert part.content == getattr(meant, part.kind)
    assert read.return_immediately == configuration.return_immediately
    asked = configuration.history_length if configuration.HasField("history_length") else None
    assert read.history_length == asked
    assert (read.push is not None) == configuration.HasField("task_push_notification_config")


ODD: list[Any] = [
    None, True, False, 0, 1, -1, 1.0, 1.5, 2**31, 2**31 - 1, -(2**31), 1e30, "", "1", "-1", "1.0", "1.5", " 1", "x",
    "true", [], [1], {}, {"a": 1}, ["a"], [None], "ROLE_USER", "role_user", "TASK_STATE_WORKING", "9",
    "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5Z", "2026-01-01T00:00:00.123456789Z", "2026-01-01T00:00:00+02:00",
    "2026-01-01T00:00:00", "2026-13-01T00:00:00Z", "2026-01-01", "2026-01-01t00:00:00Z", "2026-01-01T00:00:00z",
    "2026-01-01T00:00:00.1234567891Z", "yesterday",
]  # fmt: skip
LIST_FIELDS = (
    "contextId", "context_id", "status", "pageSize", "page_size", "pageToken", "historyLength",
    "statusTimestampAfter", "includeArtifacts",
)  # fmt: skip
MESSAGE_FIELDS = (
    "messageId", "message_id", "contextId", "taskId", "role", "metadata", "extensions", "referenceTaskIds", "parts",
)  # fmt: skip
NO_ENUM = frozenset(map(repr, (True, False, 1.5, 1e30, -1, 2**31 - 1, -(2**31), "-1", "9", " 1")))
"""What protobuf takes for an enum's value, by the way it converts numbers or because a later release may name it. A
filter by a state that nobody knows would list what nobody asked for."""
PART_FIELDS = ("text", "url", "data", "metadata", "filename", "media_type", "mediaType")


def refusal(parse: Callable[[Any], Any], params: Any) -> str:
    """Why `params` are refused; empty where they are taken."""
    try:
        parse(params)
    except (ParseError, Fault) as error:
        return str(error)
    return ""


def by_protobuf(params: Any) -> None:
    """Parse and validate a SendMessageRequest; a role without a name is refused too."""
    request = ParseDict(params, SendMessageRequest())
    if missing(request) or request.message.role not in (1, 2):
        raise ParseError("required")


@pytest.mark.parametrize("value", ODD, ids=repr)
def test_odd_values_are_taken_and_refused_as_by_protobuf(value: Any) -> None:
    for field in LIST_FIELDS:
        theirs = refusal(lambda params: ParseDict(params, ListTasksRequest()), {field: value})
        stricter = field == "status" and repr(value) in NO_ENUM
        assert bool(refusal(ListTasks.parse, {field: value})) == (bool(theirs) or stricter), (field, theirs)
    part = {"text": "x"}
    whole = {"messageId": "m", "role": 1, "parts": [part]}
    for field in MESSAGE_FIELDS:
        message = {name: item for name, item in whole.items() if (name, field) != ("messageId", "message_id")}
        request = {"message": {**message, field: value}}
        stricter = field == "role" and repr(value) in NO_ENUM
        assert bool(refusal(SendMessage.parse, request)) == (bool(refusal(by_protobuf, request)) or stricter), field
    for field in PART_FIELDS:
        request = {"message": {**whole, "parts": [{field: value}]}}
        assert bool(refusal(SendMessage.parse, request)) == bool(refusal(by_protobuf, request)), field
    for field in ("historyLength", "returnImmediately", "acceptedOutputModes"):
        request = {"message": whole, "configuration": {field: value}}
        assert bool(refusal(SendMessage.parse, request)) == bool(refusal(by_protobuf, request)), field


@pytest.mark.parametrize("value", ODD, ids=repr)
def test_odd_values_of_a_push_config_are_taken_and_refused_as_by_protobuf(value: Any) -> None:
    for field in ("pageSize", "page_size", "pageToken", "tenant"):
        given = {"taskId": "t", field: value}
        theirs = refusal(lambda params: ParseDict(params, ListTaskPushNotificationConfigsRequest()), given)
        assert bool(refusal(ListPush.parse, given)) == (bool(theirs) and field != "tenant"), field
    whole = {"task_id": "t", "url": "https://a.example/"}
    for field in ("id", "token", "taskId", "authentication"):
        theirs = refusal(lambda params: ParseDict(params, TaskPushNotificationConfig()), {**whole, field: value})
        # Nothing odd names a scheme, no header begins with a space, and a task has an id.
        stricter = field == "authentication" and value is not None
        stricter = stricter or (field, value) in (("token", " 1"), ("taskId", ""))
        assert bool(refusal(PushTarget.parse, {**whole, field: value})) == (bool(theirs) or stricter), field
    written = push_target(PushTarget("https://a.example/", "i", "t", "token", "Basic", "YTpi"))
    assert PushTarget.parse(MessageToDict(ParseDict(written, TaskPushNotificationConfig()))) == PushTarget.parse(
        written
    )


def test_times_are_read_to_the_microsecond() -> None:
    for text in ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5Z", "2026-01-01T05:30:00.000001+05:30"):
        theirs = ParseDict({"statusTimestampAfter": text}, ListTasksRequest()).status_timestamp_after
        ours = ListTasks.parse({"statusTimestampAfter": text}).changed_since
        assert ours == theirs.ToDatetime(tzinfo=UTC)
    finer = ListTasks.parse({"statusTimestampAfter": "2026-01-01T00:00:00.0000001Z"}).changed_since
    assert finer == datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC), "nothing older is let through"


def test_a_task_query_is_read() -> None:
    for given in ({"id": "t", "history_length": "3"}, {"id": "t", "historyLength": 3.0, "tenant": "x"}):
        theirs = ParseDict(given, GetTaskRequest())
        assert TaskQuery.parse(given) == TaskQuery(theirs.id, theirs.history_length)


def test_whole_numbers_in_data_are_integers_however_they_are_written() -> None:
    data = {"b": 1.0, "a": [2.5, -0.0, 1e300, 9_007_199_254_740_993]}
    message = SendMessage.parse({"message": {"messageId": "m", "role": 1, "parts": [{"data": data}]}}).message
    assert message_text(message) == '{"a":[2.5,0,1e+300,9007199254740993],"b":1}'


@pytest.mark.parametrize("skills", [(), (Skill(id="draw", name="Draw"), Skill(id="x", name="X", examples=("e",)))])
def test_the_card_is_the_one_that_the_sdk_would_write(skills: tuple[Skill, ...]) -> None:
    spec = TeamSpec(name="painting", members=(Member(role="painter", is_manager=True),), skills=skills)
    for stream in (True, False):
        capabilities = AdapterCapabilities(stream=stream, human=True, cancel="certain", recover=False)
        card = agent_card(spec, capabilities, "https://agents.example.com/painting")
        parsed = ParseDict(card, AgentCard(), ignore_unknown_fields=True)
        validate_proto_required_fields(parsed)
        assert agent_card_to_dict(parsed) == wire(card)


AT = datetime(2026, 1, 1, tzinfo=UTC)


def test_usage_is_summed_and_its_cost_shown_when_all_of_it_is_known() -> None:
    known = [events.Usage("a", 3, 4, cost=2_000_000), events.Usage("b", 10, 1, cost=1_525_000)]

    def shown(*happened: Event) -> dict[str, Any]:
        asked = Run("r1", RunRequest("t", Owner("i", "s"), "c1", "hi"), RunState.WORKING, 0, AT, AT, AT)
        logged = [LoggedEvent("r1", seq, AT, event) for seq, event in enumerate(happened, start=1)]
        usage: dict[str, Any] = TaskView(asked, logged).task()["metadata"]["usage"]
        return usage

    assert shown(*known) == {"input_tokens": 13, "output_tokens": 5, "cost_usd": "0.003525"}
    assert shown(events.Usage("a", 3, 4, cost=0)) == {"input_tokens": 3, "output_tokens": 4, "cost_usd": "0"}
    assert shown(*known, events.Usage("c", 1, 1)) == {"input_tokens": 14, "output_tokens": 6}
    assert shown(events.Usage("c", 1, 1), *known) == {"input_tokens": 14, "output_tokens": 6}
