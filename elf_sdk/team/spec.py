"""What a team is: the values behind `team.yaml`.

Every model is frozen and refuses unknown fields. Settings that can differ between environments have a default for
each of their fields, so that an override under `environments.<env>` is the same model with only some fields set;
`TeamSpec.for_environment` merges the two. What has to fit between fields is therefore checked on a whole team, by
`team_problems`, and not inside a part.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, model_validator

from elf_sdk.team.base import (
    FORMAT,
    FORMAT_TYPE,
    Amount,
    Bool,
    Cidr,
    Duration,
    EnvName,
    EnvValue,
    Frozen,
    HostName,
    Identifier,
    ImageName,
    Label,
    Line,
    Location,
    Name,
    Number,
    Placement,
    Port,
    Quantity,
    RelativePath,
    ResourceName,
    SecretKey,
    TeamName,
    Text,
    Url,
    Version,
    Whole,
    duration_seconds,
    raise_together,
)
from elf_sdk.team.organisation import (
    DEFAULT_ENVIRONMENTS,
    AgentGateway,
    Cluster,
    DatabaseRef,
    Environment,
    GitOpsRepository,
    Issuer,
    Organisation,
)

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
    "EgressProxy",
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
    "SecretKeyRef",
    "SecretRef",
    "Skill",
    "TeamSpec",
    "duration_seconds",
    "team_problems",
]


class LLM(Frozen):
    """The model that a team talks to. Keys are never written here: they come from a file or the environment."""

    provider: Literal["offline", "openai", "anthropic", "openrouter", "ollama", "compatible"] = "offline"
    """`compatible` is any OpenAI-compatible endpoint and needs `base_url`; `offline` is the built-in model for demos
    and tests."""
    model: Name = "offline"
    """The provider's own name of the model."""
    base_url: Url | None = None
    """Address of the API. Default: the provider's own."""
    temperature: Annotated[Number, Field(ge=0, le=2)] = 0.2
    """How freely the model chooses its words."""
    timeout: Duration = "60s"
    """For one call to the model."""
    retries: Annotated[Whole, Field(ge=0, le=10)] = 2
    """Further tries of one call."""
    fallbacks: tuple[LLM, ...] = ()
    """Tried in this order when the model before them is out of reach."""


class Member(Frozen):
    """One agent of the team, or an executive who stands for it."""

    role: Name
    """What the agent is, once in a team."""
    title: Name | None = None
    """An executive's title, such as CMO."""
    is_manager: Bool = False
    """Whether it leads the team; the first manager speaks for it."""
    responsibilities: tuple[Text, ...] = ()
    """What it answers for."""
    skills: tuple[Name, ...] = ()
    """What it can do."""
    traits: tuple[Name, ...] = ()
    """Its personality, such as sceptical."""
    manages: tuple[TeamName, ...] = ()
    """The teams for which this executive answers."""


class Skill(Frozen):
    """What the agent card says the team can do."""

    id: Identifier
    """Once in a team."""
    name: Name
    """For people."""
    description: Text = ""
    """For people and for other teams' models, which choose by it."""
    tags: tuple[Name, ...] = ()
    """Words to find it by."""
    examples: tuple[Text, ...] = ()
    """What somebody may ask."""


class Chat(Frozen):
    """The chat interface and its limits, which hold across replicas."""

    enabled: Bool = True
    """Whether people can chat with the team; `enable_chat_interface` in API and registry."""
    top_level: Bool = False
    """A team that people are meant to talk to first; `is_top_level` in API and registry."""
    allowed_roles: tuple[Name, ...] = ("admin", "user")
    """Who may chat, by the roles in their token."""
    max_session_duration_minutes: Annotated[Whole, Field(ge=1)] = 60
    """Minutes until a session ends."""
    idle_timeout_minutes: Annotated[Whole, Field(ge=1)] = 15
    """Minutes without a message until a session ends."""
    max_messages_per_session: Annotated[Whole, Field(ge=1)] = 100
    """Messages of the user in one session."""
    max_connections_per_user: Annotated[Whole, Field(ge=1)] = 5
    """Open connections of one user."""
    messages_per_minute: Annotated[Whole, Field(ge=1)] = 20
    """Messages of one user in a minute."""
    max_message_bytes: Annotated[Whole, Field(ge=1, le=1_048_576)] = 65_536
    """Bytes of one message in UTF-8."""
    context_window_messages: Annotated[Whole, Field(ge=0)] = 20
    """Earlier messages that the team sees."""


