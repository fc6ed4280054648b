"""`TeamServer`: a team as an ASGI application. Subclass it, name an adapter, and that is a whole team.

class BrandTeam(TeamServer):            # finds team.yaml beside the module
    adapter = LangGraphAdapter(build_graph)

app = BrandTeam()
"""

from __future__ import annotations

import dataclasses
import importlib.util
import ipaddress
import logging
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, final

from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from elf_sdk.errors import BadInput, ElfError, Unauthenticated
from elf_sdk.runs.adapter import Adapter, AdapterCapabilities, Delegate, RunContext
from elf_sdk.runs.engine import Engine
from elf_sdk.runs.events import Event
from elf_sdk.server.a2a.card import agent_card, interfaces
from elf_sdk.server.a2a.routes import a2a_routes, base_url
from elf_sdk.server.auth import Principal, Verifier, bearer_token
from elf_sdk.server.capabilities import CHAT_PATH, CHAT_SCHEMA_PATH, Capabilities, describe
from elf_sdk.server.chat.endpoint import ChatEndpoint
from elf_sdk.server.chat.frames import frame_schemas
from elf_sdk.server.chat.session import ChatSession
from elf_sdk.server.courier import Courier, Progress
from elf_sdk.server.errors import error_response
from elf_sdk.server.health import Health, report
from elf_sdk.server.listen import bind, serve
from elf_sdk.server.logs import protect_logs
from elf_sdk.server.preview import Preview
from elf_sdk.server.services import Services, open_services
from elf_sdk.settings import load_settings
from elf_sdk.team.load import load_team
from elf_sdk.team.spec import TeamSpec

__all__ = ["TeamServer"]

log = logging.getLogger("elf.server")


