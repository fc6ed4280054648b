"""Requests that are made to break something: none of them is more than an error, and none leaves anything behind."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.a2a.conftest import Served

LARGEST = 1024 * 1024
MESSAGE = {"messageId": "m1", "role": "ROLE_USER", "parts": [{"text": "hello"}]}
ENVELOPE = (
    b'{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":{"messageId":"m1","role":"ROLE_USER",%s}}}'
)


def filled(before: bytes, piece: bytes, after: bytes) -> bytes:
    """As many pieces as a body may have, with commas between."""
    number = (LARGEST - len(ENVELOPE) - len(before + after)) // (len(piece) + 1)
    return ENVELOPE % (before + b",".join([piece] * number) + after)


LARGE = {
    "tiny parts": (filled(b'"parts":[', b'{"text":"a"}', b"]"), -32602),
    "empty parts": (filled(b'"parts":[', b"{}", b"]"), -32602),
    "tiny data": (filled(b'"parts":[{"data":[', b"1", b"]}]"), None),
    "lists in lists": (filled(b'"parts":[{"data":[', b"[[]]", b"]}]"), None),
    "long numbers": (ENVELOPE % (b'"parts":[{"data":' + b"9" * (LARGEST - 200) + b"}]"), -32700),
    "metadata": (filled(b'"parts":[{"text":"a"}],"metadata":{"a":[', b'{"":0}', b"]}"), None),
    "extensions": (filled(b'"parts":[{"text":"a"}],"extensions":[', b'""', b"]"), None),
    "one key over and over": (filled(b'"parts":[{"text":"a"}],"metadata":{', b'"a":0', b"}"), None),
    "escapes": (ENVELOPE % (b'"parts":[{"text":"' + rb"\u0000" * ((LARGEST - 200) // 6) + b'"}]'), None),
}


@pytest.mark.parametrize("case", LARGE)
async def test_the_largest_body_of_small_things_is_read_in_one_go(team: Served, case: str) -> None:
    body, code = LARGE[case]
    assert LARGEST - 200 < len(body) <= LARGEST
    headers = {**team.headers(), "Content-Type": "application/json"}
    # What grows faster than its input takes minutes for this much.
    async with asyncio.timeout(20):
        answer = await team.http.post(f"{team.url}/a2a/v1", content=body, headers=headers)
    assert answer.status_code == 200
    assert answer.json().get("error", {}).get("code") == code


async def test_a_message_has_a_bounded_number_of_parts(team: Served) -> None:
    for number, member in ((1000, "result"), (1001, "error")):
        message = {**MESSAGE, "messageId": str(number), "parts": [{"text": "a"}] * number}
        assert member in await team.rpc("SendMessage", {"message": message})


async def test_a_body_of_03_is_smaller(team: Served) -> None:
    headers = {**team.headers(), "A2A-Version": "0.3", "Content-Type": "application/json"}
    body = b'{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"id":"x","metadata":{"a":"%s"}}}'
    for size, status in ((200_000, 200), (270_000, 413)):
        answer = await team.http.post(f"{team.url}/a2a/v1", content=body % (b"x" * size), headers=headers)
        assert answer.status_code == status


NUMBERS = ("1e308", "-1e308", "1e-400", "123456789012345678901234567890", "0." + "1" * 400, "-0", "1E+2")
ODD = {
    **{f"number {number[:12]}": (f'{{"data":{number}}}'.encode(), True) for number in NUMBERS},
    "a number that is none": (b'{"data":1e400}', False),
    "NaN": (b'{"data":NaN}', False),
    "Infinity": (b'{"data":-Infinity}', False),
    "leading zero": (b'{"data":01}', False),
    "invalid UTF-8": (b'{"text":"\xff"}', False),
    "an overlong slash": (b'{"text":"\xc0\xaf"}', False),
    "a surrogate in UTF-8": (b'{"text":"\xed\xa0\x80"}', False),
    "a lone surrogate": (b'{"text":"\\ud800 x"}', False),
    "U+0000": (b'{"text":"a\\u0000b"}', True),
    "a raw control character": (b'{"text":"a\x01b"}', False),
    "twice the same key": (b'{"text":1,"text":"a"}', True),
    "a comment": (b'{"text":"a"/**/}', False),
    "a trailing comma": (b'{"text":"a",}', False),
}


@pytest.mark.parametrize("case", ODD)
async def test_odd_json_is_taken_or_refused_and_stored_as_it_can_be(team: Served, case: str) -> None:
    part, taken = ODD[case]
    headers = {**team.headers(), "Content-Type": "application/json"}
    answer = await team.http.post(
        f"{team.url}/a2a/v1", content=ENVELOPE % (b'"parts":[' + part + b"]"), headers=headers
    )
    assert ("result" in answer.json()) is taken, answer.text
    if taken:
        task = answer.json()["result"]["task"]
        assert (await team.rpc("GetTask", {"id": task["id"]}))["result"] == task
        assert "\x00" not in json.dumps(task, ensure_ascii=False)


@pytest.mark.parametrize("path", ["/a2a/v1", "/a2a/v1/message:send"])
async def test_a_mark_of_byte_order_is_not_json(team: Served, path: str) -> None:
    headers = {**team.headers(), "Content-Type": "application/json"}
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        answer = await team.http.post(f"{team.url}{path}", content="{}".encode(encoding), headers=headers)
        assert "error" in answer.json()
        assert answer.status_code < 500


RAW = {
    "more than is said": ("Content-Length: 2", b"{}{}"),
    "no number": ("Content-Length: two", b"{}"),
    "negative": ("Content-Length: -1", b"{}"),
    "two lengths": ("Content-Length: 2\r\nContent-Length: 3", b"{}"),
    "both ways": ("Content-Length: 2\r\nTransfer-Encoding: chunked", b"2\r\n{}\r\n0\r\n\r\n"),
    "a chunk that is none": ("Transfer-Encoding: chunked", b"zz\r\n{}\r\n0\r\n\r\n"),
    "a chunk without end": ("Transfer-Encoding: chunked", b"fffffffffffffff\r\n{}"),
    "another encoding": ("Transfer-Encoding: gzip", b"{}"),
    "a header without end": ("X: " + "x" * 100_000, b"{}"),
}


@pytest.mark.parametrize("case", RAW)
async def test_a_broken_message_ends_its_own_connection_only(
    team: Served, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    header, body = RAW[case]
    address = urlsplit(team.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    known = "".join(f"{name}: {value}\r\n" for name, value in team.headers().items())
    head = f"POST /a2a/v1 HTTP/1.1\r\nHost: x\r\n{known}Content-Type: application/json\r\n{header}\r\n\r\n"
    writer.write(head.encode() + body)
    writer.write_eof()
    try:
        async with asyncio.timeout(10):
            answer = await reader.read()
    except ConnectionResetError:
        answer = b""
    writer.close()
    assert not answer.startswith(b"HTTP/1.1 5")
    assert (await team.rpc("SendMessage", {"message": MESSAGE}))["result"]["task"]
    assert not [record for record in caplog.records if record.exc_info]


def nonsense(number: int) -> Iterator[tuple[str, bytes, dict[str, str]]]:
    """Path, body and headers of bad requests, each of them different for each number."""

    def rpc(method: str, params: Any) -> bytes:
        return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode()

    x = f"{number:08d}"
    yield "/a2a/v1", b"{" + x.encode(), {}
    yield "/a2a/v1", rpc(f"Method{x}", {}), {}
    yield "/a2a/v1", rpc("GetTask", {"id": x * 20}), {}
    yield "/a2a/v1", rpc("SendMessage", {"message": {**MESSAGE, "taskId": x}}), {}
    yield "/a2a/v1", rpc("SendMessage", {"message": {**MESSAGE, "contextId": x * 100}}), {}
    yield "/a2a/v1", rpc("SubscribeToTask", {"id": x}), {"Last-Event-ID": x}
    yield "/a2a/v1", rpc("SendMessage", {"message": MESSAGE}), {"A2A-Version": f"9.{number}"}
    yield "/a2a/v1", rpc("SendMessage", {"message": MESSAGE}), {"Authorization": f"Bearer {x}.{x}.{x}"}
    yield f"/a2a/v1/tasks/{x}:cancel", b"", {}
    yield f"/a2a/v1/{x}", b"{}", {}


async def test_ten_thousand_bad_requests_leave_nothing_behind(team: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    address = urlsplit(team.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    standard = {**team.headers(), "Host": "x", "Content-Type": "application/json"}

    async def flood(numbers: range) -> None:
        for number in numbers:
            for path, body, more in nonsense(number):
                headers = {**standard, **more, "Content-Length": str(len(body))}
                lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
                writer.write(f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                assert not head.startswith(b"http/1.1 5"), head
                length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length))

    await flood(range(100))
    gc.collect()
    before = (_resident(), len(gc.get_objects()))
    await flood(range(100, 1100))
    gc.collect()
    after = (_resident(), len(gc.get_objects()))
    writer.close()
    assert after[1] - before[1] < 2000, "objects stay"
    assert after[0] - before[0] < 20 * LARGEST, "memory stays"
    assert team.adapter.started == 0
    assert len([record for record in caplog.records if record.levelno >= logging.INFO]) < 100, "a log for everybody"


def _resident() -> int:
    """Bytes of this process in memory, as Linux says it; elsewhere 0, and only the objects are counted."""
    pages = Path("/proc/self/statm")
    return int(pages.read_text(encoding="ascii").split()[1]) * resource.getpagesize() if pages.exists() else 0