class Approval(Frozen):
    """Who must say yes to a delegation: to each one, or only above a cost, or only towards a target."""

    role: Name
    """The role that must say yes."""
    above: Amount | None = None
    """Only above this expected cost."""
    target: TeamName | None = None
    """Only towards this team."""


class Delegation(Frozen):
    """How work is handed to another team."""

    preview: Bool = True
    """Whether the user sees what would be sent; `enable_delegation_preview` in API and registry."""
    confirmation: Bool = True
    """Whether the user must confirm it; `require_user_confirmation` in API and registry."""
    max_depth: Annotated[Whole, Field(ge=1, le=16)] = 4
    """How many teams a piece of work may pass through."""
    approvals: tuple[Approval, ...] = ()
    """Who else must say yes to what."""


class Budget(Frozen):
    """Upper bounds in the organisation's currency, or in tokens."""

    per_run: Amount | None = None
    """For one run. Default: no bound."""
    per_day: Amount | None = None
    """For one day in UTC. Default: no bound."""
    per_month: Amount | None = None
    """For one month in UTC. Default: no bound."""
    subtree: Bool = False
    """Whether the bounds hold for the team and all below it together."""


class Runs(Frozen):
    """How the engine runs what the team does."""

    deadline: Duration = "30m"
    """For one run."""
    concurrency: Annotated[Whole, Field(ge=1, le=10_000)] = 32
    """Runs at once in one replica."""
    queue: Annotated[Whole, Field(ge=0)] = 100
    """How many runs may wait for a place."""
    isolation: Literal["process", "thread", "inline"] = "process"
    """Where synchronous code runs; only in a `process` of its own is a cancel certain."""
    store: Literal["default", "ephemeral"] = "default"
    """`ephemeral` keeps runs on the container's own disk: one replica, lost with the pod."""
    retention: Duration = "30d"
    """How long a finished run is kept."""


class McpServer(Frozen):
    """An MCP server whose tools the team may use, by `url` (streamable HTTP) or by `command` (stdio)."""

    name: Identifier
    """Once in a team."""
    url: Url | None = None
    """Address of a server that speaks streamable HTTP."""
    command: tuple[Annotated[EnvValue, Field(min_length=1)], ...] = ()
    """Program and arguments of a server that speaks over stdio."""
    tools: tuple[Name, ...] = ()
    """Only these; all where empty."""

    @model_validator(mode="after")
    def _transport(self) -> Self:
        if (self.url is None) == (not self.command):
            raise ValueError("write either url (streamable HTTP) or command (stdio)")
        return self


class EnvVar(Frozen):
    """A setting for the team's process. Secrets do not belong here."""

    name: EnvName
    """Name of the variable."""
    value: EnvValue = ""
    """Its value; put numbers and `true` or `false` in quotes."""


class SecretKeyRef(Frozen):
    """One key of a Kubernetes Secret."""

    secret: ResourceName
    """Name of the Secret."""
    key: SecretKey
    """Key in it."""


class SecretRef(Frozen):
    """A value from a Kubernetes Secret, as a file (the default) or as a variable."""

    name: EnvName
    """Name of the variable; for a file, `<name>_FILE` holds its path."""
    source: Annotated[SecretKeyRef, Field(alias="from")]
    """Where the value is. In Python the field is called `source`."""
    mount: Annotated[Literal["file", "variable"], Field(alias="as")] = "file"
    """A file is read again when the Secret changes, a variable is not. In Python the field is called `mount`."""

    @property
    def secret(self) -> str:
        """Name of the Secret."""
        return self.source.secret

    @property
    def key(self) -> str:
        """Key in the Secret."""
        return self.source.key


