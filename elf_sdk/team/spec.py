"""What a team is: the values behind `team.yaml` and `elf.yaml`.

Every model is frozen and refuses unknown fields. Settings that can differ between environments have a default for
each of their fields, so that an override under `environments.<env>` is the same model with only some fields set;
`TeamSpec.for_environment` merges the two.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

__all__ = [
    "DEFAULT_ENVIRONMENTS",
    "FORMAT",
    "LLM",
    "AgentGateway",
    "Approval",
    "Autoscaling",
    "Budget",
    "Chat",
    "Cluster",
    "DatabaseRef",
    "Delegation",
    "Egress",
    "EnvVar",
    "Environment",
    "EnvironmentOverride",
    "GitOpsRepository",
    "Image",
    "Ingress",
    "Issuer",
    "McpServer",
    "Member",
    "Monitoring",
    "Organisation",
    "Resources",
    "Route",
    "Runs",
    "SecretRef",
    "Skill",
    "TeamSpec",
    "duration_seconds",
]

FORMAT: Final = "elf/v1"
DEFAULT_ENVIRONMENTS: Final = ("dev", "staging", "prod")

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def duration_seconds(text: str) -> float:
    """`"30m"` as 1800.0; the units are ms, s, m, h and d."""
    match = re.fullmatch(r"(\d+)(ms|s|m|h|d)", text)
    if match is None:
        raise ValueError(f"{text!r} is no duration; write a whole number and a unit, such as 30s, 5m or 2h")
    return int(match[1]) * _UNITS[match[2]]


def _duration(text: str) -> str:
    duration_seconds(text)
    return text


TeamName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=45),
    Field(description="A DNS label: lower-case letters, digits and dashes, starting with a letter, at most 45."),
]
"""DNS-1035 label of at most 45 characters: Helm's 53 and suffixes need the rest."""

Label = Annotated[str, StringConstraints(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$", max_length=63)]
Text = Annotated[str, StringConstraints(max_length=4000)]
Line = Annotated[str, StringConstraints(pattern=r"^[^\r\n]*$", max_length=200)]
Duration = Annotated[str, AfterValidator(_duration), Field(json_schema_extra={"pattern": r"^\d+(ms|s|m|h|d)$"})]
Version = Annotated[
    str,
    StringConstraints(
        pattern=r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z]+(\.[0-9A-Za-z]+)*)?$", max_length=64
    ),
]
"""Semantic version without build metadata, which an image tag cannot carry."""
Quantity = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")]
Amount = Annotated[float, Field(ge=0)] | Annotated[str, StringConstraints(pattern=r"^\d+ tokens$")]
"""Money in the organisation's currency, or `"200000 tokens"`."""
Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+$", max_length=2000)]
Cidr = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F.:]+/\d{1,3}$")]
Port = Annotated[int, Field(ge=1, le=65535)]
Placement = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*(\.[a-z][a-z0-9-]*)*$", max_length=200)]
Labels = dict[
    Annotated[str, StringConstraints(pattern=r"^([a-z0-9.-]+/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")],
    Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", max_length=63)],
]


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True)


class LLM(_Spec):
    """The model that a team talks to. Keys are never written here: they come from a file or the environment."""

    provider: Literal["offline", "openai", "anthropic", "openrouter", "ollama", "compatible"] = "offline"
    """`compatible` is any OpenAI-compatible endpoint and needs `base_url`; `offline` is the built-in model for demos and tests."""
    model: Line = "offline"
    """The provider's own name of the model."""
    base_url: Url | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.2
    timeout: Duration = "60s"
    """For one call to the model."""
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    fallbacks: tuple[LLM, ...] = ()
    """Tried in this order when the model before them is out of reach."""

    @model_validator(mode="after")
    def _endpoint(self) -> Self:
        if self.provider == "compatible" and self.base_url is None:
            raise ValueError("provider 'compatible' needs base_url, the address of the endpoint")
        return self


class Member(_Spec):
    """One agent of the team, or an executive who stands for it."""

    role: Line
    title: Line | None = None
    """An executive's title, such as CMO."""
    is_manager: bool = False
    responsibilities: tuple[Text, ...] = ()
    skills: tuple[Line, ...] = ()
    traits: tuple[Line, ...] = ()
    manages: tuple[TeamName, ...] = ()
    """The teams for which this executive answers."""


