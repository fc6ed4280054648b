"""TeamClient on a bad line and against servers that misbehave: nothing lost, nothing doubled, no waiting in vain."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, Part, Task, TaskState, TaskStatus
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from elf_sdk.errors import BadInput, Failure, Retryable
from elf_sdk.runs.run import RunState
from elf_sdk.server.a2a.card import IDEMPOTENT_MESSAGE_ID
from elf_sdk.server.a2a.client import TeamClient
from elf_sdk.server.a2a.propagation import DEADLINE
from elf_sdk.server.a2a.routes import a2a_routes
from elf_sdk.server.auth import Principal, Verifier, bearer_token
from elf_sdk.server.remote import RemoteUpdate
from tests.a2a.conftest import ENVIRONMENT, ORGANISATION, SECRET, Served, listening
from tests.a2a.test_client import all_of, text_of

NO_KEEPALIVE = httpx.Limits(max_keepalive_connections=0)
"""A connection for each request, so that a test can say which of them breaks."""
NUMBERS = "".join(f"{index} " for index in range(4))

WORKING = {"state": "TASK_STATE_WORKING"}
COMPLETED = {"state": "TASK_STATE_COMPLETED"}


# Bad lines.


class Line:
    """A TCP proxy to whichever of `targets` takes the connection, which is cut where a test says so.

    Attributes:
        cuts: after how many bytes of the answer which connection is cut; counted from 0.
        answered: bytes of the answer on each connection.
    """

    def __init__(self, *targets: str) -> None:
        self.targets = list(targets)
        self.cuts: dict[int, int] = {}
        self.answered: list[int] = []
        self.url = ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Line]:
        connections: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            connections.add(task)
            try:
                await self._carry(reader, writer)
            finally:
                writer.transport.abort()
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        try:
            async with server:
                self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
                yield self
        finally:
            for task in connections:
                task.cancel()
            await asyncio.gather(*connections, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(self.answered)
        self.answered.append(0)
        for target in self.targets:
            with suppress(OSError):
                there = urlsplit(target)
                upstream_reader, upstream_writer = await asyncio.open_connection(there.hostname, there.port)
                break
        else:
            return

        async def forward() -> None:
            while data := await reader.read(65_536):
                upstream_writer.write(data)

        async def backward() -> None:
            while data := await upstream_reader.read(65_536):
                room = self.cuts.get(number, 1 << 40) - self.answered[number]
                self.answered[number] += len(data[:room])
                writer.write(data[:room])
                await writer.drain()
                if room <= len(data):
                    return

        pumps = {asyncio.create_task(forward()), asyncio.create_task(backward())}
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            upstream_writer.transport.abort()
            upstream_writer.close()
            with suppress(OSError):
                await upstream_writer.wait_closed()


async def test_a_stream_that_is_cut_anywhere_is_whole(team: Served) -> None:
    async def whole(message_id: str, cut: int | None) -> int:
        async with Line(team.url).open() as line, httpx.AsyncClient(limits=NO_KEEPALIVE) as http:
            if cut is not None:
                # 0 fetches the card.
                line.cuts[1] = cut
            updates = await all_of(TeamClient(line.url, team.token, http), "count 4", message_id)
            assert text_of(updates) == NUMBERS, cut
            assert not any(update.replaces for update in updates), cut
            assert [update.final for update in updates].count(True) == 1, cut
            return line.answered[1]

    length = await whole("uncut", None)
    # Before the headers, in them, and in the middle of each event and of its end.
    cuts = [0, 1, *range(20, length, max(1, length // 40)), length - 2, length - 1, length]
    for start in range(0, len(cuts), 12):
        await asyncio.gather(*(whole(f"cut at {cut}", cut) for cut in cuts[start : start + 12]))
    assert team.adapter.started == len(set(cuts)) + 1


async def test_the_other_replica_goes_on_when_one_dies(team: Served) -> None:
    verifier = Verifier(SECRET, ORGANISATION, ENVIRONMENT, team.engine.spec.name)

    async def authenticate(request: Request) -> Principal:
        return await verifier.identify(bearer_token(request.headers.get("authorization")))

    def card(url: str) -> dict[str, Any]:
        return {**elf_card(), "supportedInterfaces": [rpc_interface(f"{url}/a2a/v1")]}

    first_app = Starlette(routes=[*a2a_routes(team.engine, card, authenticate)])
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(AsyncExitStack())
        port = await first.enter_async_context(listening(first_app))
        line = await stack.enter_async_context(Line(f"http://127.0.0.1:{port}", team.url).open())
        http = await stack.enter_async_context(httpx.AsyncClient())
        updates: list[RemoteUpdate] = []
        async for update in TeamClient(line.url, team.token, http).send("wait", message_id="d1"):
            updates.append(update)
            if update.text_delta == "first ":
                await first.aclose()
                team.adapter.gate.set()
    assert text_of(updates) == "first second"
    assert updates[-1].state is RunState.FINISHED
    assert team.adapter.started == 1


# Servers that are scripted, on real sockets.


def rpc_interface(url: str) -> dict[str, str]:
    return {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}


def elf_card(*, idempotent: bool = True, streaming: bool = True) -> dict[str, Any]:
    extensions = [{"uri": IDEMPOTENT_MESSAGE_ID}] if idempotent else []
    return {"name": "Peer", "capabilities": {"streaming": streaming, "extensions": extensions}}


Answer = Callable[["Peer", Request, dict[str, Any]], Response]


class Peer:
    """A server that answers each method as a test says, and remembers what it was asked.

    Attributes:
        card: without its interface.
        answers: by method, used up one after the other; the last one stays.
        asked: method, headers and params of each request.
        cards: the headers of each request for the card.
    """

    def __init__(self, card: dict[str, Any], **answers: list[Answer]) -> None:
        self.card = card
        self.answers = answers
        self.asked: list[tuple[str, Any, dict[str, Any]]] = []
        self.cards: list[Any] = []
        self.url = ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Peer]:
        app = Starlette(
            routes=[
                Route("/.well-known/agent-card.json", self._card),
                Route("/rpc", self._rpc, methods=["POST"]),
            ]
        )
        async with listening(app) as port:
            self.url = f"http://127.0.0.1:{port}"
            yield self

    def methods(self) -> list[str]:
        return [method for method, _, _ in self.asked]

    async def _card(self, request: Request) -> Response:
        self.cards.append(request.headers)
        body = json.dumps({"supportedInterfaces": [rpc_interface(f"{self.url}/rpc")], **self.card})
        headers = {"ETag": f'"{hash(body)}"', "Cache-Control": "max-age=0"}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers)

    async def _rpc(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append((body["method"], request.headers, body["params"]))
        answers = self.answers[body["method"]]
        return (answers.pop(0) if len(answers) > 1 else answers[0])(self, request, body["params"])


def refused(status: int, **headers: str) -> Answer:
    return lambda peer, request, params: Response(status_code=status, headers=headers)


def result(value: dict[str, Any]) -> Answer:
    return lambda peer, request, params: JSONResponse({"jsonrpc": "2.0", "id": 1, "result": value})


def stream(*events: dict[str, Any], then: str = "close", numbers: int = 1) -> Answer:
    """A stream of events with ids; `then` it is closed, or kept alive without a word."""

    def answer(peer: Peer, request: Request, params: dict[str, Any]) -> Response:
        async def frames() -> AsyncIterator[str]:
            for number, event in enumerate(events, numbers):
                body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": event})
                yield f"id: {number}\ndata: {body}\n\n"
            while then == "silence":
                yield ": still here\n\n"
                await asyncio.sleep(0.05)

        return StreamingResponse(frames(), media_type="text/event-stream")

    return answer


def task(status: dict[str, Any] = WORKING, text: str = "") -> dict[str, Any]:
    artifacts = [{"artifactId": "elf.answer", "parts": [{"text": text}]}] if text else []
    return {"task": {"id": "t1", "contextId": "c1", "status": status, "artifacts": artifacts}}


def piece(text: str) -> dict[str, Any]:
    artifact = {"artifactId": "elf.answer", "parts": [{"text": text}]}
    return {"artifactUpdate": {"taskId": "t1", "contextId": "c1", "artifact": artifact, "append": True}}


def status(value: dict[str, Any]) -> dict[str, Any]:
    return {"statusUpdate": {"taskId": "t1", "contextId": "c1", "status": value}}


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


def client_of(peer: Peer, http: httpx.AsyncClient, **settings: Any) -> TeamClient:
    return TeamClient(peer.url, lambda: "token", http, **settings)


async def test_a_stream_is_taken_up_behind_its_last_event(http: httpx.AsyncClient) -> None:
    first = stream(task(), piece("one "), piece("two "))
    rest = stream(piece("three"), status(COMPLETED), numbers=4)
    async with Peer(elf_card(), SendStreamingMessage=[first], SubscribeToTask=[rest]).open() as peer:
        updates = await all_of(client_of(peer, http), "go", "m1")
        assert text_of(updates) == "one two three"
        assert not any(update.replaces for update in updates)
        (_, sent, _), (_, resumed, params) = peer.asked
        assert peer.methods() == ["SendStreamingMessage", "SubscribeToTask"]
        assert sent["a2a-extensions"] == IDEMPOTENT_MESSAGE_ID
        assert (resumed["last-event-id"], params) == ("3", {"id": "t1"})


async def test_a_task_that_ended_meanwhile_is_fetched(http: httpx.AsyncClient) -> None:
    ended = {"error": {"code": -32004, "message": "it has ended"}, "jsonrpc": "2.0", "id": 1}
    answers: dict[str, list[Answer]] = {
        "SendStreamingMessage": [stream(task(), piece("one "))],
        "SubscribeToTask": [lambda peer, request, params: JSONResponse(ended)],
        "GetTask": [result(task(COMPLETED, "one two")["task"])],
    }
    async with Peer(elf_card(), **answers).open() as peer:
        updates = await all_of(client_of(peer, http), "go", "m1")
        assert [update.text_delta for update in updates if update.text_delta] == ["one ", "two"]
        assert updates[-1].state is RunState.FINISHED


async def test_a_team_that_lost_the_task_is_asked_again(http: httpx.AsyncClient) -> None:
    absent = {"error": {"code": -32001, "message": "none"}, "jsonrpc": "2.0", "id": 1}
    answers: dict[str, list[Answer]] = {
        "SendStreamingMessage": [stream(task(), piece("one ")), stream(task(), piece("uno"), status(COMPLETED))],
        "SubscribeToTask": [lambda peer, request, params: JSONResponse(absent)],
    }
    async with Peer(elf_card(), **answers).open() as peer:
        updates = await all_of(client_of(peer, http), "go", "m1")
        assert text_of(updates) == "uno"
        assert peer.methods() == ["SendStreamingMessage", "SubscribeToTask", "SendStreamingMessage"]


async def test_a_silent_stream_does_not_hide_the_end(http: httpx.AsyncClient) -> None:
    answers = {
        "SendStreamingMessage": [stream(task(), piece("one "), then="silence")],
        "GetTask": [result(task(WORKING, "one ")["task"]), result(task(COMPLETED, "one two")["task"])],
    }
    async with Peer(elf_card(), **answers).open() as peer:
        updates = await all_of(client_of(peer, http, look=0.1), "go", "m1")
        assert text_of(updates) == "one two"
        assert updates[-1].final
        assert peer.methods() == ["SendStreamingMessage", "GetTask", "GetTask"]


async def test_a_stream_that_fell_behind_is_taken_up_anew(http: httpx.AsyncClient) -> None:
    answers = {
        "SendStreamingMessage": [stream(task(), piece("one "), then="silence")],
        "GetTask": [result(task(WORKING, "one two ")["task"])],
        "SubscribeToTask": [stream(task(WORKING, "one two "), piece("three"), status(COMPLETED))],
    }
    async with Peer(elf_card(), **answers).open() as peer:
        updates = await all_of(client_of(peer, http, look=0.1), "go", "m1")
        assert [update.text_delta for update in updates if update.text_delta] == ["one ", "two ", "three"]
        # What was passed on has no number to go on behind.
        assert "last-event-id" not in peer.asked[-1][1]


@pytest.mark.parametrize("idempotent", [True, False])
async def test_a_server_that_hangs_is_given_up(http: httpx.AsyncClient, idempotent: bool) -> None:
    async def never(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(30)

    def hang(peer: Peer, request: Request, params: dict[str, Any]) -> Response:
        return never  # type: ignore[return-value]

    async with Peer(elf_card(idempotent=idempotent), SendStreamingMessage=[hang]).open() as peer:
        kind = Retryable if idempotent else Failure
        with pytest.raises(kind, match="ReadTimeout" if idempotent else "unknown whether the message 'm1' arrived"):
            await all_of(client_of(peer, http, silence=0.3, retries=1), "go", "m1")
        assert len(peer.asked) == (2 if idempotent else 1)


async def test_a_server_is_waited_for_as_long_as_it_asks(http: httpx.AsyncClient) -> None:
    busy: list[Answer] = [
        refused(429, **{"Retry-After": "1"}),
        refused(503, **{"Retry-After": "1"}),
        stream(task(COMPLETED)),
    ]
    # None of these two says that a message may have arrived, so the server need not be one of ours.
    async with Peer(elf_card(idempotent=False), SendStreamingMessage=busy).open() as peer:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        updates = await all_of(client_of(peer, http), "go", "m1")
        assert updates[-1].final
        assert loop.time() - begun >= 2
    async with Peer(elf_card(), SendStreamingMessage=[refused(503, **{"Retry-After": "3600"})]).open() as peer:
        with pytest.raises(Retryable, match="HTTP 503"):
            await all_of(client_of(peer, http), "go", "m1")
        assert len(peer.asked) == 1


@pytest.mark.parametrize("answer", [502, 503, 504])
async def test_a_proxy_that_lost_a_foreign_server_leaves_the_outcome_open(http: httpx.AsyncClient, answer: int) -> None:
    async with Peer(elf_card(idempotent=False), SendStreamingMessage=[refused(answer)]).open() as peer:
        with pytest.raises(Failure, match="it is unknown whether the message 'm1' arrived"):
            await all_of(client_of(peer, http), "go", "m1")
        assert len(peer.asked) == 1


async def test_a_repeat_has_less_time_left(http: httpx.AsyncClient) -> None:
    answers: list[Answer] = [refused(502), refused(502), stream(task(COMPLETED))]
    async with Peer(elf_card(), SendStreamingMessage=answers).open() as peer:
        updates = client_of(peer, http).send("go", message_id="m1", metadata={"chain": ["a"]}, deadline=60)
        assert [update.final async for update in updates] == [True]
        left = [params["message"]["metadata"].pop(DEADLINE) for _, _, params in peer.asked]
        assert 60 >= left[0] > left[1] > left[2] > 0
        assert peer.asked[0][2] == peer.asked[1][2] == peer.asked[2][2]


async def test_a_deadline_that_nobody_keeps_ends_the_waiting(http: httpx.AsyncClient) -> None:
    answers = {"SendStreamingMessage": [stream(task(), then="silence")], "GetTask": [result(task()["task"])]}
    async with Peer(elf_card(), **answers).open() as peer:
        with pytest.raises(Failure, match=r"was not done within 0\.2 s"):
            async for _ in client_of(peer, http).send("go", message_id="m1", deadline=0.2):
                pass
        with pytest.raises(BadInput, match="seconds that are left"):
            async for _ in client_of(peer, http).send("go", message_id="m2", deadline=-1):
                pass


async def test_a_credential_that_is_needed_is_shown(http: httpx.AsyncClient) -> None:
    message = {
        "messageId": "q",
        "role": "ROLE_AGENT",
        "parts": [{"text": "Sign in."}, {"url": "https://id.example.com"}],
    }
    needs = {"state": "TASK_STATE_AUTH_REQUIRED", "message": message}
    async with Peer(elf_card(), SendStreamingMessage=[stream(task(), status(needs))]).open() as peer:
        updates = await all_of(client_of(peer, http), "go", "m1")
        said = "It needs a credential before it goes on. Sign in. https://id.example.com"
        assert (updates[-1].question, updates[-1].final) == (said, False)


@pytest.mark.parametrize(
    "nonsense", [{"task": 1}, {"task": {"id": 5, "status": WORKING}}, {"statusUpdate": {}}, {"artifactUpdate": []}]
)
async def test_what_is_not_a2a_is_said_so(http: httpx.AsyncClient, nonsense: dict[str, Any]) -> None:
    async with Peer(elf_card(), SendStreamingMessage=[stream(nonsense)]).open() as peer:
        with pytest.raises(Failure, match="gave an answer that is not A2A"):
            await all_of(client_of(peer, http), "go", "m1")


async def test_a_card_is_asked_for_again_and_sent_only_when_it_changed(http: httpx.AsyncClient) -> None:
    async with Peer(elf_card(), SendStreamingMessage=[stream(task(COMPLETED))]).open() as peer:
        client = client_of(peer, http)
        for _ in range(2):
            await all_of(client, "go", "m1")
        assert ["if-none-match" in headers for headers in peer.cards] == [False, True]
        assert await client.name() == "Peer"
        peer.card = {**peer.card, "name": "Renamed"}
        assert await client.name() == "Renamed"
        assert not any("authorization" in headers for headers in peer.cards)


async def test_a_token_goes_only_where_it_was_told_to(http: httpx.AsyncClient) -> None:
    async with Peer(elf_card(idempotent=False)).open() as elsewhere:
        card = {**elf_card(idempotent=False), "supportedInterfaces": [rpc_interface(f"{elsewhere.url}/rpc")]}
        async with Peer(card).open() as peer:
            with pytest.raises(Failure, match=r"names no JSON-RPC interface of A2A 1\.0 at that address"):
                await all_of(client_of(peer, http), "go", "m1")
        redirect = refused(307, Location=f"{elsewhere.url}/rpc")
        async with Peer(elf_card(), SendStreamingMessage=[redirect]).open() as peer:
            with pytest.raises(Failure, match="HTTP 307"):
                await all_of(client_of(peer, http), "go", "m1")
        assert elsewhere.asked == []


# The SDK's own server, which takes each message for a new one.


class Counting(AgentExecutor):
    def __init__(self) -> None:
        self.executed = 0
        self.gate = asyncio.Event()

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        self.executed += 1
        assert context.task_id
        assert context.context_id
        started = TaskStatus(state=TaskState.TASK_STATE_SUBMITTED)
        await event_queue.enqueue_event(Task(id=context.task_id, context_id=context.context_id, status=started))
        updater = TaskUpdater(event_queue, context.task_id, context.context_id)
        await updater.start_work()
        await self.gate.wait()
        await updater.add_artifact([Part(text="done")], artifact_id="a1")
        await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        raise NotImplementedError


@asynccontextmanager
async def foreign(executor: Counting) -> AsyncIterator[Line]:
    """The SDK's default server behind a line."""
    card = AgentCard(name="Foreign", capabilities=AgentCapabilities(streaming=True))
    handler = DefaultRequestHandler(agent_executor=executor, task_store=InMemoryTaskStore(), agent_card=card)
    app = Starlette(routes=[*create_agent_card_routes(card), *create_jsonrpc_routes(handler, "/rpc")])
    async with listening(app) as port, Line(f"http://127.0.0.1:{port}").open() as line:
        card.supported_interfaces.append(
            AgentInterface(url=f"{line.url}/rpc", protocol_binding="JSONRPC", protocol_version="1.0")
        )
        yield line


