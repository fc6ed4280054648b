"""What does not fit together in how a team runs in a cluster, although each field is right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from elf_sdk.team.access import Ingress, Route, Serving
from elf_sdk.team.base import Location
from elf_sdk.team.deployment import Autoscaling, Egress, EnvVar, Pod, Resources
from elf_sdk.team.kinds import quantity_number

__all__ = ["MAIN_PORT", "clashes"]

MAIN_PORT: Final = 8000
"""Where every team serves in a cluster: others find it by its name alone."""

_SETTINGS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("ELF_ENVIRONMENT", "ELF_HOST", "ELF_NAMESPACE", "ELF_ORGANISATION", "ELF_PORT", "HOME"), ""),
    **dict.fromkeys(("ELF_EDGES_FILE", "ELF_IMAGE_DIGEST", "ELF_STORE", "ELF_TEAM_TOKENS", "ELF_TEAM_URL"), ""),
    **dict.fromkeys(
        (
            "ELF_WORKLOAD_ISSUER",
            "ELF_WORKLOAD_JWKS_ALGORITHM",
            "ELF_WORKLOAD_JWKS_CA_FILE",
            "ELF_WORKLOAD_JWKS_FILE",
            "ELF_WORKLOAD_JWKS_TOKEN_FILE",
            "ELF_WORKLOAD_JWKS_URL",
        ),
        "clusters[].workload_issuer in elf.yaml",
    ),
    **dict.fromkeys(("ELF_ISSUER", "ELF_JWKS_ALGORITHM", "ELF_JWKS_FILE", "ELF_JWKS_URL"), "issuer in elf.yaml"),
    "ELF_DATABASE_URL": "database",
    "ELF_DRAIN_SECONDS": "runs.drain",
    "ELF_GRPC_PORT": "serving.grpc_port",
    "ELF_LOG_LEVEL": "serving.log_level",
    "ELF_METRICS_PORT": "serving.metrics_port",
    "ELF_PUBLIC_URL": "serving.public_url",
    "ELF_PUSH_ALLOW": "serving.push_allow",
    "ELF_TRUSTED_PROXIES": "serving.trusted_proxies",
}
"""Variables that the chart sets, and the field that says to what."""
_VOLUMES: Final = frozenset({"data", "tmp", "secrets", "migration", "workload"})
_CONTAINERS: Final = frozenset({"team", "migrate"})
_PLACES: Final = ("/data", "/tmp", "/run/elf", "/run/secrets", "/run/secrets/elf")  # noqa: S108 - mount paths in the pod


def clashes(
    *,
    replicas: int | None,
    ephemeral: bool,
    env: Sequence[EnvVar],
    resources: Resources,
    autoscaling: Autoscaling,
    ingress: Ingress,
    gateway: Route,
    serving: Serving,
    egress: Egress,
    pod: Pod,
) -> Iterator[tuple[Location, str]]:
    """Each field's path, and what to write instead.

    Args:
        replicas: as the team says; None: the environment's.
        ephemeral: whether runs are kept on the pod's own disk.
        env: variables of the process.
        resources: of one replica.
        autoscaling: of the team, as all that follows.
        ingress: an Ingress.
        gateway: an HTTPRoute.
        serving: ports and addresses.
        egress: what is reached outside.
        pod: what else a pod is given.
    """
    for index, variable in enumerate(env):
        if variable.name in _SETTINGS:
            field = _SETTINGS[variable.name]
            remedy = f"write {field} instead" if field else "remove it"
            yield ("env", index, "name"), f"in a cluster the chart sets {variable.name} itself; {remedy}"
    yield from _scaling(autoscaling, replicas, ephemeral=ephemeral)
    for kind in ("cpu", "memory"):
        request, limit = getattr(resources, f"{kind}_request"), getattr(resources, f"{kind}_limit")
        if request and limit and quantity_number(request) > quantity_number(limit):
            yield (
                ("resources", f"{kind}_request"),
                f"{request} is more than {kind}_limit, {limit}; write at most that",
            )
    if ingress.enabled and not ingress.host:
        yield ("ingress", "enabled"), "an Ingress without a host answers to every name; write its host too"
    if gateway.enabled and not gateway.host:
        yield ("gateway", "enabled"), "a route without a host answers to every name; write its host too"
    ports = {MAIN_PORT: "the team's main port"}
    for name in ("metrics_port", "grpc_port"):
        port = getattr(serving, name)
        if port in ports:
            yield ("serving", name), f"{port} is {ports[port]} already; write another"
        elif port is not None:
            ports[port] = name
    proxy = egress.proxy
    if proxy is not None and proxy.namespace is None and proxy.cidr is None:
        yield ("egress", "proxy"), "a network policy finds no proxy by its host; write its namespace or its cidr too"
    yield from _pod(pod)


def _scaling(scaling: Autoscaling, replicas: int | None, *, ephemeral: bool) -> Iterator[tuple[Location, str]]:
    least, most = scaling.min_replicas, scaling.max_replicas
    if least and most and least > most:
        yield ("autoscaling", "min_replicas"), f"{least} is more than max_replicas, {most}; write at most that"
    elif least is None and most and replicas and replicas > most:
        yield ("autoscaling", "max_replicas"), f"{most} is less than replicas, {replicas}; write at least that"
    if scaling.enabled and replicas == 0:
        yield ("autoscaling", "enabled"), "an autoscaler keeps at least one replica; write false, or no replicas: 0"
    if scaling.kind == "hpa" and scaling.prometheus is not None:
        yield ("autoscaling", "prometheus"), "only KEDA asks a Prometheus; write kind: keda as well, or remove it"
    if ephemeral and (scaling.enabled or max(replicas or 0, most or 0) > 1):
        yield (
            ("runs", "store"),
            "an ephemeral store serves one replica only; write replicas: 1 and no autoscaling, or store: default",
        )


def _pod(pod: Pod) -> Iterator[tuple[Location, str]]:
    for field, key, reserved in (
        ("env", "name", frozenset[str]()),
        ("volumes", "name", _VOLUMES),
        ("containers", "name", _CONTAINERS),
        ("init_containers", "name", _CONTAINERS),
    ):
        seen: set[str] = set()
        for index, each in enumerate(getattr(pod, field)):
            where: Location = ("pod", field, index)
            name = each.get(key)
            if not isinstance(name, str) or not name:
                yield where, f"it has no {key}; write one"
            elif name in reserved:
                yield where, f"{name!r} is the chart's own; write another name"
            elif name in seen:
                yield where, f"{name!r} is there twice; remove one"
            else:
                seen.add(name)
    known = {volume.get("name") for volume in pod.volumes} | _VOLUMES
    for index, mount in enumerate(pod.volume_mounts):
        where = ("pod", "volume_mounts", index)
        path = mount.get("mountPath")
        if not isinstance(path, str) or not path.startswith("/"):
            yield where, "it has no mountPath; write the absolute path at which the volume is found"
        elif path.rstrip("/") in _PLACES:
            yield where, f"{path!r} is the chart's own; write another place"
        if mount.get("name") not in known:
            yield where, f"there is no volume {mount.get('name')!r}; add it under pod.volumes"