class Skill(_Spec):
    """What the agent card says the team can do."""

    id: Identifier
    name: Line
    description: Text = ""
    tags: tuple[Line, ...] = ()
    examples: tuple[Text, ...] = ()


class Chat(_Spec):
    """The chat interface and its limits, which hold across replicas."""

    enabled: bool = True
    top_level: bool = False
    """A team that people are meant to talk to first."""
    allowed_roles: tuple[Line, ...] = ("admin", "user")
    max_session_duration_minutes: Annotated[int, Field(ge=1)] = 60
    idle_timeout_minutes: Annotated[int, Field(ge=1)] = 15
    max_messages_per_session: Annotated[int, Field(ge=1)] = 100
    max_connections_per_user: Annotated[int, Field(ge=1)] = 5
    messages_per_minute: Annotated[int, Field(ge=1)] = 20
    max_message_bytes: Annotated[int, Field(ge=1, le=1_048_576)] = 65_536
    context_window_messages: Annotated[int, Field(ge=0)] = 20


class Approval(_Spec):
    """Who must say yes to a delegation, above a cost or towards a target."""

    role: Line
    above: Amount | None = None
    target: TeamName | None = None


class Delegation(_Spec):
    """How work is handed to another team."""

    preview: bool = True
    confirmation: bool = True
    max_depth: Annotated[int, Field(ge=1, le=16)] = 4
    approvals: tuple[Approval, ...] = ()


class Budget(_Spec):
    """Upper bounds in the organisation's currency, or in tokens."""

    per_run: Amount | None = None
    per_day: Amount | None = None
    per_month: Amount | None = None
    subtree: bool = False
    """Whether the bounds hold for the team and all below it together."""


class Runs(_Spec):
    """How the engine runs what the team does."""

    deadline: Duration = "30m"
    concurrency: Annotated[int, Field(ge=1, le=10_000)] = 32
    queue: Annotated[int, Field(ge=0)] = 100
    """How many runs may wait for a place."""
    isolation: Literal["process", "thread", "inline"] = "process"
    """Where synchronous code runs."""
    store: Literal["default", "ephemeral"] = "default"
    """`ephemeral` keeps runs on the container's own disk: one replica, lost with the pod."""
    retention: Duration = "30d"


class McpServer(_Spec):
    """An MCP server whose tools the team may use."""

    name: Identifier
    url: Url | None = None
    command: tuple[str, ...] = ()
    tools: tuple[Line, ...] = ()
    """Only these; all where empty."""

    @model_validator(mode="after")
    def _transport(self) -> Self:
        if (self.url is None) == (not self.command):
            raise ValueError("give either url (streamable HTTP) or command (stdio)")
        return self


EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class EnvVar(_Spec):
    """A setting for the team's process. Secrets do not belong here."""

    name: EnvName
    value: str = ""


class SecretRef(_Spec):
    """A value from a Kubernetes Secret, as a file (the default) or as a variable."""

    name: EnvName
    secret: Identifier
    key: Identifier
    mount: Literal["file", "variable"] = "file"


class EgressProxy(_Spec):
    """The one place that outgoing traffic may go to in mode `proxy`."""

    host: Line = ""
    port: Port = 443
    namespace: Label | None = None
    cidr: Cidr | None = None


class Egress(_Spec):
    """What the team may reach outside the organisation."""

    mode: Literal["proxy", "cidr", "cilium-fqdn", "open"] | None = None
    """Default: `open` in dev and staging, `proxy` in prod."""
    proxy: EgressProxy | None = None
    hosts: tuple[Line, ...] = ()
    cidrs: tuple[Cidr, ...] = ()


class Image(_Spec):
    """The container image. Its digest is not written here but in images.lock.yaml."""

    base: Line = "python:3.11-slim"
    registry: Line | None = None
    """Default: the organisation's."""
    pull_secrets: tuple[Identifier, ...] = ()


class Resources(_Spec):
    """Kubernetes resources of one replica. Unset fields take the environment's default."""

    cpu_request: Quantity | None = None
    cpu_limit: Quantity | None = None
    memory_request: Quantity | None = None
    memory_limit: Quantity | None = None
    ephemeral_storage: Quantity | None = None


