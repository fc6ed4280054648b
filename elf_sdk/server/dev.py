"""`elf dev`: several teams of a project in one process, on one port of the loopback interface."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from elf_sdk.server.address import base_url
from elf_sdk.server.auth import Issuer
from elf_sdk.server.services import dev_secret, open_services
from elf_sdk.server.team_server import TeamServer
from elf_sdk.settings import Settings
from elf_sdk.team.org import Org
from elf_sdk.team.project import Project

__all__ = ["dev_issuer", "dev_settings", "mounted", "team_path"]


def team_path(team: str) -> str:
    """Where a team is mounted."""
    return f"/teams/{team}"


def dev_settings(project: Project, settings: Settings, address: str) -> Settings:
    """`settings` with what a project on this machine implies; what the environment says goes first.

    Args:
        project: whose teams are served.
        settings: as the environment says.
        address: of the server, such as `http://127.0.0.1:8000`.
    """
    defaults = Settings()
    return replace(
        settings,
        organisation=_first(settings.organisation, defaults.organisation, project.organisation.name),
        store=_first(settings.store, defaults.store, str(project.root / ".elf" / "elf.db")),
        team_url=settings.team_url or address + team_path("{team}"),
    )


def dev_issuer(project: Project, settings: Settings) -> Issuer:
    """Signs tokens for the teams that `elf dev` serves from this project, also from another process.

    Raises:
        Failure: the development secret cannot be kept.
    """
    complete = dev_settings(project, settings, "")
    secret = complete.jwt_secret or dev_secret(Path(complete.store))
    return Issuer(secret, complete.organisation, complete.environment)


def mounted(
    servers: Sequence[TeamServer], settings: Settings, org: Org | None, on_ready: Callable[[], None]
) -> Starlette:
    """An application that serves teams, each under `/teams/<name>`, and a single one at the root as well.

    Args:
        servers: the teams.
        settings: shared by all of them; `team_url` says how they reach each other.
        org: the organisation; None, where each team knows only its own file.
        on_ready: called once all of them serve.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None, None]:
        async with AsyncExitStack() as stack:
            services = await stack.enter_async_context(open_services(settings, org))
            for server in servers:
                await stack.enter_async_context(server.running(services))
            on_ready()
            yield

    async def index(request: Request) -> Response:
        base = base_url(request)
        return JSONResponse({"teams": {server.spec.name: base + team_path(server.spec.name) for server in servers}})

    routes: list[BaseRoute] = [Mount(team_path(server.spec.name), server) for server in servers]
    routes.append(Mount("/", servers[0]) if len(servers) == 1 else Route("/", index))
    return Starlette(routes=routes, lifespan=lifespan)


def _first(given: str, default: str, implied: str) -> str:
    return given if given != default else implied
