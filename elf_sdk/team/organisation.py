"""What an organisation is: the values behind `elf.yaml`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from elf_sdk.errors import BadInput
from elf_sdk.settings import default_namespace, is_safe_url
from elf_sdk.team.base import FORMAT, FORMAT_TYPE, FileModel, Frozen, Location, shown
from elf_sdk.team.deployment import MigrationRef
from elf_sdk.team.kinds import (
    Cidr,
    Currency,
    Duration,
    Identifier,
    ImageName,
    Label,
    Labels,
    Line,
    Name,
    Port,
    RelativePath,
    ResourceName,
    SecretKey,
    TeamName,
    Url,
)

__all__ = [
    "DEFAULT_ENVIRONMENTS",
    "AgentGateway",
    "ApiServer",
    "Cluster",
    "ClusterDns",
    "ConfigMapRef",
    "DatabaseRef",
    "Environment",
    "GitOpsRepository",
    "Issuer",
    "Organisation",
    "Pods",
    "SecretStore",
    "WorkloadIssuer",
]

_PLACEHOLDERS: Final = frozenset({"organisation", "environment", "team", "secret"})


def _store_path(path: str) -> str:
    known = ", ".join(f"{{{each}}}" for each in sorted(_PLACEHOLDERS))
    for name in re.findall(r"\{([^{}]*)\}", path):
        if name not in _PLACEHOLDERS:
            raise ValueError(f"{{{name}}} is not known; write one of: {known}")
    if re.search(r"[{}]", re.sub(r"\{[^{}]*\}", "", path)):
        raise ValueError(f"{shown(path)} has a brace that belongs to none of: {known}; remove it")
    return path


StorePath = Annotated[Line, AfterValidator(_store_path)]
"""A path with placeholders."""

DEFAULT_ENVIRONMENTS: Final = ("dev", "staging", "prod")


class Environment(Frozen):
    """One environment of the organisation."""

    name: Label
    """The environment, as in `environments.<env>` of a team."""
    cluster: Identifier = "in-cluster"
    """One of `clusters`."""
    namespace: Label | None = None
    """Default: `elf-teams` for prod, `elf-teams-<name>` for any other."""
    sync: Literal["auto", "manual", "rolling"] | None = None
    """Whether Argo CD applies a change by itself; `rolling`: a quarter of the teams at a time, the next when these are
    healthy. Default: `manual` for prod, `auto` for any other."""

    @property
    def namespace_name(self) -> str:
        """The namespace, default applied."""
        return self.namespace or default_namespace(self.name)


class Pods(Frozen):
    """Pods of one namespace, as a network policy finds them."""

    namespace: Label
    """Where they are."""
    labels: Labels = Field(default_factory=dict)
    """Their labels. Default: every pod of the namespace."""


class ApiServer(Frozen):
    """Where the API server is for a network policy, which sees the addresses behind its Service."""

    cidrs: Annotated[tuple[Cidr, ...], Field(min_length=1)] = (
        "10.0.0.0/8",
        "100.64.0.0/10",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "fc00::/7",
    )
    """Its networks: `kubectl get endpointslice kubernetes` shows the addresses. Default: every private one."""
    port: Port = 6443
    """The port behind its Service, which is seldom 443."""


class ClusterDns(Frozen):
    """Where names are resolved."""

    namespace: Label = "kube-system"
    """Where its pods are."""
    labels: Labels = Field(default_factory=lambda: {"k8s-app": "kube-dns"})
    """The labels of its pods."""
    cidrs: tuple[Cidr, ...] = ("169.254.20.10/32",)
    """Its networks where it does not run in pods. Default: the node-local cache."""
    port: Port = 53
    """The port behind its Service."""


class ConfigMapRef(Frozen):
    """One key of a ConfigMap."""

    name: ResourceName
    """Name of the ConfigMap, in each namespace of teams."""
    key: SecretKey = "jwks.json"
    """Key in it."""


class WorkloadIssuer(Frozen):
    """Who signs the tokens with which teams call each other, and where its public keys are."""

    issuer: Url = "https://kubernetes.default.svc.cluster.local"
    """The cluster's issuer, as in the `iss` of its tokens: its API server's --service-account-issuer."""
    algorithm: Literal["RS256", "ES256"] = "RS256"
    """The only one that its tokens are signed with."""
    keys: Literal["api-server", "issuer", "config-map"] = "api-server"
    """`api-server`: pods ask the API server, with a token for it. `issuer`: they ask the issuer, by its OpenID
    configuration or at `jwks_url`. `config-map`: they read them from `config_map`."""
    jwks_url: Url | None = None
    """Where the issuer has its keys. Default: as its OpenID configuration says."""
    config_map: ConfigMapRef = ConfigMapRef(name="elf-workload-jwks")
    """Holds a JWK Set."""


class Cluster(Frozen):
    """A Kubernetes cluster: as Argo CD knows it, and what nothing but the cluster knows."""

    name: Identifier
    """The cluster, as in `cluster:` of an environment."""
    server: Url
    """Address of its API server."""
    context: Name | None = None
    """The context of a kubeconfig that leads to it, for commands that ask a cluster. Default: the one with this
    address, or of this name; for the cluster that Argo CD itself runs in, the current one."""
    api_server: ApiServer = ApiServer()
    """Where pods find the API server."""
    dns: ClusterDns = ClusterDns()
    """Where pods find names."""
    workload_issuer: WorkloadIssuer | None = WorkloadIssuer()
    """Who says which team a pod is. `null`: nobody, and teams call each other with the shared secret alone."""


class GitOpsRepository(Frozen):
    """The repository that Argo CD watches."""

    url: Line = ""
    """Address of the git repository; empty: the directory `path` of this one."""
    branch: Name = "main"
    """The branch that Argo CD follows."""
    path: RelativePath = "gitops"
    """The directory in it that ELF writes, as a whole; so not its top."""
    argocd_namespace: Label = "argocd"
    """The namespace that Argo CD runs in."""


class AgentGateway(Frozen):
    """An optional gateway in front of all teams, which their network policies let in."""

    namespace: Label
    """Where its pods are."""
    labels: Labels
    """The labels of its pods."""
    url: Url | None = None
    """Its address as clients see it, which is on every card. `{team}` in it stands for the team's name; without it
    `/teams/<team>` is put behind it."""

    def url_of(self, team: str) -> str:
        """The address of a team as clients see it, without a slash at the end; empty where the gateway has none."""
        if self.url is None:
            return ""
        address = self.url if "{team}" in self.url else f"{self.url.rstrip('/')}/teams/{{team}}"
        return address.replace("{team}", team).rstrip("/")


class Issuer(Frozen):
    """Who signs people's tokens, as the Control Center does; every team verifies them by its public keys."""

    url: Url
    """The issuer, as in the `iss` of its tokens."""
    algorithm: Literal["EdDSA", "ES256", "RS256"] = "EdDSA"
    """The only one that its tokens are signed with."""
    jwks_url: Url | None = None
    """Where its public keys are. Default: as its OpenID configuration says."""
    config_map: ConfigMapRef | None = None
    """Holds its public keys, a JWK Set, in place of an address."""


