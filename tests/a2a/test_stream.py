"""Streams that are cut and gone on with, and callers who do not read."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from elf_sdk.server.a2a import sse
from tests.a2a.conftest import Serve, Served

both = pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON"])


@dataclass(frozen=True)
class Item:
    """One server-sent event."""

    number: str
    response: dict[str, Any]


async def items(
    team: Served, binding: str, operation: str, params: dict[str, Any], last: str = ""
) -> AsyncGenerator[Item, None]:
    """A stream; `last` is the id of the item that it goes on behind."""
    headers = {**team.headers(), **({"Last-Event-ID": last} if last else {})}
    url = f"{team.url}/a2a/v1"
    body: dict[str, Any] = params
    if binding == "JSONRPC":
        body = {"jsonrpc": "2.0", "id": 1, "method": operation, "params": params}
    elif operation == "SubscribeToTask":
        url, body = f"{url}/tasks/{params['id']}:subscribe", {}
    else:
        url = f"{url}/message:stream"
    number = ""
    async with team.http.stream("POST", url, json=body, headers=headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream"), await response.aread()
        async for line in response.aiter_lines():
            name, _, value = line.partition(": ")
            if name == "id":
                number = value
            elif name == "data":
                given = json.loads(value)
                yield Item(number, given["result"] if binding == "JSONRPC" else given)


def message(text: str) -> dict[str, Any]:
    return {"message": {"messageId": "m1", "role": "ROLE_USER", "parts": [{"text": text}]}}


@both
async def test_a_stream_goes_on_exactly_behind_any_item(team: Served, binding: str) -> None:
    whole = [item async for item in items(team, binding, "SendStreamingMessage", message("everything"))]
    task_id = whole[0].response["task"]["id"]
    numbers = [int(item.number) for item in whole]
    assert numbers == sorted(numbers)
    for number in sorted(set(numbers)):
        stream = items(team, binding, "SendStreamingMessage", message("everything"), str(number))
        rest = [item.response async for item in stream]
        # An event that is said by several items gives its number to the last of them: the others come again with it.
        assert rest == [item.response for item in whole[numbers.index(number) + 1 :]]
    if binding == "JSONRPC":
        answer = await team.rpc("SubscribeToTask", {"id": task_id}, more={"Last-Event-ID": str(numbers[-1])})
        assert answer["error"]["code"] == -32004


@both
async def test_a_subscriber_who_is_cut_off_misses_nothing_and_sees_nothing_twice(team: Served, binding: str) -> None:
    params = {**message("count 12"), "configuration": {"returnImmediately": True}}
    task_id = (await team.rpc("SendMessage", params))["result"]["task"]["id"]
    last, text, connections = "", "", 0
    ended = False
    while not ended:
        connections += 1
        taken = 0
        async with aclosing(items(team, binding, "SubscribeToTask", {"id": task_id}, last)) as stream:
            async for item in stream:
                last = item.number
                text += text_in(item.response)
                ended = "COMPLETED" in str(item.response)
                taken += 1
                if taken == 2:
                    break
    assert text == "".join(f"{index} " for index in range(12))
    assert connections > 3


def text_in(response: dict[str, Any]) -> str:
    artifacts = response.get("task", {}).get("artifacts", [])
    if "artifactUpdate" in response:
        artifacts = [response["artifactUpdate"]["artifact"]]
    return "".join(part["text"] for artifact in artifacts for part in artifact["parts"])


@both
async def test_a_stream_that_goes_on_answers_before_something_happens(team: Served, binding: str) -> None:
    stream = items(team, binding, "SendStreamingMessage", message("wait"))
    async with aclosing(stream):
        async for item in stream:
            if "artifactUpdate" in item.response:
                break
    task_id = item.response["artifactUpdate"]["taskId"]
    async with asyncio.timeout(5):
        url = f"{team.url}/a2a/v1/tasks/{task_id}:subscribe"
        headers = {**team.headers(), "Last-Event-ID": item.number}
        async with team.http.stream("GET", url, headers=headers) as response:
            assert response.status_code == 200
            team.adapter.gate.set()
            rest = (await response.aread()).decode()
    assert "second" in rest
    assert "first" not in rest


@pytest.mark.parametrize("wrong", ["x", "-1", "1.5", "9" * 16, "\u0661".encode().decode("latin-1")])
async def test_an_id_that_was_never_given_is_refused(team: Served, wrong: str) -> None:
    headers = {**team.headers(), "Last-Event-ID": wrong}
    answer = await team.http.post(
        f"{team.url}/a2a/v1/message:stream",
        json=message("hello"),
        headers={name.encode(): value.encode("latin-1") for name, value in headers.items()},
    )
    assert answer.status_code == 400
    assert "Last-Event-ID" in answer.json()["error"]["message"]
    assert team.adapter.started == 0


async def test_a_caller_who_does_not_read_is_left_and_finds_all_in_the_log(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "elf.a2a")
    monkeypatch.setattr(sse, "_STALLED", 0.3)
    team: Served = await serve()
    address = urlsplit(team.url)
    body = json.dumps(message("many 400")).encode()
    head = "".join(f"{name}: {value}\r\n" for name, value in team.headers().items())
    with socket.socket() as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.connect((address.hostname, address.port))
        caller.sendall(
            f"POST /a2a/v1/message:stream HTTP/1.1\r\nHost: x\r\n{head}Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        async with asyncio.timeout(30):
            while "a stream was given up" not in caplog.text:  # noqa: ASYNC110 - a log line has no event
                await asyncio.sleep(0.05)
    answer = await team.rpc("SendMessage", message("many 400"))
    (artifact,) = answer["result"]["task"]["artifacts"]
    assert len(artifact["parts"]) == 400
    assert "Traceback" not in caplog.text