class TeamServer:
    """A team as a service. An ASGI application; its hooks are the methods that begin with `on_`, and two more.

    Args:
        spec: what the team is; by default `team.yaml` beside the module that defines the subclass.

    Raises:
        BadSpec: the team.yaml is wrong.
        BadInput: there is no team.yaml, or it names another framework than the adapter is for.
    """

    adapter: ClassVar[Adapter | None] = None
    """Does the team's work. A subclass names one, or replaces `on_message`."""

    def __init__(self, spec: TeamSpec | None = None) -> None:
        self.directory = _directory(type(self)) if spec is None else None
        self.spec = spec if spec is not None else _spec_of(type(self), self.directory)
        self._adapter: Adapter = _chosen_adapter(self)
        self._engine: Engine | None = None
        self._services: Services | None = None
        self._verifier: Verifier | None = None
        self._chat: ChatEndpoint | None = None
        self._courier: Courier | None = None
        self._app = Starlette(
            routes=self._fixed_routes(),
            lifespan=self._lifespan,
            exception_handlers={ElfError: error_response},
        )

    @final
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        await self._app(scope, receive, send)

    # Hooks, all optional.

    async def on_start(self) -> None:
        """The process begins to serve."""

    async def on_stop(self) -> None:
        """The process stops serving."""

    async def health(self) -> Health:
        """Added to the built-in checks."""
        return Health()

    def capabilities(self) -> Capabilities:
        """Extends what the spec already says: `dataclasses.replace(super().capabilities(), extra=…)`."""
        return self._capabilities("")

    async def on_message(self, turn: RunContext) -> AsyncGenerator[Event, None]:
        """Replaces the adapter, for A2A and chat alike."""
        async for event in self._adapter.run(turn):
            yield event

    async def on_chat_open(self, session: ChatSession) -> str:
        """The greeting of a session."""
        made_up = " I answer with made-up text: the offline model is on." if self.spec.llm.provider == "offline" else ""
        team = f". {self.spec.title}: {self.spec.purpose}" if self.spec.purpose else f" of {self.spec.title}."
        return f"Hello, I am the {self.spec.manager.role}{team}{made_up}"

    async def on_chat_close(self, session: ChatSession, reason: str) -> str:
        """The summary of a session."""
        return f"{_counted(session.messages, 'message')}, {_counted(session.delegations, 'delegation')} confirmed"

    async def on_delegate(self, preview: Preview) -> Preview:
        """The last word on a delegation before a person sees it."""
        return preview

    # Serving.

    def serve(self, host: str | None = None, port: int | None = None) -> None:
        """Serve alone until stopped; what `python team.py` and the container do.

        Raises:
            SystemExit: it cannot start; the message says why.
        """
        try:
            settings = load_settings()
            sock = bind(host or settings.host, settings.port if port is None else port)
            address = "http://{}:{}".format(*sock.getsockname()[:2])
            print(f"{self.spec.title} on {address} — card: {address}/.well-known/agent-card.json", flush=True)  # noqa: T201 - a person started this
            serve(self._app, sock, log_level=settings.log_level)
        except ElfError as error:
            sys.exit(f"error: {error}")

    @asynccontextmanager
    async def running(self, services: Services) -> AsyncGenerator[None, None]:
        """Serve within a process that shares `services` among its teams.

        Raises:
            ElfError: the team cannot start; the message says why.
        """
        await self._start(services)
        try:
            yield
        finally:
            await self._stop()

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncGenerator[None, None]:
        async with open_services(load_settings()) as services, self.running(services):
            yield

    async def _start(self, services: Services) -> None:
        protect_logs()
        settings = services.settings
        spec = self.spec.for_environment(settings.environment)
        self._services = services
        self._verifier = Verifier(services.secret, settings.organisation, settings.environment, spec.name)
        replaced = type(self).on_message is not TeamServer.on_message
        adapter = _Hooked(self, self._adapter) if replaced else self._adapter
        engine = Engine(
            spec, adapter, services.log, services.endpoint(spec, self.directory), _delegates(spec, services)
        )
        await engine.open()
        courier = Courier(
            spec.name,
            services.delegations,
            client_for=lambda team: services.client_for(spec.name, team),
            publish=self._publish,
        )
        self._engine, self._courier = engine, courier
        routes = self._fixed_routes()
        routes += a2a_routes(
            engine,
            lambda base_url: agent_card(spec, adapter.capabilities, base_url),
            self._authenticate,
            callers=_callers(spec, services),
            public_url=settings.public_url,
        )
        if spec.chat.enabled and self._chat_possible():
            self._chat = ChatEndpoint(
                spec,
                self._verifier,
                open_session=self._open_session,
                greet=self.on_chat_open,
                summarise=self.on_chat_close,
            )
            routes += [
                WebSocketRoute(CHAT_PATH, self._chat.serve),
                Route(CHAT_SCHEMA_PATH, _chat_schema),
            ]
        self._app.router.routes[:] = routes
        await courier.open()
        await self.on_start()

    async def _stop(self) -> None:
        engine, courier, chat = self._engine, self._courier, self._chat
        self._chat = None
        if chat is not None:
            await chat.close()
        if engine is not None:
            await engine.close()
        if courier is not None:
            await courier.close()
        self._engine = self._courier = self._services = self._verifier = None
        await self.on_stop()

    def _chat_possible(self) -> bool:
        if importlib.util.find_spec("websockets") is None:
            log.warning(
                "chat of %s is off: the package websockets is not installed; pip install websockets", self.spec.name
            )
            return False
        return True

    def _open_session(self, principal: Principal) -> ChatSession:
        assert self._engine is not None and self._courier is not None and self._services is not None  # noqa: S101, PT018 - chat is mounted after they are set
        return ChatSession(
            principal,
            self._engine,
            self._courier,
            environment=self._services.settings.environment,
            on_delegate=self.on_delegate,
        )

    async def _publish(self, news: Progress) -> None:
        if self._chat is not None:
            await self._chat.publish(news)

    # Routes of a team.

    def _fixed_routes(self) -> list[BaseRoute]:
        return [
            Route("/health", self._health),
            Route("/livez", self._livez),
            Route("/readyz", self._readyz),
            Route("/startupz", self._startupz),
            Route("/capabilities", self._show_capabilities),
            Route("/status", self._status),
        ]

    def _capabilities(self, base_url: str) -> Capabilities:
        return describe(
            self.spec,
            self._adapter.capabilities,
            base_url=base_url,
            a2a=interfaces(agent_card(self.spec, self._adapter.capabilities, base_url)),
            chat_enabled=self._chat is not None,
        )

    async def _checked(self) -> Health:
        """The built-in checks and the team's own."""
        if self._engine is None or self._services is None:
            return Health("failing", {"server": "not started yet"})
        detail = {
            "store": "volatile: lost with the process" if self._services.log.volatile else "ok",
            "model": "offline: answers are made up" if self.spec.llm.provider == "offline" else "ok",
            "adapter": "ok",
        }
        try:
            await self._engine.status()
        except ElfError as error:
            return Health("failing", {**detail, "store": str(error)})
        return Health("ok", detail).merged(await self.health())

    async def _health(self, request: Request) -> Response:
        health = await self._checked()
        body = report(
            self.spec,
            health,
            now=datetime.now(UTC),
            chat_enabled=self._chat is not None,
            full=self._may_see(request),
        )
        return JSONResponse(body, status_code=503 if health.status == "failing" else 200)

    async def _livez(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _readyz(self, request: Request) -> Response:
        health = await self._checked()
        ready = health.status != "failing"
        return JSONResponse({"status": "ok" if ready else "failing"}, status_code=200 if ready else 503)

    async def _startupz(self, request: Request) -> Response:
        started = self._engine is not None
        return JSONResponse({"status": "ok" if started else "starting"}, status_code=200 if started else 503)

    async def _show_capabilities(self, request: Request) -> Response:
        self._require(request)
        described = self.capabilities()
        # The hook knows nothing of the request, by which alone the addresses are known.
        complete = dataclasses.replace(described, interfaces=self._capabilities(self._base_url(request)).interfaces)
        return JSONResponse(complete.as_json())

    async def _status(self, request: Request) -> Response:
        self._require(request)
        if self._engine is None:
            return JSONResponse({"status": "starting"}, status_code=503)
        status = await self._engine.status()
        return JSONResponse(
            {
                "team_name": self.spec.name,
                "runs": {state.value: number for state, number in sorted(status.runs.items())},
                "running": status.running,
                "queue": status.queued,
                "last_activity": status.last_activity.isoformat() if status.last_activity else None,
            }
        )

    def _base_url(self, request: Request) -> str:
        return base_url(request, self._services.settings.public_url if self._services is not None else "")

    def _may_see(self, request: Request) -> bool:
        try:
            self._require(request)
        except ElfError:
            return False
        return True

    def _require(self, request: Request) -> None:
        """Let in who is on this machine, and who has a token for this team."""
        if not _is_local(request):
            self._authenticate(request)

    def _authenticate(self, request: Request) -> Principal:
        if self._verifier is None:
            raise Unauthenticated("the team has not started yet")
        return self._verifier.verify(bearer_token(request.headers.get("authorization")))


class _Hooked:
    """A team's `on_message` as the engine sees it."""

    def __init__(self, server: TeamServer, adapter: Adapter) -> None:
        self.name = adapter.name
        self.capabilities = adapter.capabilities
        self._server = server

    def run(self, ctx: RunContext) -> AsyncGenerator[Event, None]:
        return self._server.on_message(ctx)


class _HookOnly:
    """Stands where a team has no adapter because it replaces `on_message`."""

    name = "function"
    capabilities = AdapterCapabilities(stream=True, human=False, cancel="certain", recover=False)

    async def run(self, ctx: RunContext) -> AsyncGenerator[Event, None]:
        nothing: tuple[Event, ...] = ()
        for event in nothing:
            yield event


def _directory(cls: type[TeamServer]) -> Path:
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    if file is None:
        raise BadInput(
            f"{cls.__name__} was not defined in a file, so it has no team.yaml beside it; pass spec=TeamSpec(…)"
        )
    return Path(file).resolve().parent


def _spec_of(cls: type[TeamServer], directory: Path | None) -> TeamSpec:
    assert directory is not None  # noqa: S101 - found by the caller
    return load_team(directory)


def _chosen_adapter(server: TeamServer) -> Adapter:
    adapter = server.adapter
    if adapter is None:
        if type(server).on_message is TeamServer.on_message:
            raise BadInput(f"{type(server).__name__} has neither an adapter nor an on_message; give it one of them")
        return _HookOnly()
    if adapter.name != server.spec.framework:
        raise BadInput(
            f"{server.spec.name}: team.yaml says framework: {server.spec.framework}, but {type(server).__name__} uses "
            f"{type(adapter).__name__}, which is for {adapter.name}; make them agree"
        )
    return adapter


def _delegates(spec: TeamSpec, services: Services) -> tuple[Delegate, ...]:
    """The teams that this one manages, as far as both sides say so."""
    if services.org is None:
        return tuple(Delegate(name, name, "") for name in spec.manages)
    teams = services.org.teams
    return tuple(Delegate(name, teams[name].title, teams[name].purpose) for name in services.org.children(spec.name))


def _callers(spec: TeamSpec, services: Services) -> frozenset[str]:
    """The teams that may call this one."""
    if services.org is None:
        return frozenset({*spec.peers, *([spec.reports_to] if spec.reports_to else [])})
    return frozenset(services.org.callers(spec.name))


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _is_local(connection: HTTPConnection) -> bool:
    """Whether somebody on this machine asks, and not through a proxy."""
    headers: Mapping[str, Any] = connection.headers
    if connection.client is None or "forwarded" in headers or "x-forwarded-for" in headers:
        return False
    name = connection.url.hostname or ""
    try:
        local_name = name == "localhost" or ipaddress.ip_address(name).is_loopback
        return local_name and ipaddress.ip_address(connection.client.host).is_loopback
    except ValueError:
        return False


async def _chat_schema(request: Request) -> Response:
    return JSONResponse(frame_schemas())
