"""What a client may send: JSON frames, and what a person types."""

import jsonschema_rs
import pytest

from elf_sdk.errors import BadInput
from elf_sdk.server.chat.frames import Confirm, End, Message, Reject, Stop, frame_schemas, parse

HASH = "0a1b2c3d" * 8


@pytest.mark.parametrize(
    ("raw", "frame"),
    [
        ("Hello there", Message(text="Hello there")),
        ("  spaces around  ", Message(text="spaces around")),
        ("[not an object]", Message(text="[not an object]")),
        ('{"type": "message", "text": "hi", "message_id": "m1"}', Message(text="hi", message_id="m1")),
        ("/confirm 0a1b2c3d", Confirm(hash="0a1b2c3d")),
        (f'{{"type": "confirm", "hash": "{HASH}"}}', Confirm(hash=HASH)),
        ("/reject 0a1b2c3d too early", Reject(hash="0a1b2c3d", reason="too early")),
        ("/stop", Stop()),
        ("/end", End()),
        ('{"type": "end"}', End()),
    ],
)
def test_a_frame_is_understood(raw: str, frame: object) -> None:
    assert parse(raw) == frame


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        ("", "an empty frame says nothing; send text, or a JSON frame"),
        ("{", "the frame is not valid JSON"),
        ('{"type": "shout"}', "the frame's type is unknown; send one of message, answer, confirm, reject, stop, end"),
        ("{}", "the frame's type is unknown; send one of message, answer, confirm, reject, stop, end"),
        ('{"type": "message"}', "text: field required"),
        ('{"type": "message", "text": "a", "admin": true}', "admin: extra inputs are not permitted"),
        ("/confirm", "/confirm needs the code that the preview showed, such as /confirm 0a1b2c3d"),
        ("/confirm yes", "/confirm needs the code that the preview showed, such as /confirm 0a1b2c3d"),
        ("/launch", "there is no command /launch; there are /answer TEXT, /confirm CODE, /reject CODE, /stop and /end"),
    ],
)
def test_what_cannot_be_understood_is_said_in_a_sentence(raw: str, sentence: str) -> None:
    with pytest.raises(BadInput) as raised:
        parse(raw)
    assert str(raised.value) == sentence


@pytest.mark.parametrize("depth", [100, 10_000, 100_000])
def test_deep_nesting_is_refused_and_not_followed(depth: int) -> None:
    with pytest.raises(BadInput):
        parse('{"type": "message", "text": ' + "[" * depth + "]" * depth + "}")


def test_the_published_schemas_say_what_a_field_means() -> None:
    fields = frame_schemas()["client"]["$defs"]["Message"]["properties"]
    assert fields["message_id"]["description"] == "Sent again with the same id, the message is not run again."


def test_the_published_schemas_hold_for_what_is_accepted() -> None:
    client = jsonschema_rs.validator_for(frame_schemas()["client"])
    assert client.is_valid({"type": "message", "text": "hi"})
    assert client.is_valid({"type": "confirm", "hash": HASH})
    assert not client.is_valid({"type": "message", "text": ""})
    assert not client.is_valid({"type": "confirm", "hash": "yes"})
    assert not client.is_valid({"type": "message", "text": "hi", "more": 1})
