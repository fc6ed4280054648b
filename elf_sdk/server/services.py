"""What the teams of one process share: settings, the store, the offline model, the signer, an HTTP client."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from elf_sdk.errors import BadInput, Failure
from elf_sdk.models.llm import Endpoint, resolve
from elf_sdk.models.offline import OfflineModel
from elf_sdk.models.script import load_script
from elf_sdk.runs.durable import DurableLog
from elf_sdk.runs.log import RunLog
from elf_sdk.runs.memory import MemoryLog
from elf_sdk.server.a2a.client import TeamClient
from elf_sdk.server.auth import Issuer
from elf_sdk.settings import Settings
from elf_sdk.store import store_at
from elf_sdk.store.delegations import Delegations
from elf_sdk.team.org import Org
from elf_sdk.team.spec import TeamSpec

__all__ = ["Services", "dev_secret", "open_services"]


@dataclass(frozen=True, slots=True)
class Services:
    """Shared by all teams of a process, from its start to its end.

    Attributes:
        settings: what the environment said.
        secret: signs and verifies tokens; empty where there is none.
        log: where runs are kept.
        delegations: where delegations are kept.
        http: for calls to other teams.
        offline: the offline model; starts when the first team needs it.
        org: the organisation, where its files are at hand.
    """

    settings: Settings
    secret: str = field(repr=False)
    log: RunLog
    delegations: Delegations
    http: httpx.AsyncClient
    offline: OfflineModel
    org: Org | None = None

    @property
    def issuer(self) -> Issuer:
        """Signs this process's tokens."""
        return Issuer(self.secret, self.settings.organisation, self.settings.environment)

    def endpoint(self, spec: TeamSpec, directory: Path | None) -> Endpoint:
        """The model of a team. Starts the offline model where it is that.

        Raises:
            Missing: the provider needs a key that is not there.
        """
        url: str | None = None
        if spec.llm.provider == "offline":
            url = self.settings.offline_url or self._offline_url(spec.name, directory)
        return resolve(spec.llm, self.settings, offline_url=url)

    def _offline_url(self, team: str, directory: Path | None) -> str:
        script = directory / "offline.yaml" if directory is not None else None
        if script is not None and script.is_file():
            self.offline.add(team, load_script(script))
        self.offline.start()
        return self.offline.url(team)

    def client_for(self, caller: str, team: str) -> TeamClient:
        """A client with which `caller` calls `team`.

        Raises:
            BadInput: nothing says where teams are.
        """
        template = self.settings.team_url
        if "{team}" not in template:
            raise BadInput(f"{caller} cannot reach {team}: set ELF_TEAM_URL to an address with {{team}} in it")
        issuer = self.issuer
        url = template.replace("{team}", team)
        return TeamClient(url, lambda: issuer.team_token(caller, team), self.http, team=team)


def dev_secret(store: Path) -> str:
    """The secret of a development server, made once and kept beside its store, readable by its user alone.

    Raises:
        Failure: it can be neither read nor written.
    """
    path = store.parent / "jwt-secret"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(48))
        except FileExistsError:
            pass
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise Failure(f"the development secret {path} cannot be kept: {error.strerror}; set JWT_SECRET_KEY") from None


@asynccontextmanager
async def open_services(settings: Settings, org: Org | None = None) -> AsyncGenerator[Services, None]:
    """Open what the teams of a process share, and close it again.

    Raises:
        ElfError: the store cannot be opened, or the secret cannot be kept.
    """
    async with AsyncExitStack() as stack:
        volatile = settings.store == ":memory:" and not settings.database_url
        store_path = Path(settings.store)
        if volatile:
            store_path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="elf-"))) / "elf.db"
        secret = settings.jwt_secret
        if not secret and settings.environment == "dev":
            secret = dev_secret(store_path)
        store = store_at(store_path, settings.database_url)
        await store.open()
        stack.push_async_callback(store.close)
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=httpx.Timeout(30, read=None)))
        offline = OfflineModel()
        stack.callback(offline.stop)
        yield Services(
            settings=settings,
            secret=secret,
            log=MemoryLog() if volatile else DurableLog(store),
            delegations=Delegations(store),
            http=http,
            offline=offline,
            org=org,
        )