class EgressProxy(Frozen):
    """The one place that outgoing traffic may go to in mode `proxy`, found by its namespace or its network."""

    host: HostName = ""
    """Name of the proxy."""
    port: Port = 443
    """Port of the proxy."""
    namespace: Label | None = None
    """The namespace of its pods, where it runs in the cluster."""
    cidr: Cidr | None = None
    """Its network, where it runs outside."""


class Egress(Frozen):
    """What the team may reach outside the organisation."""

    mode: Literal["proxy", "cidr", "cilium-fqdn", "open"] | None = None
    """`proxy`: only the proxy; without one, nothing. `cidr`: only `cidrs`. `cilium-fqdn`: only `hosts`, by Cilium.
    `open`: port 443 of every public address. Default: `open` in dev and staging, `proxy` in prod."""
    proxy: EgressProxy | None = None
    """The proxy of mode `proxy`."""
    hosts: tuple[HostName, ...] = ()
    """Names that the team needs."""
    cidrs: tuple[Cidr, ...] = ()
    """Networks that the team needs."""


class Image(Frozen):
    """The container image. Its digest is not written here but in images.lock.yaml."""

    base: ImageName = "python:3.11-slim"
    """The image to build on."""
    registry: ImageName | None = None
    """Prefix of the image's name. Default: the organisation's."""
    pull_secrets: tuple[ResourceName, ...] = ()
    """Secrets that open the registry."""


class Resources(Frozen):
    """Kubernetes resources of one replica. Unset fields take the environment's default."""

    cpu_request: Quantity | None = None
    """Processor time that is kept free, such as 100m."""
    cpu_limit: Quantity | None = None
    """Processor time at most."""
    memory_request: Quantity | None = None
    """Memory that is kept free, such as 256Mi."""
    memory_limit: Quantity | None = None
    """Memory at most."""
    ephemeral_storage: Quantity | None = None
    """Disk of the container, such as 1Gi."""


class Autoscaling(Frozen):
    """Horizontal autoscaling; then `replicas` is the minimum's business."""

    enabled: Bool | None = None
    """Default: on in prod."""
    min_replicas: Annotated[Whole, Field(ge=1)] | None = None
    """Default: the environment's replicas."""
    max_replicas: Annotated[Whole, Field(ge=1)] | None = None
    """Default: the environment's."""
    cpu_percent: Annotated[Whole, Field(ge=1, le=100)] = 70
    """Average use of `cpu_request` above which a replica is added."""


class Ingress(Frozen):
    """A Kubernetes Ingress in front of the team."""

    enabled: Bool = False
    """Whether there is one."""
    class_name: ResourceName = "nginx"
    """The ingress class."""
    host: HostName = ""
    """The name that it answers to."""
    tls_secret: ResourceName | None = None
    """The Secret with its certificate."""


class Route(Frozen):
    """A Gateway API HTTPRoute in front of the team."""

    enabled: Bool = False
    """Whether there is one."""
    parent: ResourceName = "gateway"
    """Name of the Gateway."""
    parent_namespace: Label | None = None
    """Namespace of the Gateway. Default: the team's own."""
    host: HostName = ""
    """The name that it answers to."""


class Monitoring(Frozen):
    """How Prometheus finds the team."""

    enabled: Bool = False
    """Whether the chart has a monitor."""
    kind: Literal["ServiceMonitor", "PodMonitor"] = "ServiceMonitor"
    """The kind of monitor."""
    interval: Duration = "30s"
    """Between two scrapes."""


