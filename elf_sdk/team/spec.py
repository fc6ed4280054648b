"""What a team is: the values behind `team.yaml`.

Every model is frozen and refuses unknown fields. Settings that can differ between environments have a default for
each of their fields, so that an override under `environments.<env>` is the same model with only some fields set;
`TeamSpec.for_environment` merges the two. What has to fit between fields is therefore checked on a whole team, by
`TeamSpec.problems`, and not inside a part.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from elf_sdk.team.access import Ingress, Monitoring, Route, Serving
from elf_sdk.team.base import FIELDS_ONLY, FORMAT, FORMAT_TYPE, FileModel, Frozen, Location
from elf_sdk.team.clashes import clashes
from elf_sdk.team.deployment import Autoscaling, Database, Egress, EnvVar, Image, Pod, Resources, SecretRef
from elf_sdk.team.kinds import Identifier, Label, Line, Placement, RelativePath, TeamName, Text, Version, Whole
from elf_sdk.team.organisation import Environment
from elf_sdk.team.work import LLM, Budget, Chat, Delegation, McpServer, Member, Runs, Skill

__all__ = ["EnvironmentOverride", "TeamSpec"]


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
    database: Database | None = None
    """As the team's."""
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
    pod: Pod | None = None
    """As the team's."""
    serving: Serving | None = None
    """As the team's."""
    ingress: Ingress | None = None
    """As the team's."""
    gateway: Route | None = None
    """As the team's."""
    monitoring: Monitoring | None = None
    """As the team's."""


class TeamSpec(FileModel):
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
    database: Database = Database()
    """Where the URL of the team's database is kept."""
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
    """More replicas when there is more to do."""
    pod: Pod = Pod()
    """What else a pod is given."""
    serving: Serving = Serving()
    """What the team's process is told of its surroundings."""
    ingress: Ingress = Ingress()
    """A Kubernetes Ingress in front of the team."""
    gateway: Route = Route()
    """A Gateway API HTTPRoute in front of the team."""
    monitoring: Monitoring = Monitoring()
    """How Prometheus finds the team."""
    environments: dict[Label, EnvironmentOverride] = Field(default_factory=dict)
    """What differs in one environment, by its name in elf.yaml; dev, staging and prod exist by default."""

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

    def cluster_in(self, environment: Environment) -> str:
        """The cluster in which the team runs in `environment`."""
        override = self.environments.get(environment.name)
        return (override and override.cluster) or environment.cluster

    def for_environment(self, environment: str) -> TeamSpec:
        """The same team with the overrides of `environments.<environment>` merged in.

        Nested settings merge field by field, lists are replaced whole. `environments` is empty in the result, and
        where the team runs (cluster, namespace, sync) stays in the override.
        """
        override = self.environments.get(environment)
        given = self.model_fields_set - {"environments"}
        merged = {name: getattr(self, name) for name in type(self).model_fields if name != "environments"}
        for name in override.model_fields_set - _PLACES if override is not None else ():
            if (value := getattr(override, name)) is not None:
                merged[name] = _merged(merged[name], value)
                given.add(name)
        # Every part was checked when it was made, and the whole with all of its environments: so this is not again.
        return TeamSpec.model_construct(_fields_set=given, **merged)

    def problems(self) -> list[tuple[Location, str]]:
        """What is wrong between fields that are each right, in the team and in each of its environments."""
        found = list(_problems(self))
        messages = {message for _, message in found}
        for environment in self.environments:
            for where, message in _problems(self.for_environment(environment)):
                if message not in messages:
                    found.append((("environments", environment, *where), message))
        return found


_NATIVE: Final = frozenset({"crewai", "langgraph"})
"""Frameworks whose own client speaks Anthropic's own API to its models, and not the OpenAI-compatible one."""


_PLACES: Final = frozenset({"cluster", "namespace", "sync"})
"""Fields of an override that say where the team runs, which the team itself does not."""


def _merged(base: object, over: object) -> object:
    """`over` in place of `base`, and of a nested setting field by field."""
    if not isinstance(base, Frozen) or not isinstance(over, Frozen):
        return over
    data = base.model_dump(exclude_unset=True, by_alias=True)
    _merge(data, over.model_dump(exclude_unset=True, by_alias=True))
    return type(base).model_validate(data, context=FIELDS_ONLY)


def _merge(base: dict[str, Any], over: dict[str, Any]) -> None:
    for key, value in over.items():
        if value is None:
            continue
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value


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
    if spec.delegation.confirmation and not spec.delegation.preview:
        message = "nobody can confirm what is not shown; write confirmation: false as well, or preview: true"
        yield ("delegation", "preview"), message
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
    if spec.llm.provider == "anthropic" and spec.framework in _NATIVE:
        yield from _foreign(spec.llm, ("llm",), spec.framework)
    yield from clashes(
        replicas=spec.replicas,
        ephemeral=spec.runs.store == "ephemeral",
        env=spec.env,
        resources=spec.resources,
        autoscaling=spec.autoscaling,
        ingress=spec.ingress,
        gateway=spec.gateway,
        serving=spec.serving,
        egress=spec.egress,
        pod=spec.pod,
    )


def _llm_problems(llm: LLM, where: Location) -> Iterator[tuple[Location, str]]:
    if llm.provider == "compatible" and llm.base_url is None:
        yield (*where, "base_url"), "the provider 'compatible' needs it; write the address of the endpoint"
    for index, fallback in enumerate(llm.fallbacks):
        yield from _llm_problems(fallback, (*where, "fallbacks", index))


def _foreign(llm: LLM, where: Location, framework: str) -> Iterator[tuple[Location, str]]:
    """The fallbacks that do not understand what the framework's client says to Anthropic's own API."""
    for index, fallback in enumerate(llm.fallbacks):
        here: Location = (*where, "fallbacks", index)
        if fallback.provider != "anthropic":
            yield (
                (*here, "provider"),
                (
                    f"{framework} speaks to anthropic by its own API, which {fallback.provider!r} does not have; write "
                    "an anthropic model, or put this one first and anthropic behind it"
                ),
            )
        yield from _foreign(fallback, here, framework)
