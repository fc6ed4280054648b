"""From a team to the values of its chart: what the team says, what the organisation says, and what an environment is.

Pure: no files, no processes, no network. Rendering and proving is the business of `chart`, `helm` and `kubernetes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import ValidationError

from elf_sdk.deploy.image_reference import image_of
from elf_sdk.deploy.values_model import Peer, Values
from elf_sdk.errors import BadInput
from elf_sdk.models.llm import KEYLESS
from elf_sdk.settings import key_variable
from elf_sdk.team.kinds import duration_seconds
from elf_sdk.team.organisation import Environment, Organisation
from elf_sdk.team.spec import TeamSpec

__all__ = ["Edges", "layered", "shortcomings", "team_values"]


@dataclass(frozen=True, slots=True)
class Edges:
    """A team's neighbours in one environment; whole edges only.

    Attributes:
        callers: who may call the team.
        callees: whom the team may call.
    """

    callers: tuple[Peer, ...] = ()
    callees: tuple[Peer, ...] = ()


@dataclass(frozen=True, slots=True)
class _Defaults:
    """What an environment is, where nobody says otherwise. Quantities are Kubernetes's."""

    replicas: int
    log_level: Literal["debug", "info"]
    egress: Literal["open", "proxy"]
    cpu: tuple[str, str]
    memory: tuple[str, str]
    ephemeral: tuple[str, str]
    drain_cap: int


_DEV: Final = _Defaults(1, "debug", "open", ("25m", "1"), ("256Mi", "768Mi"), ("64Mi", "1Gi"), 30)
_STAGING: Final = _Defaults(1, "info", "open", ("50m", "1"), ("256Mi", "768Mi"), ("64Mi", "1Gi"), 300)
_PROD: Final = _Defaults(2, "info", "proxy", ("250m", "1"), ("512Mi", "1Gi"), ("256Mi", "2Gi"), 300)

_PRE_STOP_SECONDS: Final = 5
_CLOSE_SECONDS: Final = 10
"""What a process needs to end after its last run."""

_RESERVED: Final = frozenset(
    f"ELF_{name}" for name in ("ENVIRONMENT", "HOST", "LOG_LEVEL", "ORGANISATION", "PORT", "STORE", "TEAM_URL")
) | {"HOME"}
"""Variables that the chart writes."""


