"""Values of what is around the pods: Service, Ingress, HTTPRoute, monitor, Secrets from a store, and the test."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from elf_sdk.deploy.values_kinds import (
    Host,
    Interval,
    Labels,
    Name,
    Seconds,
    SecretKey,
    SecretName,
    ValuesModel,
)

__all__ = ["ExternalSecrets", "HttpRoute", "Ingress", "Monitoring", "ServiceValues", "Test"]


class ServiceValues(ValuesModel):
    """The Service."""

    app_protocol: str
    """A hint for gateways, such as `kubernetes.io/ws`; empty for none."""
    grpc_app_protocol: str
    """The same for the port of gRPC, where there is one."""


class Controller(ValuesModel):
    """The pods that connections come through, which the network policy lets in."""

    namespace: Name
    """Where they are."""
    labels: Labels
    """Empty for all pods of the namespace."""


class Ingress(ValuesModel):
    """The Ingress."""

    enabled: bool
    """Whether there is one."""
    class_name: SecretName
    """With `nginx` and `traefik` come the annotations that keep a chat open."""
    host: Host
    """The name that it answers to."""
    tls_secret: SecretName | Literal[""]
    """Holds the certificate; empty for none."""
    timeout_seconds: Seconds
    """How long a connection may be without a byte."""
    annotations: Labels
    """Further ones, which go before the chart's own."""
    controller: Controller
    """Where its connections come from."""


class HttpRoute(ValuesModel):
    """The HTTPRoute of the Gateway API."""

    enabled: bool
    """Whether there is one."""
    parent: SecretName
    """Name of the Gateway."""
    parent_namespace: Name
    """Namespace of the Gateway."""
    section: SecretName | Literal[""]
    """The Gateway's listener; empty for all."""
    host: Host
    """The name that it answers to."""
    timeout_seconds: Annotated[int, Field(ge=0, le=86_400)]
    """How long a request may take, streams and chats included; 0 for without end."""
    controller: Controller
    """Where its connections come from."""


class Monitoring(ValuesModel):
    """The ServiceMonitor or PodMonitor of the Prometheus Operator."""

    enabled: bool
    """Whether there is one."""
    kind: Literal["ServiceMonitor", "PodMonitor"]
    """Which of them."""
    interval: Interval
    """Between two scrapes."""
    labels: Labels
    """Labels of the monitor, by which a Prometheus chooses what it scrapes."""
    namespace: Name
    """Where Prometheus runs; the network policy lets it reach the port."""


class ExternalSecret(ValuesModel):
    """A Secret that is filled from the store."""

    name: SecretName
    """Name of the ExternalSecret and of the Secret."""
    path: Annotated[str, Field(min_length=1)]
    """Where it is in the store; each key is a property there."""
    keys: tuple[SecretKey, ...]
    """Keys of the Secret."""


class ExternalSecrets(ValuesModel):
    """ExternalSecrets of the External Secrets Operator; the Secrets belong to this team alone."""

    enabled: bool
    """Whether there is one."""
    store: SecretName | Literal[""]
    """Name of the store."""
    kind: Literal["SecretStore", "ClusterSecretStore"]
    """Whether the store is in this namespace, or of the whole cluster."""
    refresh: Interval
    """How often a Secret is read again."""
    secrets: tuple[ExternalSecret, ...]


class Test(ValuesModel):
    """`helm test`: a pod of the team's own image that asks it something through its Service."""

    enabled: bool
    """Whether there is one."""
    message: Annotated[str, Field(min_length=1)]
    """What is asked."""
    seconds: Seconds
    """How long the answer may take."""
    secret: SecretName | Literal[""]
    """Holds a token to ask with. Empty: JWT_SECRET_KEY signs one where the team has it, else the team's own workload
    token serves."""
    key: SecretKey | Literal[""]
    """Key in it."""
