"""The values of a team's pods: what each is given, how many there are, and how they come and go. Pure.

Every function takes `here`, the team with its environment merged in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from elf_sdk.deploy.defaults import Defaults
from elf_sdk.models.llm import KEYLESS
from elf_sdk.settings import key_variable
from elf_sdk.team.deployment import MigrationRef
from elf_sdk.team.kinds import duration_seconds, quantity_number
from elf_sdk.team.organisation import Environment, Organisation
from elf_sdk.team.spec import TeamSpec

__all__ = [
    "PRE_STOP_SECONDS",
    "additions",
    "autoscaling",
    "drain",
    "is_ephemeral",
    "migration",
    "replicas",
    "resources",
    "scheduling",
    "secrets",
    "store_ports",
    "unset_variables",
]

PRE_STOP_SECONDS: Final = 5
_CLOSE_SECONDS: Final = 40
"""What a process needs at most after its last run: 30 s for connections that do not close, and to end its workers."""

_FOOTPRINT: Final[Mapping[str, tuple[int, int]]] = {"function": (160, 24), "langgraph": (320, 30), "crewai": (576, 44)}
"""By framework, in MiB: server and fork server, and what a run has beside them (docs/topics/isolation.md)."""
_OTHER_FOOTPRINT: Final = (320, 44)


def replicas(here: TeamSpec, defaults: Defaults) -> int:
    """How many there are, or where an autoscaler begins."""
    return defaults.replicas if here.replicas is None else here.replicas


def is_ephemeral(here: TeamSpec, environment: Environment, defaults: Defaults) -> bool:
    """Whether runs are kept on the pod's own disk.

    A single replica of dev needs no database; as soon as there are two, they have to share one.
    """
    if here.runs.store != "default":
        return here.runs.store == "ephemeral"
    several = max(replicas(here, defaults), here.autoscaling.max_replicas or 0) > 1 or here.autoscaling.enabled
    return environment.name == "dev" and not several


def autoscaling(here: TeamSpec, defaults: Defaults, *, ephemeral: bool) -> dict[str, Any]:
    """The autoscaler; on by default where the environment says so and there is something to scale."""
    given, first = here.autoscaling, replicas(here, defaults)
    on = defaults.autoscaling and first > 0 and not ephemeral if given.enabled is None else given.enabled
    least = given.min_replicas or min(max(first, 1), given.max_replicas or 1000)
    return {
        "enabled": on,
        "kind": given.kind,
        "minReplicas": least,
        "maxReplicas": given.max_replicas or min(3 * least, 1000),
        "cpuPercent": given.cpu_percent,
        "scaleDownSeconds": 300,
        "keda": {
            "prometheus": given.prometheus or "",
            "runsPerReplica": given.runs_per_replica or max(1, here.runs.concurrency * 3 // 4),
            "triggers": [],
        },
    }


def resources(here: TeamSpec, defaults: Defaults) -> dict[str, Any]:
    """Requests and limits; memory has room for as many runs as work at once, each in a process of its own."""
    given = here.resources
    base, run = _FOOTPRINT.get(here.framework, _OTHER_FOOTPRINT)
    full = base + (run * here.runs.concurrency if here.runs.isolation == "process" else 0)
    memory = _more(defaults.memory[0], _mebi(base)), _more(defaults.memory[1], _mebi(-(-full // 128) * 128))
    requests = given.cpu_request or defaults.cpu[0], given.memory_request or memory[0]
    limits = (
        given.cpu_limit or _more(requests[0], defaults.cpu[1]),
        given.memory_limit or _more(requests[1], memory[1]),
    )
    disk = given.ephemeral_storage
    return {
        "requests": {
            # A request above its limit is refused by Kubernetes.
            "cpu": requests[0] if given.cpu_request else _less(requests[0], limits[0]),
            "memory": requests[1] if given.memory_request else _less(requests[1], limits[1]),
            "ephemeral-storage": disk or defaults.ephemeral[0],
        },
        "limits": {"cpu": limits[0], "memory": limits[1], "ephemeral-storage": disk or defaults.ephemeral[1]},
    }


def _mebi(number: int) -> str:
    return f"{number}Mi" if number % 1024 else f"{number // 1024}Gi"


def _more(one: str, other: str) -> str:
    return one if quantity_number(one) >= quantity_number(other) else other


def _less(one: str, other: str) -> str:
    return one if quantity_number(one) <= quantity_number(other) else other


def drain(here: TeamSpec, defaults: Defaults) -> dict[str, Any]:
    """How long a pod's end may take: as long as a run, up to the team's or the environment's bound."""
    if here.runs.drain is not None:
        runs = int(duration_seconds(here.runs.drain))
    else:
        runs = min(int(duration_seconds(here.runs.deadline)) or 1, defaults.drain_cap)
    return {
        "preStopSeconds": PRE_STOP_SECONDS,
        "runSeconds": min(runs, 86_400),
        "closeSeconds": _CLOSE_SECONDS,
    }


