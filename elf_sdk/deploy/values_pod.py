"""Values of the pods: where runs are kept, what a pod may use, how it starts and ends, where it goes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from elf_sdk.deploy.values_kinds import (
    KubernetesObject,
    Labels,
    Port,
    Quantity,
    Seconds,
    SecretKey,
    SecretName,
    ValuesModel,
)

__all__ = ["Drain", "Extra", "Migration", "Ports", "Probes", "ResourceRequirements", "Scheduling", "Store", "Volumes"]


class Store(ValuesModel):
    """Where runs are kept."""

    kind: Literal["postgres", "ephemeral"]
    """`ephemeral` is the pod's own disk: one replica, lost with the pod."""


class Migration(ValuesModel):
    """The init container that brings the schema to the image's release; pods that start at once wait for each other."""

    enabled: bool
    """Whether there is one."""
    secret: SecretName
    """Holds the URL, which is the server's own and not a pooler's."""
    key: SecretKey
    """Key in it."""


class Ports(ValuesModel):
    """The process's ports beside its main one, 8000."""

    grpc: Annotated[int, Field(ge=0, le=65535)]
    """A2A over gRPC; 0 for none."""
    metrics: Port
    """`/metrics`, which asks nobody for a token: the network policy guards it."""


Quantities = dict[Literal["cpu", "memory", "ephemeral-storage"], Quantity]


class ResourceRequirements(ValuesModel):
    """Resources of one replica, as Kubernetes writes them: cpu, memory, ephemeral-storage."""

    requests: Quantities
    """What is kept free."""
    limits: Quantities
    """What it may use at most; with more memory it is killed."""


class Probe(ValuesModel):
    """The timing of a probe."""

    period_seconds: Seconds
    """Between two of them."""
    timeout_seconds: Seconds
    """For the answer."""
    failure_threshold: Annotated[int, Field(ge=1)]
    """How many failures in a row count."""


class Probes(ValuesModel):
    """`/startupz`, `/livez` and `/readyz`: started once, alive, ready for requests."""

    startup: Probe
    liveness: Probe
    readiness: Probe


class Drain(ValuesModel):
    """How a pod ends. Its grace period is the sum of the three, so that none of them is cut off."""

    pre_stop_seconds: Seconds
    """It still answers for this long, until all endpoints have forgotten it."""
    run_seconds: Annotated[int, Field(ge=0, le=86_400)]
    """Then runs that no other replica can go on with have this long to end (`ELF_DRAIN_SECONDS`)."""
    close_seconds: Seconds
    """Then connections and processes are closed."""


class Volumes(ValuesModel):
    """The two places that can be written; both are lost with the pod."""

    data_size: Quantity
    """/data, which is also HOME."""
    tmp_size: Quantity
    """/tmp."""  # noqa: S108 - the mount path in the pod


class Scheduling(ValuesModel):
    """Where pods go. Replicas are spread over nodes and zones as far as there are any."""

    priority_class_name: SecretName | Literal[""]
    """Which pods go first when a node is full; empty for the cluster's default."""
    anti_affinity: Literal["preferred", "required"]
    """Whether two replicas may share a node when there is no other."""
    node_selector: Labels
    """Labels that a node must have."""
    tolerations: tuple[KubernetesObject, ...]
    """Taints that the pod bears, as Kubernetes writes them."""
    unreachable_seconds: Seconds
    """A pod is replaced when its node was out of reach for this long; its runs are taken over much earlier."""


class Extra(ValuesModel):
    """What else a pod is given, as Kubernetes writes it."""

    annotations: Labels
    """Annotations of the pod."""
    env: tuple[KubernetesObject, ...]
    """Variables with `valueFrom`; plain ones belong in `env`."""
    volumes: tuple[KubernetesObject, ...]
    """Further volumes."""
    volume_mounts: tuple[KubernetesObject, ...]
    """Of the team's container."""
    containers: tuple[KubernetesObject, ...]
    """Beside the team's."""
    init_containers: tuple[KubernetesObject, ...]
    """After the migration's."""