class Autoscaling(_Spec):
    """Horizontal autoscaling; then `replicas` is the minimum's business."""

    enabled: bool | None = None
    min_replicas: Annotated[int, Field(ge=1)] | None = None
    max_replicas: Annotated[int, Field(ge=1)] | None = None
    cpu_percent: Annotated[int, Field(ge=1, le=100)] = 70


class Ingress(_Spec):
    """A Kubernetes Ingress in front of the team."""

    enabled: bool = False
    class_name: Line = "nginx"
    host: Line = ""
    tls_secret: Identifier | None = None


class Route(_Spec):
    """A Gateway API HTTPRoute in front of the team."""

    enabled: bool = False
    parent: Identifier = "gateway"
    parent_namespace: Label | None = None
    host: Line = ""


class Monitoring(_Spec):
    """How Prometheus finds the team."""

    enabled: bool = False
    kind: Literal["ServiceMonitor", "PodMonitor"] = "ServiceMonitor"
    interval: Duration = "30s"


class EnvironmentOverride(_Spec):
    """What differs in one environment: where it runs, and any of the settings."""

    cluster: Identifier | None = None
    namespace: Label | None = None
    sync: Literal["auto", "manual"] | None = None
    llm: LLM | None = None
    chat: Chat | None = None
    delegation: Delegation | None = None
    budget: Budget | None = None
    runs: Runs | None = None
    mcp: tuple[McpServer, ...] | None = None
    env: tuple[EnvVar, ...] | None = None
    secrets: tuple[SecretRef, ...] | None = None
    egress: Egress | None = None
    image: Image | None = None
    resources: Resources | None = None
    replicas: Annotated[int, Field(ge=0, le=1000)] | None = None
    autoscaling: Autoscaling | None = None
    ingress: Ingress | None = None
    gateway: Route | None = None
    monitoring: Monitoring | None = None


class TeamSpec(_Spec):
    """A team: `team.yaml`, or the same in Python."""

    format: Literal["elf/v1"] = FORMAT
    name: TeamName
    """The team's directory has the same name."""
    display_name: Line = ""
    purpose: Text = ""
    version: Version = "0.1.0"
    placement: Placement = "standalone"
    """A path such as `marketing.brand`, or `executive`, or `standalone`."""
    reports_to: TeamName | None = None
    manages: tuple[TeamName, ...] = ()
    peers: tuple[TeamName, ...] = ()
    framework: Identifier = "function"
    """`crewai`, `langgraph`, `function`, or the name of an adapter's entry point."""
    llm: LLM = LLM()
    members: Annotated[tuple[Member, ...], Field(min_length=1)]
    skills: tuple[Skill, ...] = ()
    chat: Chat = Chat()
    delegation: Delegation = Delegation()
    budget: Budget = Budget()
    runs: Runs = Runs()
    mcp: tuple[McpServer, ...] = ()
    env: tuple[EnvVar, ...] = ()
    secrets: tuple[SecretRef, ...] = ()
    egress: Egress = Egress()
    evals: Line = "evals/"
    image: Image = Image()
    resources: Resources = Resources()
    replicas: Annotated[int, Field(ge=0, le=1000)] | None = None
    autoscaling: Autoscaling = Autoscaling()
    ingress: Ingress = Ingress()
    gateway: Route = Route()
    monitoring: Monitoring = Monitoring()
    environments: dict[Label, EnvironmentOverride] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not any(member.is_manager for member in self.members):
            raise ValueError("members: at least one member needs is_manager: true")
        for field, keys in (
            ("members", [member.role for member in self.members]),
            ("skills", [skill.id for skill in self.skills]),
            ("mcp", [server.name for server in self.mcp]),
            ("env", [variable.name for variable in self.env]),
            ("secrets", [secret.name for secret in self.secrets]),
            ("manages", list(self.manages)),
            ("peers", list(self.peers)),
        ):
            for index, key in enumerate(keys):
                if key in keys[:index]:
                    raise ValueError(f"{field}[{index}]: {key!r} is there twice; remove one")
        for field, names in (("reports_to", (self.reports_to,)), ("manages", self.manages), ("peers", self.peers)):
            if self.name in names:
                raise ValueError(f"{field}: a team cannot name itself; remove {self.name!r}")
        return self

    @property
    def title(self) -> str:
        """The name to show to people."""
        return self.display_name or self.name

    @property
    def manager(self) -> Member:
        """The member who speaks for the team: the first manager."""
        return next(member for member in self.members if member.is_manager)

    @property
    def department(self) -> str:
        """The first part of the placement."""
        return self.placement.partition(".")[0]

    def for_environment(self, environment: str) -> TeamSpec:
        """The same team with the overrides of `environments.<environment>` merged in.

        Nested settings merge field by field, lists are replaced whole. `environments` is empty in the result, and
        where the team runs (cluster, namespace, sync) stays in the override.
        """
        override = self.environments.get(environment)
        data = self.model_dump(exclude_unset=True, exclude={"environments"})
        if override is not None:
            _merge(data, override.model_dump(exclude_unset=True, exclude={"cluster", "namespace", "sync"}))
        return TeamSpec.model_validate(data)


