"""`elf dev`: several teams of a project in one process, on one port of the loopback interface."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from elf_sdk.server.auth import Issuer
from elf_sdk.server.loading import load_server
from elf_sdk.server.services import dev_secret, open_services
from elf_sdk.server.team_server import TeamServer
from elf_sdk.settings import Settings
from elf_sdk.team.load import LoadedTeam, Project

__all__ = ["dev_app", "dev_issuer", "dev_settings", "team_path"]


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


def dev_app(
    project: Project, teams: tuple[LoadedTeam, ...], settings: Settings, on_ready: Callable[[], None]
) -> Starlette:
    """An application that serves `teams`, each under `/teams/<name>`, and a single one at the root as well.

    Args:
        project: the organisation to which they belong.
        teams: to be served.
        settings: complete, as `dev_settings` makes them.
        on_ready: called once all of them serve.

    Raises:
        ElfError: a team cannot be loaded; the message says why.
    """
    servers = {team.spec.name: load_server(team.directory) for team in teams}

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None, None]:
        async with AsyncExitStack() as stack:
            services = await stack.enter_async_context(open_services(settings, project.org))
            for server in servers.values():
                await stack.enter_async_context(server.running(services))
            on_ready()
            yield

    async def index(request: Request) -> Response:
        base = str(request.base_url).rstrip("/")
        return JSONResponse({"teams": {name: base + team_path(name) for name in servers}})

    routes: list[BaseRoute] = [Mount(team_path(name), server) for name, server in servers.items()]
    routes.append(_root(servers, index))
    return Starlette(routes=routes, lifespan=lifespan)


def _root(servers: dict[str, TeamServer], index: Callable[[Request], object]) -> BaseRoute:
    if len(servers) == 1:
        return Mount("/", next(iter(servers.values())))
    return Route("/", index)


def _first(given: str, default: str, implied: str) -> str:
    return given if given != default else implied
