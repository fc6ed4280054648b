"""A team over A2A on a real server, and a proxy that cuts its connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import uvicorn
from a2a.client import Client, ClientCallContext, ClientConfig, create_client
from a2a.types import Message, Part, Role, SendMessageRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import BaseRoute, Mount

from elf_sdk.models.llm import Endpoint
from elf_sdk.runs.adapter import AdapterCapabilities, Owner, RunContext, RunError
from elf_sdk.runs.engine import Engine
from elf_sdk.runs.events import (
    Artifact,
    AuthRequired,
    DelegationProposed,
    Event,
    InputRequired,
    MessageOnly,
    Step,
    TextDelta,
    ToolCall,
    ToolResult,
    Usage,
)
from elf_sdk.runs.log import RunLog
from elf_sdk.runs.memory import MemoryLog
from elf_sdk.server.a2a.card import agent_card, extended_card
from elf_sdk.server.a2a.push import PushSender
from elf_sdk.server.a2a.routes import a2a_routes
from elf_sdk.server.address import Address
from elf_sdk.server.auth import Issuer, Principal, Verifier, bearer_token
from elf_sdk.team.spec import TeamSpec
from elf_sdk.team.work import Delegation, Member

SECRET = "not-a-secret-only-for-these-tests-" + "x" * 16
ORGANISATION = "acme"
ENVIRONMENT = "dev"


class ScriptedAdapter:
    """Does what the message says, so that a test reads as what it asks."""

    name = "scripted"

    def __init__(self, stream: bool = True) -> None:
        self.capabilities = AdapterCapabilities(stream=stream, human=True, cancel="certain", recover=False)
        self.started = 0
        self.working = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.gate = asyncio.Event()

    async def run(self, ctx: RunContext) -> AsyncGenerator[Event, None]:
        self.started += 1
        self.working.set()
        match ctx.text.split():
            case ["count", number]:
                for index in range(int(number)):
                    yield TextDelta(f"{index} ")
                    await asyncio.sleep(0.03)
            case ["wait", *_]:
                yield TextDelta("first ")
                try:
                    await self.gate.wait()
                except (asyncio.CancelledError, GeneratorExit):
                    self.cancelled.set()
                    raise
                yield TextDelta("second")
            case ["ask", *_]:
                if not ctx.answers:
                    yield InputRequired("colour", "Which colour?")
                    yield Step("ask", phase="end")
                else:
                    yield TextDelta(f"painted {ctx.answers['colour']}")
            case ["allow", *_]:
                if not ctx.answers:
                    yield AuthRequired("calendar", "Let me read the calendar.", url="https://example.com/allow")
                else:
                    yield TextDelta("read")
            case ["refuse", *_]:
                raise RunError("that is nothing we paint", code="rejected")
            case ["greet", *_]:
                yield TextDelta("Good morning")
                yield MessageOnly()
            case ["files", *_]:
                yield Artifact("sketch", "sketch", "text/plain", text="First, ", last=False)
                yield Artifact("sketch", "sketch", "image/png", raw="iVBORw0KGgo=", filename="a.png", append=True)
                yield Artifact("link", "link", "image/png", url="https://example.com/b.png", filename="b.png")
            case ["many", number]:
                for index in range(int(number)):
                    yield Artifact("chunks", "chunks", text="x" * 60_000, append=index > 0, last=False)
            case ["fail", *_]:
                yield TextDelta("half")
                raise RuntimeError("the paint is out")
            case ["everything", *_]:
                yield Step("draft", agent="writer")
                yield ToolCall("c1", "search", {"q": "hidden argument"})
                yield ToolResult("c1", "hidden output")
                yield Artifact("report", "report.md", "text/markdown", text="# Report")
                yield Artifact("numbers", "numbers", "application/json", data={"a": [1, 2.5, None]})
                yield DelegationProposed("p1", "brand", "A logo", requirements=("blue",))
                yield Usage("offline", 3, 4)
                yield Step("draft", phase="end")
                yield TextDelta("done")
            case _:
                yield TextDelta(f"you said: {ctx.text}")


@dataclass
class Served:
    """A team, and all that a test needs to talk to it."""

    url: str
    engine: Engine
    adapter: ScriptedAdapter
    issuer: Issuer
    http: httpx.AsyncClient

    def token(self, user: str = "ada") -> str:
        return self.issuer.user_token(user, self.engine.spec.name)

    def headers(self, user: str = "ada") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(user)}", "A2A-Version": "1.0"}

    def owner(self, user: str = "ada") -> Owner:
        return Owner(self.issuer.name, f"user:{user}")

    def call(self, user: str = "ada") -> ClientCallContext:
        return ClientCallContext(service_parameters={"Authorization": f"Bearer {self.token(user)}"}, timeout=20)

    async def client(self, binding: str = "JSONRPC", streaming: bool = True) -> Client:
        """The official client."""
        config = ClientConfig(
            httpx_client=self.http,
            streaming=streaming,
            supported_protocol_bindings=[binding],
            use_client_preference=True,
        )
        return await create_client(self.url, config)

    async def rpc(
        self, method: str, params: Any, user: str = "ada", more: dict[str, str] | None = None
    ) -> dict[str, Any]:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        headers = {**self.headers(user), **(more or {})}
        response = await self.http.post(f"{self.url}/a2a/v1", json=body, headers=headers)
        assert response.status_code == 200
        answer: dict[str, Any] = response.json()
        return answer


def ask(text: str, message_id: str = "m1", **more: Any) -> SendMessageRequest:
    message = Message(message_id=message_id, role=Role.ROLE_USER, parts=[Part(text=text)], **more)
    return SendMessageRequest(message=message)


@asynccontextmanager
async def listening(app: Any) -> AsyncIterator[int]:
    """Serve `app` on a free port of loopback."""
    config = uvicorn.Config(
        app, port=0, log_level="error", lifespan="off", proxy_headers=False, timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    try:
        while not server.started:
            assert not task.done()
            await asyncio.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


Serve = Callable[..., Any]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """A function that serves a team and returns it as `Served`."""
    async with AsyncExitStack() as stack:

        async def start(
            *,
            stream: bool = True,
            prefix: str = "",
            address: Address | None = None,
            compatible: bool = True,
            idempotent: bool = True,
            log: RunLog | None = None,
            push: PushSender | None = None,
            **spec: Any,
        ) -> Served:
            about = {
                "name": "painting",
                "display_name": "Painting team",
                "purpose": "Paints what it is told to.",
                "members": (Member(role="painter", is_manager=True),),
                "delegation": Delegation(max_depth=2),
            }
            team = TeamSpec(**{**about, **spec})
            adapter = ScriptedAdapter(stream)
            engine = Engine(team, adapter, log or MemoryLog(), Endpoint("offline", "none", "http://127.0.0.1:9", ""))
            verifier = Verifier(SECRET, ORGANISATION, ENVIRONMENT, team.name)

            async def authenticate(request: Request) -> Principal:
                return await verifier.identify(bearer_token(request.headers.get("authorization")))

            def card(base_url: str) -> dict[str, Any]:
                others = address.others(base_url) if address else ()
                return agent_card(
                    team,
                    adapter.capabilities,
                    base_url,
                    others=others,
                    compatible=compatible,
                    push=push is not None,
                )

            routes: list[BaseRoute] = [
                *a2a_routes(
                    engine,
                    card,
                    authenticate,
                    extended_card=lambda url: extended_card(card(url), team, adapter.capabilities),
                    callers=frozenset({"executive"}),
                    address=address,
                    compatible=compatible,
                    idempotent=idempotent,
                    push=push,
                )
            ]
            app = Starlette(routes=[Mount(prefix, routes=routes)] if prefix else routes)
            port = await stack.enter_async_context(listening(app))
            stack.push_async_callback(engine.close)
            http = await stack.enter_async_context(httpx.AsyncClient(timeout=20))
            issuer = Issuer(SECRET, ORGANISATION, ENVIRONMENT)
            return Served(f"http://127.0.0.1:{port}{prefix}", engine, adapter, issuer, http)

        yield start


@pytest.fixture
async def team(serve: Serve) -> Served:
    served: Served = await serve()
    return served
