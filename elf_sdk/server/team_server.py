"""`TeamServer`: a team as an ASGI application. Subclass it, name an adapter, and that is a whole team.

class BrandTeam(TeamServer):            # finds team.yaml beside the module
    adapter = LangGraphAdapter(build_graph)

app = BrandTeam()
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from elf_sdk.errors import BadInput, ElfError, NotFound, Unauthenticated
from elf_sdk.models.llm import Endpoint
from elf_sdk.runs.adapter import Adapter, RunContext
from elf_sdk.runs.engine import Engine
from elf_sdk.runs.events import Event
from elf_sdk.runs.upkeep import Upkeep
from elf_sdk.server.a2a.card import agent_card, extended_card, interfaces
from elf_sdk.server.a2a.push import PushSender
from elf_sdk.server.a2a.routes import a2a_grpc, a2a_routes
from elf_sdk.server.address import Address, address_beside, is_local
from elf_sdk.server.auth import Principal, Verifier, bearer_token
from elf_sdk.server.capabilities import CHAT_PATH, CHAT_SCHEMA_PATH, Capabilities, describe
from elf_sdk.server.chat.endpoint import ChatEndpoint
from elf_sdk.server.chat.frames import frame_schemas
from elf_sdk.server.chat.session import ChatSession
from elf_sdk.server.courier import Courier, Progress
from elf_sdk.server.errors import error_response
from elf_sdk.server.health import Health, report
from elf_sdk.server.hooks import Hooked, beside_the_loop, chosen_adapter, isolated_adapter
from elf_sdk.server.listen import GRACE, bind, serve
from elf_sdk.server.metrics.exposition import exposition
from elf_sdk.server.preview import Preview
from elf_sdk.server.requests import IdentifiedRequests
from elf_sdk.server.services import Services, open_services
from elf_sdk.settings import load_settings
from elf_sdk.team.load import load_team
from elf_sdk.team.spec import TeamSpec

if TYPE_CHECKING:
    from elf_sdk.runs.worker import Isolated
    from elf_sdk.server.a2a.grpc_service import GrpcService

__all__ = ["TeamServer"]

log = logging.getLogger("elf.server")


@dataclass(frozen=True, slots=True)
class _Running:
    """What a team has from its start to its stop."""

    services: Services
    verifier: Verifier
    engine: Engine
    courier: Courier
    push: PushSender | None
    """None where runs are volatile: what is sent again after a restart has to be kept."""
    chat: ChatEndpoint | None
    """None where the chat is off."""
    grpc: GrpcService | None
    """None where A2A over gRPC is off."""
    isolated: Isolated | None
    """None where no code blocks, or it may."""


class TeamServer:
    """A team as a service. An ASGI application; its hooks are the methods that begin with `on_`, and two more.

    Args:
        spec: what the team is; by default `team.yaml` beside the module that defines the subclass.

    Attributes:
        spec: the team; from its start on with the environment merged in.
        directory: where its team.yaml is, or None where the spec was given.

    Raises:
        BadSpec: the team.yaml is wrong.
        BadInput: there is no team.yaml, or it names another framework than the adapter is for.
    """

    adapter: ClassVar[Adapter | None] = None
    """Does the team's work. A subclass names one, or replaces `on_message`."""

    def __init__(self, spec: TeamSpec | None = None) -> None:
        self.directory: Path | None = None
        self._replaced = type(self).on_message is not TeamServer.on_message
        try:
            if spec is None:
                self.directory = _directory(type(self))
                spec = load_team(self.directory)
            self._chosen = chosen_adapter(type(self).__name__, spec, self.adapter, replaced=self._replaced)
        except ElfError as error:
            if type(self).__module__ != "__main__":
                raise
            # `python team.py`: nobody is above it who could tell the error without a traceback.
            _leave(error)
        self.spec = self._declared = spec
        self._adapter = self._chosen
        self._running: _Running | None = None
        self._app = Starlette(
            routes=self._fixed_routes(),
            lifespan=self._lifespan,
            exception_handlers={ElfError: error_response},
        )
        # Around Starlette's own handling of errors, whose answers have an id too.
        self._requests = IdentifiedRequests(self._app.build_middleware_stack(), spec.name)
        self._app.middleware_stack = self._requests

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
            SystemExit: it cannot start; one sentence says why, and the code is that of the command line.
        """
        try:
            settings = load_settings()
            sock = bind(host or settings.host, settings.port if port is None else port)
            address = "http://{}:{}".format(*sock.getsockname()[:2])
            print(f"{self.spec.title} on {address} — card: {address}/.well-known/agent-card.json", flush=True)  # noqa: T201 - a person started this
            serve(self._app, sock, log_level=settings.log_level, log_format=settings.log_format, drain=self._drain)
        except ElfError as error:
            _leave(error)

    async def _drain(self) -> None:
        """Get ready to stop: not ready any more, runs are handed over, and the rest gets `ELF_DRAIN_SECONDS` to end.

        The team goes on to answer meanwhile.
        """
        if self._running is not None:
            self._requests.leaving = True
            await self._running.engine.drain(self._running.services.settings.drain_seconds)

    @asynccontextmanager
    async def running(self, services: Services) -> AsyncGenerator[None, None]:
        """Serve within a process that shares `services` among its teams.

        Raises:
            ElfError: the team cannot start; the message says why.
        """
        settings = services.settings
        self.spec = self._declared.for_environment(settings.environment)
        model = services.endpoint(self.spec, self.directory)
        isolated = isolated_adapter(type(self), self.spec, self._chosen, model)
        self._adapter = isolated or beside_the_loop(self._chosen)
        self._running = running = self._assembled(services, model, isolated)
        self._requests.leaving = False
        self._requests.metrics = services.metrics.team(self.spec.name)
        started = False
        try:
            async with AsyncExitStack() as stack:
                stack.push_async_callback(running.courier.close)
                if running.push is not None:
                    stack.push_async_callback(running.push.close)
                if isolated is not None:
                    stack.push_async_callback(isolated.close)
                    stack.callback(services.log.guard(isolated.end_all))
                    # It loads the team's code beside all that follows; the first run waits for it, and nobody else.
                    isolated.open()
                stack.push_async_callback(running.engine.close)
                if running.chat is not None:
                    stack.push_async_callback(running.chat.close)
                if running.grpc is not None:
                    stack.push_async_callback(running.grpc.stop, GRACE)
                await running.engine.open()
                stack.enter_context(
                    services.metrics.showing(self.spec.name, running.engine.status, lambda: _open_chats(running))
                )
                self._app.router.routes[:] = self._routes(running)
                await running.courier.open()
                if running.push is not None:
                    await running.push.open()
                if not services.log.volatile:
                    upkeep = Upkeep(self.spec, services.log, services.store)
                    upkeep.open()
                    stack.push_async_callback(upkeep.close)
                await self.on_start()
                started = True
                if running.grpc is not None:
                    await running.grpc.start()
                yield
        finally:
            self._running = None
            self._adapter = self._chosen
            if started:
                await self.on_stop()

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncGenerator[None, None]:
        async with open_services(load_settings()) as services, self.running(services):
            yield

    def _assembled(self, services: Services, model: Endpoint, isolated: Isolated | None) -> _Running:
        spec, settings = self.spec, services.settings
        adapter = self._adapter
        if self._replaced:
            adapter = Hooked(self.on_message, adapter.name, adapter.capabilities)
        engine = Engine(
            spec,
            adapter,
            services.log,
            model,
            services.delegates_of(spec),
            observer=services.metrics.team(spec.name),
        )
        courier = Courier(
            spec.name,
            services.delegations,
            services.log,
            client_for=lambda team: services.client_for(spec.name, team),
            publish=self._publish,
        )
        push = None
        if not services.log.volatile:
            push = PushSender(spec.name, services.push_configs, services.log, services.egress)
        verifier = Verifier(
            services.secret, settings.organisation, settings.environment, spec.name, services.trust.anchors
        )
        chat = None
        if spec.chat.enabled and self._chat_possible():
            chat = ChatEndpoint(
                spec,
                verifier,
                open_session=lambda principal: ChatSession(
                    principal, engine, courier, environment=settings.environment, on_delegate=self.on_delegate
                ),
                greet=self.on_chat_open,
                summarise=self.on_chat_close,
                query_token=settings.takes_query_token,
                image=settings.image_digest,
            )
        grpc = None
        if settings.grpc_port is not None:
            grpc = a2a_grpc(
                engine,
                self._authenticate,
                lambda: self._extended_card(settings.public_url or f"http://{settings.host}:{settings.port}"),
                host=settings.host,
                port=settings.grpc_port,
                callers=services.callers_of(spec),
                idempotent=settings.a2a_idempotency == "always",
                push=push,
                metrics=services.metrics.team(spec.name),
            )
        return _Running(services, verifier, engine, courier, push, chat, grpc, isolated)

    def _chat_possible(self) -> bool:
        if importlib.util.find_spec("websockets") is None:
            log.warning(
                "chat of %s is off: the package websockets is not installed; pip install websockets", self.spec.name
            )
            return False
        return True

    async def _publish(self, news: Progress) -> None:
        if self._running is not None and self._running.chat is not None:
            await self._running.chat.publish(news)

    # Routes of a team.

    def _fixed_routes(self) -> list[BaseRoute]:
        return [
            Route("/health", self._health),
            Route("/livez", self._livez),
            Route("/readyz", self._readyz),
            Route("/startupz", self._startupz),
            Route("/capabilities", self._show_capabilities),
            Route("/status", self._status),
            Route("/metrics", self._metrics),
        ]

    def _routes(self, running: _Running) -> list[BaseRoute]:
        # First what is asked most: routes are tried one after the other.
        routes: list[BaseRoute] = []
        routes += a2a_routes(
            running.engine,
            self._card,
            self._authenticate,
            extended_card=self._extended_card,
            callers=running.services.callers_of(self.spec),
            address=self._address,
            compatible=running.services.settings.a2a_compat,
            idempotent=running.services.settings.a2a_idempotency == "always",
            push=running.push,
            metrics=running.services.metrics.team(self.spec.name),
        )
        routes += self._fixed_routes()
        if running.chat is not None:
            routes += [WebSocketRoute(CHAT_PATH, running.chat.serve), Route(CHAT_SCHEMA_PATH, _chat_schema)]
        return routes

    @property
    def _address(self) -> Address:
        if self._running is None:
            return Address()
        settings = self._running.services.settings
        inside = settings.team_url.replace("{team}", self.spec.name).rstrip("/")
        return Address(settings.public_url, inside, settings.trusted_proxies)

    @property
    def _chats(self) -> bool:
        """Whether the chat is really mounted."""
        return self._running is not None and self._running.chat is not None

    def _card(self, base_url: str) -> dict[str, Any]:
        grpc, compatible = "", True
        if self._running is not None:
            settings = self._running.services.settings
            compatible = settings.a2a_compat
            if self._running.grpc is not None:
                grpc = settings.grpc_address or address_beside(base_url, self._running.grpc.port)
        return agent_card(
            self.spec,
            self._adapter.capabilities,
            base_url,
            others=self._address.others(base_url),
            compatible=compatible,
            grpc_address=grpc,
            push=self._running is not None and self._running.push is not None,
        )

    def _extended_card(self, base_url: str) -> dict[str, Any]:
        return extended_card(self._card(base_url), self.spec, self._adapter.capabilities)

    def _capabilities(self, base_url: str) -> Capabilities:
        return describe(
            self.spec,
            self._adapter.capabilities,
            base_url=base_url,
            a2a=interfaces(self._card(base_url)),
            chat_enabled=self._chats,
            query_token=self._running is not None and self._running.services.settings.takes_query_token,
        )

    async def _checked(self) -> Health:
        """The built-in checks and the team's own."""
        if self._running is None:
            return Health("failing", {"server": "not started yet"})
        detail = {
            "store": "volatile: lost with the process" if self._running.services.log.volatile else "ok",
            "model": "offline: answers are made up" if self.spec.llm.provider == "offline" else "ok",
            "adapter": "ok",
        }
        if self._chosen.capabilities.blocking:
            isolated = self._running.isolated
            detail["isolation"] = self.spec.runs.isolation if isolated is None else f"process: {isolated.state}"
        try:
            await self._running.engine.status()
        except ElfError as error:
            return Health("failing", {**detail, "store": str(error)})
        problem = self._running.services.trust.problem
        if problem:
            detail["issuers"] = problem
        return Health("degraded" if problem else "ok", detail).merged(await self.health())

    async def _health(self, request: Request) -> Response:
        health = await self._checked()
        body = report(
            self.spec,
            health,
            now=datetime.now(UTC),
            chat_enabled=self._chats,
            image=self._running.services.settings.image_digest if self._running is not None else "",
            full=await self._may_see(request),
        )
        return JSONResponse(body, status_code=503 if health.status == "failing" else 200)

    async def _livez(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _readyz(self, request: Request) -> Response:
        if self._requests.leaving:
            return JSONResponse({"status": "stopping"}, status_code=503)
        health = await self._checked()
        ready = health.status != "failing"
        return JSONResponse({"status": "ok" if ready else "failing"}, status_code=200 if ready else 503)

    async def _startupz(self, request: Request) -> Response:
        started = self._running is not None
        return JSONResponse({"status": "ok" if started else "starting"}, status_code=200 if started else 503)

    async def _show_capabilities(self, request: Request) -> Response:
        await self._require(request)
        described = self.capabilities()
        # The hook knows nothing of the request, by which alone the addresses are known.
        complete = replace(described, interfaces=self._capabilities(self._address.of(request)).interfaces)
        return JSONResponse(complete.as_json())

    async def _status(self, request: Request) -> Response:
        await self._require(request)
        if self._running is None:
            return JSONResponse({"status": "starting"}, status_code=503)
        status = await self._running.engine.status()
        return JSONResponse(
            {
                "team_name": self.spec.name,
                "runs": {state.value: number for state, number in sorted(status.runs.items())},
                "running": status.running,
                "queue": status.queued,
                "last_activity": status.last_activity.isoformat() if status.last_activity else None,
            }
        )

    async def _metrics(self, request: Request) -> Response:
        if self._running is None:
            return JSONResponse({"status": "starting"}, status_code=503)
        services = self._running.services
        if services.settings.metrics_port:
            raise NotFound("the metrics have a port of their own here: ELF_METRICS_PORT")
        await self._require(request)
        return await exposition(request, services.metrics, self.spec.name)

    async def _may_see(self, request: Request) -> bool:
        try:
            await self._require(request)
        except ElfError:
            return False
        return True

    async def _require(self, request: Request) -> None:
        """Let in who is on this machine, and who has a token for this team."""
        if not is_local(request):
            await self._authenticate(request)

    async def _authenticate(self, request: Request) -> Principal:
        if self._running is None:
            raise Unauthenticated("the team has not started yet")
        return await self._running.verifier.identify(bearer_token(request.headers.get("authorization")))


def _open_chats(running: _Running) -> int:
    return running.chat.sessions if running.chat is not None else 0


def _leave(error: ElfError) -> NoReturn:
    print(f"error: {error}", file=sys.stderr)  # noqa: T201 - a person started this
    sys.exit(2 if isinstance(error, BadInput) else 1)


def _directory(cls: type[TeamServer]) -> Path:
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    if file is None:
        raise BadInput(
            f"{cls.__name__} was not defined in a file, so it has no team.yaml beside it; pass spec=TeamSpec(…)"
        )
    return Path(file).resolve().parent


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


async def _chat_schema(request: Request) -> Response:
    return JSONResponse(frame_schemas())