def _merge(base: dict[str, Any], over: dict[str, Any]) -> None:
    for key, value in over.items():
        if value is None:
            continue
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value


class Environment(_Spec):
    """One environment of the organisation."""

    name: Label
    cluster: Identifier = "in-cluster"
    namespace: Label | None = None
    """Default: `elf-teams` for prod, `elf-teams-<name>` for any other."""
    sync: Literal["auto", "manual"] | None = None
    """Default: `manual` for prod, `auto` for any other."""

    @property
    def namespace_name(self) -> str:
        """The namespace, default applied."""
        return self.namespace or ("elf-teams" if self.name == "prod" else f"elf-teams-{self.name}")


class Cluster(_Spec):
    """A Kubernetes cluster as Argo CD knows it."""

    name: Identifier
    server: Url


class GitOpsRepository(_Spec):
    """The repository that Argo CD watches."""

    url: Line = ""
    branch: Line = "main"
    path: Line = "gitops"


class AgentGateway(_Spec):
    """An optional gateway in front of all teams."""

    namespace: Label
    labels: Labels
    url: Url | None = None


class Issuer(_Spec):
    """Who signs people's tokens."""

    url: Url
    jwks_url: Url | None = None


class DatabaseRef(_Spec):
    """Where the database's URL is kept; never the URL itself."""

    secret: Identifier = "supabase-credentials"
    key: Identifier = "db-url"


class Organisation(_Spec):
    """What belongs to the organisation as a whole: `elf.yaml` beside `teams/`. Every field has a default."""

    format: Literal["elf/v1"] = FORMAT
    name: Label = "elf"
    display_name: Line = ""
    environments: Annotated[tuple[Environment, ...], Field(min_length=1)] = tuple(
        Environment(name=name) for name in DEFAULT_ENVIRONMENTS
    )
    """In the order of promotion."""
    clusters: tuple[Cluster, ...] = (Cluster(name="in-cluster", server="https://kubernetes.default.svc"),)
    registry: Line = ""
    """Prefix of every image, such as `registry.example.com/agents`."""
    gitops: GitOpsRepository = GitOpsRepository()
    agent_gateway: AgentGateway | None = None
    issuer: Issuer | None = None
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] = "USD"
    database: DatabaseRef = DatabaseRef()

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        places: dict[tuple[str, str], str] = {}
        known = {cluster.name for cluster in self.clusters}
        for index, environment in enumerate(self.environments):
            if environment.name in [other.name for other in self.environments[:index]]:
                raise ValueError(f"environments[{index}]: {environment.name!r} is there twice; remove one")
            if environment.cluster not in known:
                raise ValueError(
                    f"environments[{index}].cluster: there is no cluster {environment.cluster!r}; "
                    f"add it under clusters, or use one of {', '.join(sorted(known))}"
                )
            place = (environment.cluster, environment.namespace_name)
            if place in places:
                raise ValueError(
                    f"environments[{index}].namespace: {environment.name!r} and {places[place]!r} would share the "
                    f"namespace {place[1]!r} of cluster {place[0]!r}; give one of them another"
                )
            places[place] = environment.name
        return self