class DatabaseRef(Frozen):
    """The Kubernetes Secret that holds the database's URL; never the URL itself."""

    secret: ResourceName = "supabase-credentials"  # noqa: S105 - the name of a Secret, not its content
    """Name of the Secret."""
    key: SecretKey = "db-url"
    """Key in it."""
    port: Port = 5432
    """Its port, which network policies open."""
    namespace: Label | None = None
    """The namespace of its pods, where it runs in the cluster."""
    cidrs: tuple[Cidr, ...] = ()
    """Its networks, where it runs outside. Without these and `namespace` the port is open to any address."""
    migrate: MigrationRef | None = None
    """The URL at which `elf db migrate` changes the schema: the server's own address, not a pooler's. Default: the same
    Secret and key."""


class SecretStore(Frozen):
    """The store of the External Secrets Operator from which charts fill their Secrets."""

    name: ResourceName
    """Name of the store."""
    kind: Literal["SecretStore", "ClusterSecretStore"] = "ClusterSecretStore"
    """Whether it is in each namespace, or of the whole cluster."""
    path: StorePath = "{organisation}/{environment}/{secret}"
    """Where a Secret's keys are in the store; `{organisation}`, `{environment}`, `{team}` and `{secret}` are filled in,
    and the key is the property there."""
    refresh: Duration = "1h"
    """How often a Secret is read again."""


