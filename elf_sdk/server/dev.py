"""`elf dev`: several teams of a project in one process, on one port of the loopback interface."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from elf_sdk.errors import BadInput, ElfError, NotFound, Unauthenticated
from elf_sdk.server.address import Address, is_local
from elf_sdk.server.auth import Issuer
from elf_sdk.server.errors import error_response
from elf_sdk.server.listen import bind, serving_beside
from elf_sdk.server.local import team_path
from elf_sdk.server.metrics.exposition import exposition
from elf_sdk.server.services import Services, open_services
from elf_sdk.server.team_server import TeamServer
from elf_sdk.settings import Settings
from elf_sdk.team.org import Org

__all__ = ["mounted", "served_beside"]


def mounted(
    servers: Sequence[TeamServer], settings: Settings, org: Org | None, on_ready: Callable[[], None]
) -> Starlette:
    """An application that serves teams, each under `/teams/<name>`, and a single one at the root as well.

    Args:
        servers: the teams.
        settings: shared by all of them; `team_url` says how they reach each other.
        org: the organisation; None, where each team knows only its own file.
        on_ready: called once all of them serve.

    Raises:
        BadInput: gRPC is on, and there are several teams.
    """
    if settings.grpc_port and len(servers) > 1:
        # A gRPC call names no path, by which one port could serve several teams.
        raise BadInput("ELF_GRPC_PORT is one port and serves one team; unset it, or serve a single team")
    shared: list[Services] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None, None]:
        async with AsyncExitStack() as stack:
            services = await stack.enter_async_context(open_services(settings, org))
            shared.append(services)
            stack.callback(shared.clear)
            for server in servers:
                await stack.enter_async_context(server.running(services))
            on_ready()
            yield

    address = Address(proxies=settings.trusted_proxies)

    async def index(request: Request) -> Response:
        base = address.of(request)
        return JSONResponse({"teams": {server.spec.name: base + team_path(server.spec.name) for server in servers}})

    async def metrics(request: Request) -> Response:
        if not is_local(request):
            raise Unauthenticated("the metrics of all teams are for callers on this machine; ask a team with its token")
        if settings.metrics_port or not shared:
            raise NotFound("the metrics have a port of their own here: ELF_METRICS_PORT")
        return await exposition(request, shared[0].metrics)

    routes: list[BaseRoute] = [Mount(team_path(server.spec.name), server) for server in servers]
    routes += [Mount("/", servers[0])] if len(servers) == 1 else [Route("/", index), Route("/metrics", metrics)]
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers={ElfError: error_response})


@asynccontextmanager
async def served_beside(
    servers: Sequence[TeamServer], settings: Settings, org: Org, store: Path
) -> AsyncGenerator[tuple[str, Issuer], None]:
    """Serve teams on a free port of the loopback interface, in a process that does something else.

    They keep what they do in `store` alone, trust no other issuer, and leave the process's signals to it.

    Args:
        servers: the teams.
        settings: whose model keys and offline model they use.
        org: the organisation.
        store: a SQLite file of their own.

    Yields:
        The address, without a trailing slash, and who signs tokens that they accept.

    Raises:
        ElfError: one of them cannot start; the message says why.
    """
    sock = bind("127.0.0.1", 0)
    try:
        address = f"http://127.0.0.1:{sock.getsockname()[1]}"
        own = Settings(
            organisation=settings.organisation,
            store=str(store),
            jwt_secret=secrets.token_urlsafe(48),
            team_url=address + team_path("{team}"),
            model_keys=settings.model_keys,
            model_key_files=settings.model_key_files,
            offline_url=settings.offline_url,
            image_digest=settings.image_digest,
        )
        app = mounted(servers, own, org, lambda: None)
        async with app.router.lifespan_context(app), serving_beside(app, sock):
            yield address, Issuer(own.jwt_secret, own.organisation, own.environment)
    finally:
        sock.close()