def secrets(
    here: TeamSpec, organisation: Organisation, environment: Environment, *, ephemeral: bool
) -> list[dict[str, Any]]:
    """The team's own, then those that its model, its store and its chat need and that it does not name itself."""
    own = {secret.name for secret in here.secrets}
    found = [
        {"name": secret.name, "secret": secret.secret, "key": secret.key, "mount": secret.mount, "optional": False}
        for secret in here.secrets
    ]
    for name, (holder, key, mount, optional) in sorted(_wanted(here, organisation, environment, ephemeral=ephemeral)):
        if name not in own:
            found.append({"name": name, "secret": holder, "key": key, "mount": mount, "optional": optional})
    return found


_Wanted = tuple[str, tuple[str, str, Literal["file", "variable"], bool]]


def _wanted(
    here: TeamSpec, organisation: Organisation, environment: Environment, *, ephemeral: bool
) -> Iterator[_Wanted]:
    providers = dict.fromkeys(llm.provider for llm in here.llm.chain())
    for provider in providers:
        if provider == "compatible":
            # An endpoint of one's own may want no key; a variable may be absent, a file that is named may not.
            yield key_variable(provider), ("llm-api-keys", "compatible-api-key", "variable", True)
        elif provider not in KEYLESS:
            yield key_variable(provider), ("llm-api-keys", f"{provider}-api-key", "file", False)
    if not ephemeral:
        yield "ELF_DATABASE_URL", (*_database(here, organisation), "file", False)
    if environment.name == "dev":
        # A shared secret signs as well as it verifies; beyond dev an issuer signs. Without it only chat is closed.
        yield "JWT_SECRET_KEY", ("elf-jwt", "jwt-secret-key", "variable", True)


def _database(here: TeamSpec, organisation: Organisation) -> tuple[str, str]:
    own = next((secret for secret in here.secrets if secret.name == "ELF_DATABASE_URL"), None)
    if own is not None:
        return own.secret, own.key
    return here.database.secret or organisation.database.secret, here.database.key or organisation.database.key


def store_ports(here: TeamSpec, organisation: Organisation, *, ephemeral: bool) -> tuple[int, ...]:
    """The ports of the database, that of its migration included; none where runs are on the pod's own disk."""
    direct = _direct(here, organisation)
    migrates = direct.port if direct and direct.port else organisation.database.port
    return () if ephemeral else tuple(dict.fromkeys((organisation.database.port, migrates)))


def _direct(here: TeamSpec, organisation: Organisation) -> MigrationRef | None:
    own_database = here.database.secret is not None
    # Who names a Secret for the team alone does not mean the organisation's for its migration.
    return here.database.migrate or (None if own_database else organisation.database.migrate)


def migration(here: TeamSpec, organisation: Organisation, *, ephemeral: bool) -> dict[str, Any]:
    """The init container that migrates the schema, by the address that is meant for that."""
    direct = _direct(here, organisation)
    secret, key = (direct.secret, direct.key) if direct else _database(here, organisation)
    return {"enabled": not ephemeral, "secret": secret, "key": key}


def unset_variables(here: TeamSpec) -> Iterator[tuple[str, str]]:
    """What MCP servers are given and nobody sets: the server's name, and the variable's."""
    known = {variable.name for variable in here.env}
    known |= {secret.name for secret in here.secrets}
    known |= {name for each in here.pod.env if isinstance(name := each.get("name"), str)}
    for server in here.mcp:
        for name in (*((server.token_env,) if server.token_env else ()), *server.env):
            if not {name, f"{name}_FILE"} & known:
                yield server.name, name


def scheduling(here: TeamSpec) -> dict[str, Any]:
    """Where pods go."""
    return {
        "priorityClassName": here.pod.priority_class or "",
        "antiAffinity": here.pod.anti_affinity,
        "nodeSelector": dict(sorted(here.pod.node_selector.items())),
        "tolerations": list(here.pod.tolerations),
        "unreachableSeconds": 30,
    }


def additions(here: TeamSpec) -> dict[str, Any]:
    """What else a pod is given."""
    return {
        "annotations": dict(sorted(here.pod.annotations.items())),
        "env": list(here.pod.env),
        "volumes": list(here.pod.volumes),
        "volumeMounts": list(here.pod.volume_mounts),
        "containers": list(here.pod.containers),
        "initContainers": list(here.pod.init_containers),
    }
