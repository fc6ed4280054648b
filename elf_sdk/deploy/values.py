"""From a team to the values of its chart: what the team says, what the organisation says, and what an environment is.

Pure: no files, no processes, no network. Rendering and proving is the business of `chart`, `helm` and `kubernetes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from elf_sdk.deploy import surroundings, workload
from elf_sdk.deploy.defaults import Defaults, defaults_of
from elf_sdk.deploy.values_model import Peer, Values
from elf_sdk.errors import BadInput
from elf_sdk.team.clashes import MAIN_PORT
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


_RESERVED: Final[Mapping[str, str]] = {
    **dict.fromkeys(("ELF_ENVIRONMENT", "ELF_HOST", "ELF_NAMESPACE", "ELF_ORGANISATION", "ELF_PORT", "HOME"), ""),
    **dict.fromkeys(("ELF_LOG_LEVEL", "ELF_STORE", "ELF_TEAM_URL"), ""),
    "ELF_DATABASE_URL": "database",
    "ELF_DRAIN_SECONDS": "runs.drain",
    "ELF_GRPC_PORT": "serving.grpc_port",
    "ELF_METRICS_PORT": "serving.metrics_port",
    "ELF_PUBLIC_URL": "serving.public_url",
    "ELF_PUSH_ALLOW": "serving.push_allow",
    "ELF_TRUSTED_PROXIES": "serving.trusted_proxies",
}
"""Variables that the chart writes, and the field that says what."""


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
    defaults = defaults_of(environment.name)
    ephemeral = workload.is_ephemeral(here, environment, defaults)
    entries = workload.secrets(here, organisation, environment, ephemeral=ephemeral)
    migration = workload.migration(here, organisation, ephemeral=ephemeral)
    *owned, owned_migration = surroundings.owned_secrets(here, organisation, [*entries, migration])
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
            "repository": _repository(here, organisation),
            "tag": spec.version,
            "digest": digest,
            "pullPolicy": "IfNotPresent",
            "pullSecrets": list(here.image.pull_secrets),
        },
        "replicas": workload.replicas(here, defaults),
        "settings": {
            "logLevel": defaults.log_level,
            "store": "/data/elf.db",
            "teamUrl": f"http://{{team}}.{environment.namespace_name}.svc:{MAIN_PORT}",
            "publicUrl": here.serving.public_url or "",
            "trustedProxies": list(here.serving.trusted_proxies),
            "pushAllow": list(here.serving.push_allow),
        },
        "env": [{"name": variable.name, "value": variable.value} for variable in here.env],
        "secrets": owned,
        "store": {"kind": "ephemeral" if ephemeral else "postgres"},
        "migration": owned_migration,
        "ports": {"grpc": here.serving.grpc_port or 0, "metrics": here.serving.metrics_port},
        "resources": workload.resources(here, defaults),
        "probes": {
            # A framework's import takes seconds on a busy node: two minutes to start, then a minute of silence.
            "startup": {"periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 60},
            "liveness": {"periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
            "readiness": {"periodSeconds": 5, "timeoutSeconds": 3, "failureThreshold": 2},
        },
        "drain": workload.drain(here, defaults),
        "volumes": {"dataSize": "512Mi", "tmpSize": "256Mi"},
        "scheduling": workload.scheduling(here),
        "extra": workload.additions(here),
        "autoscaling": workload.autoscaling(here, defaults, ephemeral=ephemeral),
        "podDisruptionBudget": {"enabled": True, "maxUnavailable": 1},
        "service": {"appProtocol": "", "grpcAppProtocol": "kubernetes.io/h2c"},
        "ingress": surroundings.ingress(here),
        "httpRoute": surroundings.http_route(here, namespace),
        "monitoring": surroundings.monitoring(here),
        "externalSecrets": surroundings.external_secrets(
            here, organisation, environment, [*owned, *([owned_migration] if owned_migration["enabled"] else [])]
        ),
        "test": surroundings.conversation(),
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


def _repository(spec: TeamSpec, organisation: Organisation) -> str:
    registry = spec.image.registry if spec.image.registry is not None else organisation.registry
    return f"{registry.rstrip('/')}/{spec.name}" if registry else spec.name


def _peers(peers: tuple[Peer, ...]) -> list[dict[str, Any]]:
    return [{"team": peer.team, "namespace": peer.namespace} for peer in sorted(peers, key=lambda peer: peer.team)]


def _gateways(organisation: Organisation) -> list[dict[str, Any]]:
    gateway = organisation.agent_gateway
    return [{"namespace": gateway.namespace, "labels": dict(sorted(gateway.labels.items()))}] if gateway else []


def _egress(
    spec: TeamSpec, organisation: Organisation, defaults: Defaults, edges: Edges, *, ephemeral: bool
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
            field = _RESERVED[variable.name]
            remedy = f"write {field} instead" if field else "remove it"
            raise BadInput(f"{spec.name} in {environment.name}: env: the chart itself sets {variable.name}; {remedy}")


def _problems(error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        where = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        yield f"{where}: {message}" if where else message
