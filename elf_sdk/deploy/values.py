"""From a team to the values of its chart: what the team says, what the organisation says, and what an environment is.

Pure: no files, no processes, no network. Rendering and proving is the business of `chart`, `helm` and `kubernetes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from elf_sdk.deploy import surroundings, workload
from elf_sdk.deploy.defaults import defaults_of
from elf_sdk.deploy.egress import egress_of
from elf_sdk.deploy.network import network_values
from elf_sdk.deploy.reference import image_of, repository_of
from elf_sdk.deploy.values_model import Values
from elf_sdk.errors import BadInput
from elf_sdk.team.clashes import MAIN_PORT
from elf_sdk.team.edges import Edges
from elf_sdk.team.organisation import Environment, Organisation
from elf_sdk.team.spec import TeamSpec

__all__ = ["differing", "layered", "shortcomings", "team_values"]


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
    defaults, gateway = defaults_of(environment.name), organisation.agent_gateway
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
            "repository": image.repository,
            "tag": image.tag,
            "digest": digest,
            "pullPolicy": "IfNotPresent",
            "pullSecrets": list(here.image.pull_secrets),
        },
        "replicas": workload.replicas(here, defaults),
        "settings": {
            "logLevel": here.serving.log_level or defaults.log_level,
            "store": "/data/elf.db",
            "teamUrl": f"http://{{team}}.{namespace}.svc:{MAIN_PORT}",
            "publicUrl": here.serving.public_url or (gateway.url_of(spec.name) if gateway else ""),
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
            # A framework's import takes seconds, and minutes on a node where all teams begin at once: five minutes to
            # start, for a process that cannot start ends by itself; then a minute of silence.
            "startup": {"periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 150},
            "liveness": {"periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
            "readiness": {"periodSeconds": 5, "timeoutSeconds": 3, "failureThreshold": 2},
        },
        "drain": workload.drain(here, defaults),
        "volumes": {"dataSize": here.pod.data_size, "tmpSize": here.pod.tmp_size},
        "scheduling": workload.scheduling(here),
        "extra": workload.additions(here),
        "autoscaling": workload.autoscaling(here, defaults, ephemeral=ephemeral),
        "podDisruptionBudget": {"enabled": here.pod.disruption_budget, "maxUnavailable": 1},
        "service": {"appProtocol": here.serving.app_protocol or "", "grpcAppProtocol": "kubernetes.io/h2c"},
        "ingress": surroundings.ingress(here),
        "httpRoute": surroundings.http_route(here, namespace),
        "monitoring": surroundings.monitoring(here),
        "externalSecrets": surroundings.external_secrets(
            here, organisation, environment, [*owned, *([owned_migration] if owned_migration["enabled"] else [])]
        ),
        "test": surroundings.conversation(),
        **network_values(
            spec, organisation, environment, edges, workload.store_ports(here, organisation, ephemeral=ephemeral)
        ),
    }
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
        name: differing(values, list(by_environment.values())) for name, values in by_environment.items()
    }


def shortcomings(
    spec: TeamSpec, organisation: Organisation, environment: Environment, edges: Edges, digest: str = ""
) -> Iterator[str]:
    """What will not work in `environment` although the chart is right, one sentence each; arguments as above."""
    where, here = f"{spec.name} in {environment.name}", spec.for_environment(environment.name)
    egress = egress_of(spec, organisation, environment, edges)
    unreached: dict[str, list[str]] = {}
    for dependency in egress.table:
        if dependency.needed and (reason := egress.closed(dependency)):
            unreached.setdefault(reason, []).append(dependency.what)
    for reason, what in unreached.items():
        yield f"{where}: {' and '.join(dict.fromkeys(what))} cannot be reached: {reason}"
    for absent in edges.absent:
        yield f"{where}: {absent.team} {absent.reason}, so neither can call the other there"
    for server, variable in workload.unset_variables(here):
        yield f"{where}: the MCP server {server!r} is given {variable}, which has no value; add it to secrets or to env"
    if digest and repository_of(here, organisation) == spec.name:
        yield (
            f"{where}: the image goes by digest and is in no registry, so nodes ask Docker Hub for it; name the one "
            "that it was pushed to: registry in elf.yaml, or DOCKER_REGISTRY"
        )


def differing(values: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is not the same in all of `others`, to be said on top of the first so that both together are `values`.

    A key that the first has and `values` has not is null, with which Helm takes it away.
    """
    different: dict[str, Any] = {}
    for key, value in values.items():
        rest = [other.get(key) for other in others]
        if all(item == value for item in rest):
            continue
        if isinstance(value, Mapping):
            different[key] = differing(value, [item if isinstance(item, Mapping) else {} for item in rest])
        else:
            different[key] = value
    return different | dict.fromkeys(key for key in others[0] if key not in values)


def _problems(error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        where = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        yield f"{where}: {message}" if where else message