async def test_a_foreign_server_is_subscribed_to_and_never_sent_a_message_twice() -> None:
    executor = Counting()
    async with foreign(executor) as line, httpx.AsyncClient(limits=NO_KEEPALIVE) as http:
        client = TeamClient(line.url, lambda: "token", http)
        updates: list[RemoteUpdate] = []
        async with aclosing(client.send("go", message_id="m1")) as news:
            async for update in news:
                updates.append(update)
                if line.cuts.get(1) is None:
                    # Whatever comes next on this connection is not let through.
                    line.cuts[1] = line.answered[1]
                    asyncio.get_running_loop().call_later(0.3, executor.gate.set)
        assert text_of(updates) == "done"
        assert [update.final for update in updates].count(True) == 1
        assert executor.executed == 1
        assert len(line.answered) > 2

        line.cuts[len(line.answered)] = 0
        with pytest.raises(Failure, match="it is unknown whether the message 'm2' arrived"):
            await all_of(client, "go", "m2")
        async with asyncio.timeout(5):
            while executor.executed < 2:  # noqa: ASYNC110 - the message may have arrived, and nothing else says when
                await asyncio.sleep(0.01)
    assert executor.executed == 2


async def test_an_answer_that_may_have_arrived_is_not_given_twice(http: httpx.AsyncClient) -> None:
    async with Peer(elf_card(idempotent=False), SendStreamingMessage=[refused(502)]).open() as peer:
        with pytest.raises(Failure, match="unknown whether the message 'm2' arrived"):
            async for _ in client_of(peer, http).send("blue", message_id="m2", task_id="t1"):
                pass
        assert len(peer.asked) == 1
