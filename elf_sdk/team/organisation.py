"""What an organisation is: the values behind `elf.yaml`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final, Literal

from pydantic import Field

from elf_sdk.settings import default_namespace
from elf_sdk.team.base import FORMAT, FORMAT_TYPE, FileModel, Frozen, Location
from elf_sdk.team.kinds import (
    Cidr,
    Currency,
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
    "Cluster",
    "DatabaseRef",
    "Environment",
    "GitOpsRepository",
    "Issuer",
    "Organisation",
]

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


class Cluster(Frozen):
    """A Kubernetes cluster as Argo CD knows it."""

    name: Identifier
    """The cluster, as in `cluster:` of an environment."""
    server: Url
    """Address of its API server."""


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
    """Its address as clients see it."""


class Issuer(Frozen):
    """Who signs people's tokens."""

    url: Url
    """The issuer, as in the `iss` of its tokens."""
    jwks_url: Url | None = None
    """Where its public keys are. Default: as its OpenID configuration says."""


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
    clusters: tuple[Cluster, ...] = (Cluster(name="in-cluster", server="https://kubernetes.default.svc"),)
    """The clusters that environments may name."""
    registry: ImageName = ""
    """Prefix of every image, such as `registry.example.com/agents`."""
    gitops: GitOpsRepository = GitOpsRepository()
    """The repository that Argo CD watches."""
    agent_gateway: AgentGateway | None = None
    """A gateway in front of all teams."""
    issuer: Issuer | None = None
    """Who signs people's tokens."""
    archived: tuple[TeamName, ...] = ()
    """Teams that are no more. `elf gitops` takes them out of environments that sync themselves."""
    currency: Currency = "USD"
    """Of every budget and cost: three letters of ISO 4217."""
    database: DatabaseRef = DatabaseRef()
    """Where the database's URL is kept."""

    @property
    def title(self) -> str:
        """The name to show to people."""
        return self.display_name or self.name

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
