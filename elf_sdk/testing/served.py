"""Teams, served for real in the process of the test."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

from elf_sdk.errors import Failure
from elf_sdk.server.auth import Issuer
from elf_sdk.server.dev import mounted
from elf_sdk.server.listen import bind, server_for
from elf_sdk.server.local import team_path
from elf_sdk.server.team_server import TeamServer
from elf_sdk.settings import Settings
from elf_sdk.team.org import Org

__all__ = ["Served", "serve"]

_START_TIMEOUT: Final = 20.0


@dataclass(frozen=True, slots=True)
class Served:
    """Teams that are being served.

    Attributes:
        address: such as `http://127.0.0.1:41234`, without a trailing slash; a single team is at its root.
        issuer: signs tokens that they accept.
    """

    address: str
    issuer: Issuer

    def url(self, team: str) -> str:
        """Where a team is."""
        return self.address + team_path(team)

    def headers(self, user: str, team: str) -> dict[str, str]:
        """The Authorization header with which `user` may talk to `team`."""
        return {"Authorization": f"Bearer {self.issuer.user_token(user, team)}"}


@asynccontextmanager
async def serve(*teams: TeamServer, settings: Settings) -> AsyncGenerator[Served, None]:
    """Serve teams on a free port of the loopback interface, for as long as the block runs.

    They know each other as one organisation, and reach each other.

    Raises:
        Failure: they did not start; the log says why.
    """
    sock = bind("127.0.0.1", 0)
    address = f"http://127.0.0.1:{sock.getsockname()[1]}"
    complete = replace(
        settings,
        team_url=settings.team_url or address + team_path("{team}"),
        jwt_secret=settings.jwt_secret or secrets.token_urlsafe(48),
    )
    org = Org(team.spec for team in teams)
    server = server_for(mounted(teams, complete, org, lambda: None))
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        async with asyncio.timeout(_START_TIMEOUT):
            while not server.started and not task.done():  # noqa: ASYNC110 - uvicorn says so by this flag alone
                await asyncio.sleep(0.01)
        if not server.started:
            raise Failure("the teams did not start; the log says why")
        yield Served(address, Issuer(complete.jwt_secret, complete.organisation, complete.environment))
    finally:
        server.should_exit = True
        await task
        sock.close()
