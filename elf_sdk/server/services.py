"""What the teams of one process share: settings, the store, the offline model, the signer, connections."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from elf_sdk.errors import BadInput, Forbidden
from elf_sdk.models.llm import Endpoint, resolve
from elf_sdk.models.offline import OfflineModel
from elf_sdk.models.script import OfflineScript, load_script
from elf_sdk.runs.adapter import Delegate
from elf_sdk.runs.durable import DurableLog
from elf_sdk.runs.log import RunLog
from elf_sdk.runs.memory import MemoryLog
from elf_sdk.server.auth import Issuer
from elf_sdk.server.auth.team_tokens import TeamTokens
from elf_sdk.server.auth.trust import Trust
from elf_sdk.server.egress import Egress
from elf_sdk.server.listen import bind, serving_beside
from elf_sdk.server.local import dev_secret
from elf_sdk.server.logs import protect_logs
from elf_sdk.server.metrics.exposition import metrics_app
from elf_sdk.server.metrics.process import Metrics
from elf_sdk.server.redaction import secrets_of
from elf_sdk.settings import Settings
from elf_sdk.store import Store, store_at
from elf_sdk.store.delegations import Delegations
from elf_sdk.store.facts import settle_environment
from elf_sdk.store.push import PushConfigs
from elf_sdk.team.edges import Edges, read_edges
from elf_sdk.team.org import Org
from elf_sdk.team.spec import TeamSpec

if TYPE_CHECKING:
    import httpx

    from elf_sdk.server.a2a.client import TeamClient

__all__ = ["Services", "open_services"]


class Connections:
    """To other teams. Made with the first call to one, for the HTTP client costs a tenth of a second to load.

    Threads may share it.
    """

    def __init__(self) -> None:
        self._making = threading.Lock()
        self._client: httpx.AsyncClient | None = None

    def client(self) -> httpx.AsyncClient:
        """The client; the same one each time."""
        import httpx

        with self._making:
            if self._client is None:
                # Teams are beside each other. A proxy that the environment names for what is outside would only read
                # the tokens.
                self._client = httpx.AsyncClient(timeout=httpx.Timeout(30, read=None), trust_env=False)
            return self._client

    async def aclose(self) -> None:
        """Close what was made."""
        if self._client is not None:
            await self._client.aclose()


@dataclass(frozen=True, slots=True)
class Services:
    """Shared by all teams of a process, from its start to its end.

    Attributes:
        settings: what the environment said.
        secret: signs and verifies tokens; empty where there is none.
        trust: who else is trusted to say who calls.
        log: where runs are kept.
        store: what the log, unless it is volatile, and the delegations stand on.
        delegations: where delegations are kept.
        push_configs: where the receivers of push notifications are kept.
        egress: where requests to addresses of others may go.
        connections: to other teams.
        offline: the offline model; starts when the first team needs it.
        org: the organisation, where its files are at hand.
        edges: a team's relationships as its chart compiled them, in a cluster; they go before its own file.
        clients: of other teams, by caller and callee; each keeps what the callee's card says.
        metrics: what is counted.
    """

    settings: Settings
    secret: str = field(repr=False)
    trust: Trust
    log: RunLog
    store: Store
    delegations: Delegations
    push_configs: PushConfigs
    egress: Egress
    connections: Connections
    offline: OfflineModel
    org: Org | None = None
    edges: Edges | None = None
    clients: dict[tuple[str, str], TeamClient] = field(default_factory=dict, repr=False)
    metrics: Metrics = field(default_factory=Metrics)

    @property
    def issuer(self) -> Issuer:
        """Signs this process's tokens."""
        return Issuer(self.secret, self.settings.organisation, self.settings.environment)

    def delegates_of(self, spec: TeamSpec) -> tuple[Delegate, ...]:
        """The teams that this one manages, as far as both sides say so."""
        compiled = self._edges_of(spec.name)
        if compiled is not None:
            below = (callee for callee in compiled.callees if callee.relation == "manages")
            return tuple(Delegate(callee.team, callee.title, callee.purpose) for callee in below)
        if self.org is None:
            return tuple(Delegate(name, name, "") for name in spec.manages)
        children = (self.org.teams[name] for name in self.org.children(spec.name))
        return tuple(Delegate(child.name, child.title, child.purpose) for child in children)

    def callers_of(self, spec: TeamSpec) -> frozenset[str]:
        """The teams that may call this one: its edges, and itself, as the test of its deployment does."""
        compiled = self._edges_of(spec.name)
        if compiled is not None:
            return frozenset({spec.name, *(caller.team for caller in compiled.callers)})
        if self.org is None:
            return frozenset({spec.name, *spec.peers, *([spec.reports_to] if spec.reports_to else [])})
        return frozenset({spec.name, *self.org.callers(spec.name)})

    def _edges_of(self, team: str) -> Edges | None:
        """What the chart compiled for a team; None where there is no chart.

        Raises:
            BadInput: it was compiled for another team.
        """
        if self.edges is None or self.edges.team == team:
            return self.edges
        if self.org is None:
            raise BadInput(
                f"ELF_EDGES_FILE holds the relationships of {self.edges.team!r}, and this is {team!r}; mount those of "
                f"{team!r}, or unset it"
            )
        return None

    def endpoint(self, spec: TeamSpec, directory: Path | None) -> Endpoint:
        """The model of a team, with its fallbacks. Starts the offline model where one of them is that.

        Raises:
            Missing: a provider needs a key that is not there.
            BadInput: what is there for a key is none.
        """
        url: str | None = None
        if any(model.provider == "offline" for model in spec.llm.chain()):
            url = self.settings.offline_url or self._offline_url(spec.name, directory)
        return resolve(spec.llm, self.settings, offline_url=url)

    def _offline_url(self, team: str, directory: Path | None) -> str:
        script = directory / "offline.yaml" if directory is not None else None
        self.offline.add(team, load_script(script) if script is not None and script.is_file() else OfflineScript())
        self.offline.start()
        return self.offline.url(team)

    def client_for(self, caller: str, team: str) -> TeamClient:
        """A client with which `caller` calls `team`.

        Raises:
            BadInput: nothing says where teams are.
            Forbidden: it is no team that `caller` may call in this environment.
        """
        # The HTTP client behind it takes a tenth of a second, which most processes never need.
        from elf_sdk.server.a2a.client import TeamClient

        url = self._address_of(caller, team)
        tokens = TeamTokens(self.settings.team_tokens, self.issuer if self.secret else None)
        client = TeamClient(url, lambda: tokens.token(caller, team), self.connections.client(), team=team)
        return self.clients.setdefault((caller, team), client)

    def _address_of(self, caller: str, team: str) -> str:
        compiled = self._edges_of(caller)
        if compiled is not None:
            for callee in compiled.callees:
                if callee.team == team:
                    return callee.url
            raise Forbidden(
                f"{caller} may not call {team} in {self.settings.environment}; name each other in both team.yaml, and "
                "package both"
            )
        if "{team}" not in self.settings.team_url:
            raise BadInput(f"{caller} cannot reach {team}: set ELF_TEAM_URL to an address with {{team}} in it")
        return self.settings.team_url.replace("{team}", team)


