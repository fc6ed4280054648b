"""TeamClient: how teams call each other, also when the line is bad."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import httpx
import pytest

from elf_sdk.errors import BadInput, Conflict, Failure, Forbidden, NotFound, Retryable, Unauthenticated
from elf_sdk.runs.run import RunState
from elf_sdk.server.a2a.client import TeamClient
from elf_sdk.server.address import Address
from elf_sdk.server.remote import RemoteUpdate
from elf_sdk.team.work import Runs
from tests.a2a.conftest import Serve, Served, listening


def client_of(team: Served, url: str = "", caller: str = "executive") -> TeamClient:
    name = team.engine.spec.name
    return TeamClient(url or team.url, lambda: team.issuer.team_token(caller, name), team.http)


async def all_of(client: TeamClient, text: str, message_id: str) -> list[RemoteUpdate]:
    return [update async for update in client.send(text, message_id=message_id)]


def text_of(updates: list[RemoteUpdate]) -> str:
    text = ""
    for update in updates:
        text = update.text_delta if update.replaces else text + update.text_delta
    return text


async def test_a_message_is_followed_to_its_end(team: Served) -> None:
    client = client_of(team)
    assert await client.name() == "Painting team"
    updates = [update async for update in client.send("everything", message_id="d1", metadata={"chain": ["executive"]})]
    assert text_of(updates) == "done"
    assert [update.step for update in updates if update.step] == ["draft"]
    assert [update.final for update in updates].count(True) == 1
    assert updates[-1].state is RunState.FINISHED
    task = await client.get(updates[-1].task_id)
    assert (task.state, task.text) == (RunState.FINISHED, "done")
    with pytest.raises(Conflict):
        await client.cancel(task.task_id)
    with pytest.raises(NotFound):
        await client.get("absent")


async def test_text_arrives_before_the_end_and_a_cancel_ends_it(team: Served) -> None:
    client = client_of(team)
    updates: list[RemoteUpdate] = []
    async for update in client.send("wait", message_id="d1"):
        updates.append(update)
        if update.text_delta:
            assert not update.final
            assert (await client.cancel(update.task_id)).state is RunState.CANCELLED
    assert updates[-1].state is RunState.CANCELLED
    assert team.adapter.cancelled.is_set()


async def test_a_question_comes_back_and_its_answer_goes_in(team: Served) -> None:
    client = client_of(team)
    asked = [update async for update in client.send("ask me", message_id="d1")][-1]
    assert (asked.state, asked.question) == (RunState.INPUT_REQUIRED, "Which colour?")
    updates = [update async for update in client.send("blue", message_id="d2", task_id=asked.task_id)]
    assert text_of(updates) == "painted blue"


async def test_a_failure_is_told(team: Served) -> None:
    updates = [update async for update in client_of(team).send("fail", message_id="d1")]
    assert (updates[-1].state, updates[-1].retryable) == (RunState.FAILED, False)
    assert "the paint is out" in updates[-1].error
    with pytest.raises(BadInput, match="circle"):
        async for _ in client_of(team).send("hello", message_id="d2", metadata={"chain": ["painting", "executive"]}):
            pass


async def test_a_team_that_does_not_stream_is_followed_too(serve: Serve) -> None:
    team: Served = await serve(stream=False)
    updates = [update async for update in client_of(team).send("count 5", message_id="d1")]
    assert text_of(updates) == "0 1 2 3 4 "
    assert updates[-1].final


@asynccontextmanager
async def cutting_proxy(url: str, cut: Callable[[int, int], bool]) -> AsyncIterator[str]:
    """A TCP proxy. `cut(connection, bytes)` says when to drop the connection after that much of an answer."""
    target = urlsplit(url)
    connections: set[asyncio.Task[None]] = set()
    numbers = itertools.count()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        number = next(numbers)
        upstream_reader, upstream_writer = await asyncio.open_connection(target.hostname, target.port)

        async def forward() -> None:
            while data := await reader.read(65_536):
                upstream_writer.write(data)

        async def backward() -> None:
            passed = 0
            while data := await upstream_reader.read(256):
                passed += len(data)
                if cut(number, passed):
                    return
                writer.write(data)

        pumps = {asyncio.create_task(forward()), asyncio.create_task(backward())}
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for end in (writer, upstream_writer):
                end.transport.abort()
                end.close()
                with suppress(OSError):
                    await end.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_line_that_drops_again_and_again_doubles_and_loses_nothing(serve: Serve, stream: bool) -> None:
    team: Served = await serve(stream=stream)
    cuts: list[int] = []

    def cut(number: int, passed: int) -> bool:
        drop = 0 < number < 5 and passed > (700 * number if stream else 100)
        if drop:
            cuts.append(number)
        return drop

    limits = httpx.Limits(max_keepalive_connections=0)
    async with cutting_proxy(team.url, cut) as url, httpx.AsyncClient(limits=limits) as http:
        client = TeamClient(url, lambda: team.token(), http)
        updates = [update async for update in client.send("count 60", message_id="d1")]
    assert text_of(updates) == "".join(f"{index} " for index in range(60))
    assert not any(update.replaces for update in updates)
    assert [update.final for update in updates].count(True) == 1
    assert team.adapter.started == 1
    assert cuts == [1, 2, 3, 4]


async def test_a_team_that_is_down_is_named_and_can_be_retried(team: Served) -> None:
    gone = TeamClient("http://127.0.0.1:9", lambda: "t", team.http, team="brand", retries=1)
    with pytest.raises(Retryable, match=r"the team 'brand' at http://127\.0\.0\.1:9 cannot be reached"):
        async for _ in gone.send("x", message_id="d1"):
            pass
    async with cutting_proxy(team.url, lambda number, passed: number > 0) as url:
        client = TeamClient(url, lambda: team.token(), team.http, retries=2)
        await client.name()
        await team.http.aclose()
        async with httpx.AsyncClient() as http:
            client = TeamClient(url, lambda: team.token(), http, retries=1)
            with pytest.raises(Retryable, match="broke"):
                async for _ in client.send("x", message_id="d1"):
                    pass


async def test_a_refusal_is_a_refusal(team: Served) -> None:
    with pytest.raises(Forbidden, match="marketing"):
        async for _ in client_of(team, caller="marketing").send("x", message_id="d1"):
            pass
    client = TeamClient(team.url, lambda: "no-token", team.http)
    with pytest.raises(Unauthenticated, match="401"):
        await client.cancel("x")
    with pytest.raises(Unauthenticated):
        async for _ in client.send("x", message_id="d1"):
            pass


async def test_what_is_no_team_is_said_so(serve: Serve) -> None:
    team: Served = await serve(address=Address("https://agents.example.com"))
    updates = [update async for update in client_of(team).send("hello", message_id="d1")]
    assert updates[-1].final, "a public address in the card does not keep a neighbour out"

    async def nonsense(scope: dict[str, object], receive: object, send: Callable[..., object]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[misc]
        await send({"type": "http.response.body", "body": b"<html>"})  # type: ignore[misc]

    async with listening(nonsense) as port:
        client = TeamClient(f"http://127.0.0.1:{port}", lambda: "t", team.http)
        with pytest.raises(Failure, match="not A2A"):
            await client.get("x")


async def test_a_full_queue_is_tried_again(serve: Serve) -> None:
    team: Served = await serve(runs=Runs(concurrency=1, queue=0))
    first = asyncio.create_task(all_of(client_of(team), "wait", "d1"))
    await team.adapter.working.wait()
    impatient = TeamClient(team.url, lambda: team.token(), team.http, retries=0)
    with pytest.raises(Retryable, match="waiting already"):
        async for _ in impatient.send("hello", message_id="d2"):
            pass
    asyncio.get_running_loop().call_later(0.3, team.adapter.gate.set)
    updates = [update async for update in client_of(team).send("hello", message_id="d2")]
    assert text_of(updates) == "you said: hello"
    await first
