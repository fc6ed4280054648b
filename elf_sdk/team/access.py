"""How a team is reached from outside: its ports and addresses, what stands in front of it, and who measures it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from elf_sdk.team.base import Frozen
from elf_sdk.team.kinds import (
    Bool,
    Cidr,
    Duration,
    EnvValue,
    HostName,
    Label,
    LabelKey,
    Labels,
    Name,
    Port,
    PushTarget,
    ResourceName,
    Url,
)

__all__ = ["Controller", "Ingress", "Monitoring", "Route", "Serving"]


class Serving(Frozen):
    """What the team's process is told of its surroundings. Its main port is 8000."""

    log_level: Literal["debug", "info", "warning", "error"] | None = None
    """From which level up logs are written. Default: `debug` in dev, `info` elsewhere."""
    public_url: Url | None = None
    """The team's address as others see it. Default: as the request says."""
    trusted_proxies: tuple[Cidr, ...] = ()
    """Networks whose forwarding headers are believed."""
    push_allow: tuple[PushTarget, ...] = ()
    """What push notifications may go to although it is not public: hosts, addresses and networks, with `http://` before
    one where it has no HTTPS."""
    grpc_port: Port | None = None
    """A port for A2A over gRPC. Default: none, and then there is no gRPC."""
    metrics_port: Port = 9464
    """The port for `/metrics`."""
    app_protocol: Name | None = None
    """A hint for gateways about the Service's main port, such as `kubernetes.io/ws`."""


class Controller(Frozen):
    """The pods that connections from outside come through, which the network policy lets in."""

    namespace: Label
    """Where they are."""
    labels: Labels = Field(default_factory=dict)
    """Their labels. Default: all pods of the namespace."""


class Ingress(Frozen):
    """A Kubernetes Ingress in front of the team."""

    enabled: Bool = False
    """Whether there is one."""
    class_name: ResourceName = "nginx"
    """The ingress class; with `nginx` and `traefik` come the annotations that keep a chat open."""
    host: HostName = ""
    """The name that it answers to."""
    tls_secret: ResourceName | None = None
    """The Secret with its certificate."""
    timeout: Duration = "1h"
    """How long a connection may be without a byte; a chat that is idle carries one every 20 s."""
    annotations: dict[LabelKey, EnvValue] = Field(default_factory=dict)
    """Further annotations, which go before the chart's own."""
    controller: Controller | None = None
    """Its controller. Default: all pods of the namespace `ingress-nginx` for the class `nginx`, and of one named as
    the class for any other."""


class Route(Frozen):
    """A Gateway API HTTPRoute in front of the team."""

    enabled: Bool = False
    """Whether there is one."""
    parent: ResourceName = "gateway"
    """Name of the Gateway."""
    parent_namespace: Label | None = None
    """Namespace of the Gateway. Default: the team's own."""
    section: ResourceName | None = None
    """The Gateway's listener. Default: all of them."""
    host: HostName = ""
    """The name that it answers to."""
    timeout: Duration | None = None
    """How long a request may take, streams and chats included. Default: without end."""
    controller: Controller | None = None
    """The Gateway's pods. Default: all pods of its namespace."""


class Monitoring(Frozen):
    """How Prometheus finds the team, by objects of its operator."""

    enabled: Bool = False
    """Whether the chart has a monitor."""
    kind: Literal["ServiceMonitor", "PodMonitor"] = "ServiceMonitor"
    """The kind of monitor."""
    interval: Duration = "30s"
    """Between two scrapes."""
    labels: Labels = Field(default_factory=dict)
    """Labels of the monitor, by which a Prometheus chooses what it scrapes."""
    namespace: Label = "monitoring"
    """Where Prometheus runs; the network policy lets it reach the port."""