class Organisation(FileModel):
    """What belongs to the organisation as a whole: `elf.yaml` beside `teams/`. Every field has a default."""

    format: FORMAT_TYPE = FORMAT
    """The format of this file."""
    name: Label = "elf"
    """The organisation, as it stands in tokens."""
    display_name: Line = ""
    """The name that people see."""
    environments: Annotated[tuple[Environment, ...], Field(min_length=1)] = tuple(
        Environment(name=name) for name in DEFAULT_ENVIRONMENTS
    )
    """The environments in the order of promotion."""
    clusters: tuple[Cluster, ...] = Field(
        default_factory=lambda: (Cluster(name="in-cluster", server="https://kubernetes.default.svc"),)
    )
    """The clusters that environments may name. Default: one called `in-cluster`, in which Argo CD itself runs."""
    registry: ImageName = ""
    """Prefix of every image, such as `registry.example.com/agents`."""
    gitops: GitOpsRepository = GitOpsRepository()
    """The repository that Argo CD watches."""
    agent_gateway: AgentGateway | None = None
    """A gateway in front of all teams."""
    control_center: Pods = Pods(namespace="elf-control-center", labels={"app": "control-center"})
    """The Control Center's pods, which every team lets in."""
    issuer: Issuer | None = None
    """Who signs people's tokens."""
    archived: tuple[TeamName, ...] = ()
    """Teams that are no more. `elf gitops` takes them out of environments that sync themselves."""
    currency: Currency = "USD"
    """Of every budget and cost: three letters of ISO 4217."""
    database: DatabaseRef = DatabaseRef()
    """Where the database's URL is kept."""
    secret_store: SecretStore | None = None
    """Fills the Secrets that teams name. Default: they are made by somebody else."""

    @property
    def title(self) -> str:
        """The name to show to people."""
        return self.display_name or self.name

    def environment(self, name: str) -> Environment:
        """The environment called `name`.

        Raises:
            BadInput: there is none; the message lists those that there are.
        """
        for environment in self.environments:
            if environment.name == name:
                return environment
        there = ", ".join(environment.name for environment in self.environments)
        raise BadInput(f"there is no environment {name!r}; there are: {there}")

    @property
    def clients(self) -> tuple[tuple[str, Pods], ...]:
        """Pods that every team lets in although they are no team, by what they are.

        They connect in the name of people, whose tokens they bring along.
        """
        found = [("the Control Center", self.control_center)]
        if self.agent_gateway is not None:
            gateway = Pods(namespace=self.agent_gateway.namespace, labels=self.agent_gateway.labels)
            found.insert(0, ("the agent gateway", gateway))
        return tuple(found)

    def cluster(self, name: str) -> Cluster:
        """The cluster of that name, which has to be one of `clusters`."""
        return next(cluster for cluster in self.clusters if cluster.name == name)

    def problems(self) -> list[tuple[Location, str]]:
        """What is wrong between fields that are each right: the field's path, and what to write instead."""
        return list(_problems(self))


def _problems(organisation: Organisation) -> Iterator[tuple[Location, str]]:
    places: dict[tuple[str, str], str] = {}
    known: set[str] = set()
    for index, cluster in enumerate(organisation.clusters):
        if cluster.name in known:
            yield ("clusters", index, "name"), f"{cluster.name!r} is there twice; remove one"
        known.add(cluster.name)
        yield from _issuer_problems(cluster, ("clusters", index, "workload_issuer"))
    if (issuer := organisation.issuer) is not None:
        if issuer.jwks_url is not None and issuer.config_map is not None:
            yield ("issuer", "config_map"), "its keys are at jwks_url already; remove one of both"
        elif issuer.config_map is None:
            yield from _unsafe(("issuer",), url=issuer.url, jwks_url=issuer.jwks_url)
    names: set[str] = set()
    for index, environment in enumerate(organisation.environments):
        here: Location = ("environments", index)
        if environment.name in names:
            yield (*here, "name"), f"{environment.name!r} is there twice; remove one"
            continue
        names.add(environment.name)
        if environment.cluster not in known:
            remedy = f"add it under clusters, or write one of: {', '.join(sorted(known))}"
            yield (*here, "cluster"), f"there is no cluster {environment.cluster!r}; {remedy}"
        place = (environment.cluster, environment.namespace_name)
        if place in places:
            both = f"{environment.name!r} and {places[place]!r}"
            where = f"the namespace {place[1]!r} of the cluster {place[0]!r}"
            yield (*here, "namespace"), f"{both} would share {where}; give one of them another"
        places.setdefault(place, environment.name)


def _issuer_problems(cluster: Cluster, here: Location) -> Iterator[tuple[Location, str]]:
    issuer = cluster.workload_issuer
    if issuer is not None and issuer.keys == "issuer":
        yield from _unsafe(here, issuer=issuer.issuer, jwks_url=issuer.jwks_url)


def _unsafe(here: Location, **urls: str | None) -> Iterator[tuple[Location, str]]:
    """Of the address that keys would come from, the last one that is given, what is wrong with it."""
    field, url = [(field, url) for field, url in urls.items() if url is not None][-1]
    if not is_safe_url(url):
        yield (*here, field), f"{url!r} is no https address, so anybody on the way could change keys; write one"
