"""How a team runs in a cluster: what its chart needs to know."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from elf_sdk.team.base import Frozen
from elf_sdk.team.kinds import (
    Bool,
    Cidr,
    Duration,
    EnvName,
    EnvValue,
    HostName,
    ImageName,
    Label,
    Port,
    Quantity,
    ResourceName,
    SecretKey,
    Whole,
)

__all__ = [
    "Autoscaling",
    "Egress",
    "EgressProxy",
    "EnvVar",
    "Image",
    "Ingress",
    "Monitoring",
    "Resources",
    "Route",
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