def team_values(
    spec: TeamSpec, organisation: Organisation, environment: Environment, edges: Edges, digest: str = ""
) -> dict[str, Any]:
    """The values of the team's chart in `environment`, every field of `values_model.Values`, in its order.

    Args:
        spec: the team, with all of its environments.
        organisation: to which it belongs.
        environment: one of the organisation's.
        edges: the team's neighbours there.
        digest: `sha256:…` of the image there; empty for the image by tag.

    Raises:
        BadInput: what the team says cannot be a chart; the message names team, environment and field.
    """
    namespace = spec.namespace_in(environment)
    here = spec.for_environment(environment.name)
    image = image_of(here, organisation)
    defaults = {"dev": _DEV, "prod": _PROD}.get(environment.name, _STAGING)
    replicas = defaults.replicas if here.replicas is None else here.replicas
    # One replica of dev needs no database; as soon as there are two, they have to share one.
    ephemeral = here.runs.store == "ephemeral" or (environment.name == "dev" and replicas <= 1)
    data = {
        "team": {
            "name": spec.name,
            "displayName": spec.title,
            "purpose": spec.purpose,
            "version": spec.version,
            "placement": spec.placement,
            "framework": spec.framework,
        },
        "organisation": organisation.name,
        "environment": environment.name,
        "namespace": namespace,
        "image": {
            "repository": image.repository,
            "tag": image.tag,
            "digest": digest,
            "pullPolicy": "IfNotPresent",
            "pullSecrets": list(here.image.pull_secrets),
        },
        "replicas": replicas,
        "settings": {
            "logLevel": defaults.log_level,
            "store": "/data/elf.db",
            "teamUrl": f"http://{{team}}.{environment.namespace_name}.svc:8000",
        },
        "env": [{"name": variable.name, "value": variable.value} for variable in here.env],
        "secrets": list(_secrets(here, environment)),
        "store": {"kind": "ephemeral" if ephemeral else "postgres"},
        "resources": _resources(here, defaults),
        "probes": {
            # A framework's import takes seconds on a busy node: two minutes to start, then a minute of silence.
            "startup": {"periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 60},
            "liveness": {"periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
            "readiness": {"periodSeconds": 5, "timeoutSeconds": 3, "failureThreshold": 2},
        },
        "drain": {"preStopSeconds": _PRE_STOP_SECONDS, "gracePeriodSeconds": _grace(here, defaults)},
        "volumes": {"dataSize": "512Mi", "tmpSize": "256Mi"},
        "service": {"appProtocol": ""},
        "priorityClassName": "",
        "podDisruptionBudget": {"enabled": True, "maxUnavailable": 1},
        "networkPolicy": {
            "enabled": True,
            "ingress": {"teams": _peers(edges.callers), "gateways": _gateways(organisation)},
            "egress": _egress(here, organisation, defaults, edges, ephemeral=ephemeral),
        },
    }
    _refuse_reserved(here, environment)
    try:
        Values.model_validate(data)
    except ValidationError as error:
        raise BadInput(f"{spec.name} in {environment.name}: {'; '.join(_problems(error))}") from None
    return data


def layered(by_environment: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Values of every environment as one common file and one file for what differs between environments.

    The common file is complete: where environments differ it holds the first one's value, so that a chart renders
    even when somebody forgets the second file, and then as the least of its environments.

    Args:
        by_environment: complete values by environment, in the order of promotion.

    Returns:
        The common values, and by environment those that are not the same in all.
    """
    first, *_ = by_environment.values()
    return dict(first), {
        name: _differing(values, list(by_environment.values())) for name, values in by_environment.items()
    }


def shortcomings(spec: TeamSpec, environment: Environment, values: Mapping[str, Any]) -> Iterator[str]:
    """What will not work in `environment` although the chart is right, one sentence each."""
    here = spec.for_environment(environment.name)
    rules = values["networkPolicy"]["egress"]
    needs = sorted(
        {f"the model of {llm.provider}" for llm in here.llm.chain() if llm.provider != "offline"}
        | {f"the MCP server {server.name!r}" for server in here.mcp if server.url}
    )
    where = f"{spec.name} in {environment.name}"
    if needs and (closed := _closed(rules)):
        yield f"{where}: nothing outside the organisation is reached, {' and '.join(needs)} neither: {closed}"
    for peer in rules["teams"]:
        if peer["namespace"] != environment.namespace_name:
            yield (
                f"{where}: {peer['team']} runs in the namespace {peer['namespace']}, which ELF_TEAM_URL does not "
                f"reach; keep teams that call each other in {environment.namespace_name}"
            )


def _closed(rules: Mapping[str, Any]) -> str:
    if rules["mode"] == "proxy" and not (rules["proxy"]["namespace"] or rules["proxy"]["cidr"]):
        return "egress.mode is proxy, and egress.proxy names none; name it, or choose another mode"
    if rules["mode"] == "cidr" and not rules["cidrs"]:
        return "egress.mode is cidr, and egress.cidrs is empty; add the networks"
    if rules["mode"] == "cilium-fqdn":
        return "egress.mode cilium-fqdn writes no policy for Cilium yet; choose proxy or cidr"
    return ""


def _differing(values: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    different: dict[str, Any] = {}
    for key, value in values.items():
        rest = [other[key] for other in others]
        if all(item == value for item in rest):
            continue
        different[key] = _differing(value, rest) if isinstance(value, Mapping) else value
    return different


def _secrets(spec: TeamSpec, environment: Environment) -> Iterator[dict[str, Any]]:
    """The team's own, then those that its model and its chat need and that it does not name itself."""
    own = {secret.name for secret in spec.secrets}
    for secret in spec.secrets:
        yield {
            "name": secret.name,
            "secret": secret.secret,
            "key": secret.key,
            "mount": secret.mount,
            "optional": False,
        }
    wanted: dict[str, tuple[str, str, Literal["file", "variable"], bool]] = {}
    for llm in spec.llm.chain():
        if llm.provider == "compatible":
            # An endpoint of one's own may want no key; a variable may be absent, a file that is named may not.
            wanted[key_variable(llm.provider)] = ("llm-api-keys", "compatible-api-key", "variable", True)
        elif llm.provider not in KEYLESS:
            wanted[key_variable(llm.provider)] = ("llm-api-keys", f"{llm.provider}-api-key", "file", False)
    # ELF_DATABASE_URL is not among them yet: one process serves a team on PostgreSQL, so a second replica, and with it
    # every rolling update, would wait for the first one to go.
    if environment.name == "dev":
        # A shared secret signs as well as it verifies; beyond dev an issuer signs. Without it only chat is closed.
        wanted["JWT_SECRET_KEY"] = ("elf-jwt", "jwt-secret-key", "variable", True)
    for name, (holder, key, mount, optional) in sorted(wanted.items()):
        if name not in own:
            yield {"name": name, "secret": holder, "key": key, "mount": mount, "optional": optional}


def _resources(spec: TeamSpec, defaults: _Defaults) -> dict[str, Any]:
    given = spec.resources
    cpu, memory, ephemeral = defaults.cpu, defaults.memory, defaults.ephemeral
    return {
        "requests": {
            "cpu": given.cpu_request or cpu[0],
            "memory": given.memory_request or memory[0],
            "ephemeral-storage": given.ephemeral_storage or ephemeral[0],
        },
        "limits": {
            "cpu": given.cpu_limit or _at_least(given.cpu_request, cpu[1]),
            "memory": given.memory_limit or _at_least(given.memory_request, memory[1]),
            "ephemeral-storage": given.ephemeral_storage or ephemeral[1],
        },
    }


_SUFFIXES: Final = {
    "": 1.0,
    "m": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "Ki": 2.0**10,
    "Mi": 2.0**20,
    "Gi": 2.0**30,
    "Ti": 2.0**40,
}


def _at_least(request: str | None, limit: str) -> str:
    """The default limit, or the request where that is more: Kubernetes refuses a request above its limit."""
    return request if request and _amount(request) > _amount(limit) else limit


def _amount(quantity: str) -> float:
    number = quantity.rstrip("mkMGTKi")
    return float(number) * _SUFFIXES[quantity[len(number) :]]


def _grace(spec: TeamSpec, defaults: _Defaults) -> int:
    run = min(int(duration_seconds(spec.runs.deadline)) or 1, defaults.drain_cap)
    return _PRE_STOP_SECONDS + run + _CLOSE_SECONDS


def _peers(peers: tuple[Peer, ...]) -> list[dict[str, Any]]:
    return [{"team": peer.team, "namespace": peer.namespace} for peer in sorted(peers, key=lambda peer: peer.team)]


def _gateways(organisation: Organisation) -> list[dict[str, Any]]:
    gateway = organisation.agent_gateway
    return [{"namespace": gateway.namespace, "labels": dict(sorted(gateway.labels.items()))}] if gateway else []


def _egress(
    spec: TeamSpec, organisation: Organisation, defaults: _Defaults, edges: Edges, *, ephemeral: bool
) -> dict[str, Any]:
    given, database = spec.egress, organisation.database
    proxy = given.proxy
    return {
        "mode": given.mode or defaults.egress,
        "teams": _peers(edges.callees),
        "store": {
            "enabled": not ephemeral,
            "port": database.port,
            "namespace": database.namespace or "",
            "cidrs": list(database.cidrs),
        },
        "proxy": {
            "host": proxy.host if proxy else "",
            "port": proxy.port if proxy else 443,
            "namespace": (proxy and proxy.namespace) or "",
            "cidr": (proxy and proxy.cidr) or "",
        },
        "hosts": list(given.hosts),
        "cidrs": list(given.cidrs),
    }


def _refuse_reserved(spec: TeamSpec, environment: Environment) -> None:
    for variable in spec.env:
        if variable.name in _RESERVED:
            raise BadInput(f"{spec.name} in {environment.name}: env: the chart itself sets {variable.name}; remove it")


def _problems(error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        where = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        yield f"{where}: {message}" if where else message