@asynccontextmanager
async def open_services(settings: Settings, org: Org | None = None) -> AsyncGenerator[Services, None]:
    """Open what the teams of a process share, and close it again.

    Raises:
        ElfError: the store cannot be opened or belongs to another environment, the secret cannot be kept, or a setting
            holds what it cannot.
    """
    edges = read_edges(Path(settings.edges_file)) if settings.edges_file else None
    async with AsyncExitStack() as stack:
        volatile = settings.store == ":memory:" and not settings.database_url
        store_path = Path(settings.store)
        if volatile:
            store_path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="elf-"))) / "elf.db"
        egress = Egress(settings.push_allow, plain=settings.environment == "dev")
        stack.callback(egress.close)
        secret = settings.jwt_secret
        # Where an issuer is set up, nobody else signs in its name.
        if not secret and settings.environment == "dev" and settings.elf_issuer is None:
            secret = dev_secret(settings.store)
        metrics = Metrics()
        protect_logs((*secrets_of(settings), secret))
        store = store_at(store_path, settings.database_url)
        await store.open()
        store.observe(metrics)
        stack.push_async_callback(store.close)
        await stack.enter_async_context(metrics.watching_loop())
        if settings.metrics_port:
            sock = bind(settings.host, settings.metrics_port, "ELF_METRICS_PORT")
            await stack.enter_async_context(serving_beside(metrics_app(metrics), sock))
        run_log: RunLog = MemoryLog()
        if not volatile:
            name = "the database that ELF_DATABASE_URL names" if settings.database_url else str(store_path)
            await settle_environment(store, settings.environment, name)
            run_log = durable = DurableLog(store)
            await durable.open()
            stack.push_async_callback(durable.close)
        connections = Connections()
        stack.push_async_callback(connections.aclose)
        trust = Trust(settings, {caller.team: caller.namespace for caller in edges.callers} if edges else {})
        await stack.enter_async_context(trust.reading())
        offline = OfflineModel()
        stack.callback(offline.stop)
        yield Services(
            settings=settings,
            secret=secret,
            trust=trust,
            log=run_log,
            store=store,
            delegations=Delegations(store),
            push_configs=PushConfigs(store),
            egress=egress,
            connections=connections,
            offline=offline,
            org=org,
            edges=edges,
            metrics=metrics,
        )
