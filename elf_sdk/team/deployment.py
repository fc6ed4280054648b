"""How a team runs in a cluster: what its chart needs to know."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from elf_sdk.team.base import Frozen
from elf_sdk.team.kinds import (
    Bool,
    Cidr,
    EnvName,
    EnvValue,
    HostName,
    ImageName,
    KubernetesObject,
    Label,
    LabelKey,
    Labels,
    Port,
    Quantity,
    ResourceName,
    SecretKey,
    Url,
    Whole,
)

__all__ = [
    "Autoscaling",
    "Database",
    "Egress",
    "EgressProxy",
    "EnvVar",
    "Image",
    "MigrationRef",
    "Pod",
    "Resources",
    "SecretKeyRef",
    "SecretRef",
]


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


class MigrationRef(SecretKeyRef):
    """The key of a Secret with the address at which the schema is migrated."""

    port: Port | None = None
    """Its port, which network policies open. Default: the database's."""


class Database(Frozen):
    """Where the URL of the team's database is kept, as far as that is not as in elf.yaml."""

    secret: ResourceName | None = None
    """Another Secret, for a team with a role and a schema of its own."""
    key: SecretKey | None = None
    """Another key in it."""
    migrate: MigrationRef | None = None
    """Another address to migrate at."""


class EgressProxy(Frozen):
    """The one place that outgoing traffic may go to in mode `proxy`, found by its namespace or its network."""

    kind: Literal["forward", "gateway"] = "forward"
    """`forward`: an HTTP proxy, which the process is told of by HTTPS_PROXY. `gateway`: it answers like a model, and
    `llm.base_url` names it."""
    host: HostName = ""
    """Name of the proxy."""
    port: Port = 443
    """Port of the proxy, also behind its Service."""
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
    """More replicas when there is more to do; `replicas` is then where it begins."""

    enabled: Bool | None = None
    """Default: on in prod, unless the store is ephemeral or `replicas` is 0."""
    kind: Literal["hpa", "keda"] = "hpa"
    """A HorizontalPodAutoscaler, or a ScaledObject of KEDA."""
    min_replicas: Annotated[Whole, Field(ge=1)] | None = None
    """Default: the environment's replicas."""
    max_replicas: Annotated[Whole, Field(ge=1)] | None = None
    """Default: three times the minimum."""
    cpu_percent: Annotated[Whole, Field(ge=1, le=100)] = 70
    """Average use of `cpu_request` above which a replica is added."""
    prometheus: Url | None = None
    """With `keda`: the Prometheus that also counts the team's runs. Default: the processor's use alone."""
    runs_per_replica: Annotated[Whole, Field(ge=1)] | None = None
    """With `prometheus`: runs that work or wait, for each replica. Default: three quarters of `runs.concurrency`."""


class Pod(Frozen):
    """What else a pod is given. Lists hold objects as Kubernetes writes them, and stand behind the chart's own."""

    data_size: Quantity = "512Mi"
    """How much fits into /data, which is HOME."""
    tmp_size: Quantity = "256Mi"
    """How much fits into /tmp."""
    disruption_budget: Bool = True
    """Whether work on nodes may take only one replica at a time; from two replicas on."""
    priority_class: ResourceName | None = None
    """Which pods go first when a node is full. Default: the cluster's."""
    anti_affinity: Literal["preferred", "required"] = "preferred"
    """Whether two replicas may share a node when there is no other."""
    node_selector: Labels = Field(default_factory=dict)
    """Labels that a node must have."""
    tolerations: tuple[KubernetesObject, ...] = ()
    """Taints that the pod bears."""
    annotations: dict[LabelKey, EnvValue] = Field(default_factory=dict)
    """Further annotations of the pod."""
    env: tuple[KubernetesObject, ...] = ()
    """Variables that are not plain text, with `valueFrom`."""
    volumes: tuple[KubernetesObject, ...] = ()
    """Further volumes."""
    volume_mounts: tuple[KubernetesObject, ...] = ()
    """Where the team's container finds them."""
    containers: tuple[KubernetesObject, ...] = ()
    """Containers beside the team's."""
    init_containers: tuple[KubernetesObject, ...] = ()
    """Containers that end before it starts; those with `restartPolicy: Always` go on beside it."""