class EnvironmentOverride(Frozen):
    """What differs in one environment: where it runs, and any of the settings.

    Nested settings merge field by field, lists are replaced whole.
    """

    cluster: Identifier | None = None
    """Another cluster than the environment's in elf.yaml."""
    namespace: Label | None = None
    """Another namespace than the environment's in elf.yaml."""
    sync: Literal["auto", "manual"] | None = None
    """Another choice than the environment's in elf.yaml."""
    llm: LLM | None = None
    """As the team's."""
    chat: Chat | None = None
    """As the team's."""
    delegation: Delegation | None = None
    """As the team's."""
    budget: Budget | None = None
    """As the team's."""
    runs: Runs | None = None
    """As the team's."""
    mcp: tuple[McpServer, ...] | None = None
    """Instead of the team's."""
    env: tuple[EnvVar, ...] | None = None
    """Instead of the team's."""
    secrets: tuple[SecretRef, ...] | None = None
    """Instead of the team's."""
    egress: Egress | None = None
    """As the team's."""
    evals: RelativePath | None = None
    """Instead of the team's."""
    image: Image | None = None
    """As the team's."""
    resources: Resources | None = None
    """As the team's."""
    replicas: Annotated[Whole, Field(ge=0, le=1000)] | None = None
    """Instead of the team's."""
    autoscaling: Autoscaling | None = None
    """As the team's."""
    ingress: Ingress | None = None
    """As the team's."""
    gateway: Route | None = None
    """As the team's."""
    monitoring: Monitoring | None = None
    """As the team's."""


class TeamSpec(Frozen):
    """A team: `team.yaml`, or the same in Python."""

    format: FORMAT_TYPE = FORMAT
    """The format of this file."""
    name: TeamName
    """The team; its directory has the same name."""
    display_name: Line = ""
    """The name that people see. Default: `name`."""
    purpose: Text = ""
    """What the team is for, to people and on the agent card."""
    version: Version = "0.1.0"
    """Semantic version of the team: on its card, its image tag and its chart."""
    placement: Placement = "standalone"
    """Place in the organisation: a path such as `marketing.brand`, or `executive`, or `standalone`."""
    reports_to: TeamName | None = None
    """The team above, which names this one under `manages`."""
    manages: tuple[TeamName, ...] = ()
    """The teams below, each of which names this one as `reports_to`."""
    peers: tuple[TeamName, ...] = ()
    """Teams to work with side by side, each of which names this one under `peers`."""
    framework: Identifier = "function"
    """`crewai`, `langgraph`, `function`, or the name of an adapter's entry point."""
    llm: LLM = LLM()
    """The model that the team talks to."""
    members: Annotated[tuple[Member, ...], Field(min_length=1)]
    """The agents; at least one is a manager."""
    skills: tuple[Skill, ...] = ()
    """What the agent card says the team can do."""
    chat: Chat = Chat()
    """The chat interface and its limits."""
    delegation: Delegation = Delegation()
    """How work is handed to another team."""
    budget: Budget = Budget()
    """What the team may spend."""
    runs: Runs = Runs()
    """How the engine runs what the team does."""
    mcp: tuple[McpServer, ...] = ()
    """MCP servers whose tools the team may use."""
    env: tuple[EnvVar, ...] = ()
    """Settings for the team's process."""
    secrets: tuple[SecretRef, ...] = ()
    """Secrets by reference, never by value."""
    egress: Egress = Egress()
    """What the team may reach outside the organisation."""
    evals: RelativePath = "evals/"
    """Directory of the conversations that promotion must still get right."""
    image: Image = Image()
    """The container image."""
    resources: Resources = Resources()
    """Kubernetes resources of one replica."""
    replicas: Annotated[Whole, Field(ge=0, le=1000)] | None = None
    """Default: the environment's."""
    autoscaling: Autoscaling = Autoscaling()
    """Horizontal autoscaling."""
    ingress: Ingress = Ingress()
    """A Kubernetes Ingress in front of the team."""
    gateway: Route = Route()
    """A Gateway API HTTPRoute in front of the team."""
    monitoring: Monitoring = Monitoring()
    """How Prometheus finds the team."""
    environments: dict[Label, EnvironmentOverride] = Field(default_factory=dict)
    """What differs in one environment, by its name in elf.yaml; dev, staging and prod exist by default."""

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> Self:
        raise_together(team_problems, self, info)
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

    def namespace_in(self, environment: Environment) -> str:
        """The namespace in which the team runs in `environment`."""
        override = self.environments.get(environment.name)
        return (override and override.namespace) or environment.namespace_name

    def for_environment(self, environment: str) -> TeamSpec:
        """The same team with the overrides of `environments.<environment>` merged in.

        Nested settings merge field by field, lists are replaced whole. `environments` is empty in the result, and
        where the team runs (cluster, namespace, sync) stays in the override.
        """
        override = self.environments.get(environment)
        data = self.model_dump(exclude_unset=True, by_alias=True, exclude={"environments"})
        if override is not None:
            places = {"cluster", "namespace", "sync"}
            _merge(data, override.model_dump(exclude_unset=True, by_alias=True, exclude=places))
        # A spec is checked with all of its environments when it is made, so the merged one need not be again.
        return TeamSpec.model_validate(data, context={"consistency": False})


