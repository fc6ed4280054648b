"""Server-sent events however the network cuts them, and what a server says about waiting."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from elf_sdk.server.a2a.connection import EventReader, retry_after

STREAM = b"".join(
    (
        b": a sign of life\r\n\r\n",
        b"id: 7\r\ndata: one\r\n\r\n",
        b"event: error\r\ndata: two\r\ndata: lines\r\n\r\n",
        b"data:no space\n\n",
        b"data: \xc3\xa4\rid: 9\r\r",
        b"retry: 10\nnonsense\n\n",
        b"id: no\0ne\ndata\n\n",
        b"data: never ends",
    )
)
EVENTS = [
    ("7", b"one"),
    ("7", b"two\nlines"),
    ("7", b"no space"),
    ("9", "ä".encode()),
    ("9", b""),
]


def events_of(*chunks: bytes) -> list[tuple[str, bytes]]:
    reader = EventReader()
    return [event for chunk in chunks for event in reader.feed(chunk)]


def test_a_stream_reads_the_same_wherever_it_is_cut() -> None:
    assert events_of(STREAM) == EVENTS
    assert events_of(*(STREAM[index : index + 1] for index in range(len(STREAM)))) == EVENTS
    for first in range(len(STREAM)):
        for second in range(first, len(STREAM), 7):
            assert events_of(STREAM[:first], STREAM[first:second], STREAM[second:]) == EVENTS, (first, second)


def test_what_is_not_complete_is_counted() -> None:
    reader = EventReader()
    assert list(reader.feed(b"data: " + b"x" * 1000)) == []
    assert list(reader.feed(b"y" * 1000 + b"\n")) == []
    assert 2000 <= reader.held <= 2010
    assert list(reader.feed(b"\n")) == [("", b"x" * 1000 + b"y" * 1000)]
    assert reader.held == 0


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("", 0), ("3", 3), ("0", 0), ("-3", 0), ("soon", 0), ("٣", 0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0)],
)
def test_how_long_a_server_asks_to_be_waited_for(said: str, seconds: float) -> None:
    assert retry_after(said) == seconds


def test_a_server_may_name_a_time() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert 90 < retry_after(later) <= 100