def _merge(base: dict[str, Any], over: dict[str, Any]) -> None:
    for key, value in over.items():
        if value is None:
            continue
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value


def team_problems(spec: TeamSpec) -> list[tuple[Location, str]]:
    """What is wrong between fields that are each right, in the team and in each of its environments.

    Returns:
        The field's path, and what to write instead.
    """
    found = list(_problems(spec))
    messages = {message for _, message in found}
    for environment in spec.environments:
        for where, message in _problems(spec.for_environment(environment)):
            if message not in messages:
                found.append((("environments", environment, *where), message))
    return found


def _problems(spec: TeamSpec) -> Iterator[tuple[Location, str]]:
    if not any(member.is_manager for member in spec.members):
        yield ("members",), "no member leads the team; write is_manager: true at one of them"
    names: tuple[tuple[str, str | None, list[str]], ...] = (
        ("members", "role", [member.role for member in spec.members]),
        ("skills", "id", [skill.id for skill in spec.skills]),
        ("mcp", "name", [server.name for server in spec.mcp]),
        ("env", "name", [variable.name for variable in spec.env]),
        ("secrets", "name", [secret.name for secret in spec.secrets]),
        ("manages", None, list(spec.manages)),
        ("peers", None, list(spec.peers)),
    )
    for field, key, values in names:
        seen: set[str] = set()
        for index, value in enumerate(values):
            if value in seen:
                where: Location = (field, index, key) if key else (field, index)
                yield where, f"{value!r} is there twice; remove one"
            seen.add(value)
    variables = {variable.name for variable in spec.env}
    for index, secret in enumerate(spec.secrets):
        if secret.name in variables:
            yield ("secrets", index, "name"), f"{secret.name!r} also stands under env; remove one"
    if spec.reports_to == spec.name:
        yield ("reports_to",), "a team cannot report to itself; write the team above it, or remove the field"
    for field, teams in (("manages", spec.manages), ("peers", spec.peers)):
        for index, team in enumerate(teams):
            if team == spec.name:
                yield (field, index), "a team cannot name itself; remove it"
    for index, team in enumerate(spec.manages):
        if team == spec.reports_to and team != spec.name:
            yield ("manages", index), f"{team!r} is also what this team reports to; remove one"
    near = {spec.reports_to, *spec.manages} - {spec.name}
    for index, team in enumerate(spec.peers):
        if team in near:
            yield ("peers", index), f"{team!r} is already above or below this team; remove it here"
    yield from _llm_problems(spec.llm, ("llm",))
    scaling = spec.autoscaling
    if scaling.min_replicas and scaling.max_replicas and scaling.min_replicas > scaling.max_replicas:
        yield (
            ("autoscaling", "min_replicas"),
            f"{scaling.min_replicas} is more than max_replicas, {scaling.max_replicas}; write at most that",
        )
    if spec.runs.store == "ephemeral" and max(spec.replicas or 0, scaling.max_replicas or 0) > 1:
        yield (
            ("runs", "store"),
            "an ephemeral store serves one replica only; write replicas: 1 and no max_replicas, or store: default",
        )
    proxy = spec.egress.proxy
    if proxy is not None and proxy.namespace is None and proxy.cidr is None:
        yield ("egress", "proxy"), "a network policy finds no proxy by its host; write its namespace or its cidr too"


def _llm_problems(llm: LLM, where: Location) -> Iterator[tuple[Location, str]]:
    if llm.provider == "compatible" and llm.base_url is None:
        yield (*where, "base_url"), "the provider 'compatible' needs it; write the address of the endpoint"
    for index, fallback in enumerate(llm.fallbacks):
        yield from _llm_problems(fallback, (*where, "fallbacks", index))
