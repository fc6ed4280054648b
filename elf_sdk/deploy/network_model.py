"""The values of a team's chart that come from the organisation: neighbours, the tokens for them, and policies."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

__all__ = ["EdgesValues", "NetworkPolicyValues", "WorkloadTokens"]

Name = Annotated[str, StringConstraints(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
Cidr = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F.:]+/[0-9]{1,3}$")]
Port = Annotated[int, Field(ge=1, le=65535)]
TokenSeconds = Annotated[int, Field(ge=600, le=86_400)]
ObjectName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", max_length=253)
]
DataKey = Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)]
HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^/?#@]+")]
Host = Annotated[str, StringConstraints(pattern=r"^(\*\.)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]


class _Values(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        use_attribute_docstrings=True,
    )


class CallerValues(_Values):
    """A team that may call."""

    team: Name
    """Its service account, and the label `app` of its pods."""
    namespace: Name
    relation: Literal["manages", "peers"]
    """Whether it is the team above, or one beside."""


class CalleeValues(_Values):
    """A team that may be called."""

    team: Name
    namespace: Name
    relation: Literal["manages", "peers"]
    """Whether it is a team below, or one beside."""
    url: HttpUrl
    """Where it answers."""
    audience: str
    """Of the token that is projected into the pod for it."""
    title: str
    """Of a team below, for the models that hand work to it; the same holds for its purpose."""
    purpose: str


class EdgesValues(_Values):
    """The organisation's edges in this environment, which policy, tokens, allow-list and addresses are written from."""

    callers: tuple[CallerValues, ...]
    callees: tuple[CalleeValues, ...]


class KeysConfigMap(_Values):
    """The ConfigMap with the keys, for `config-map`."""

    name: ObjectName
    key: DataKey


class WorkloadTokens(_Values):
    """The tokens with which teams call each other, one for each callee, and how those of callers are checked."""

    enabled: bool
    issuer: str
    """The cluster's, as in the `iss` of its tokens."""
    algorithm: Literal["RS256", "ES256"]
    keys: Literal["api-server", "issuer", "config-map"]
    """Where the issuer's keys come from."""
    jwks_url: HttpUrl | Literal[""]
    """For `issuer`; empty: as its OpenID configuration says."""
    config_map: KeysConfigMap
    expiration_seconds: TokenSeconds
    """Of a token; the kubelet renews it when four fifths are over."""


class Pods(_Values):
    """Pods of a namespace."""

    namespace: Name
    labels: dict[str, str]
    """None: every pod of the namespace."""


class Client(_Values):
    """Pods that may connect although they are no team."""

    what: str
    """For people; not used."""
    namespace: Name
    labels: dict[str, str]
    """None: every pod of the namespace."""
    port: Literal["http", "metrics"]


class IngressRules(_Values):
    """Who may connect beside `edges.callers`."""

    clients: tuple[Client, ...]


class Network(_Values):
    """A network, and what in it does not count."""

    cidr: Cidr
    excluded: Annotated[tuple[Cidr, ...], Field(alias="except")]


class PortRule(_Values):
    """A port behind a Service, not of the Service."""

    port: Port
    protocol: Literal["TCP", "UDP"]


class EgressRule(_Values):
    """One way out. Without pods and networks it leads to any address, without ports to any port; never both."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [{"properties": {name: {"minItems": 1}}} for name in ("pods", "networks", "ports")],
        }
    )

    what: str
    """For people; not used."""
    pods: tuple[Pods, ...]
    networks: tuple[Network, ...]
    ports: tuple[PortRule, ...]


class Proxy(_Values):
    """The HTTP proxy, as the process is told of it; empty where there is none, or the team sets these itself."""

    url: HttpUrl | Literal[""]
    """HTTPS_PROXY and HTTP_PROXY."""
    no_proxy: str
    """NO_PROXY: hosts with commas between, a dot before one that stands for all below it."""


class NamedHost(_Values):
    """A host that is reached by its name."""

    host: Host
    """With `*.` before it every name below."""
    port: Port


class Cilium(_Values):
    """A CiliumNetworkPolicy beside the NetworkPolicy, for what only Cilium can tell."""

    enabled: bool
    hosts: tuple[NamedHost, ...]
    api_server: bool
    """Whether the API server is reached, which Cilium does not know by its address."""
    dns: Pods
    """Whose answers say where a host is."""


class EgressRules(_Values):
    """What the team may reach beside `edges.callees`: each of its dependencies once."""

    rules: tuple[EgressRule, ...]
    proxy: Proxy
    cilium: Cilium


class NetworkPolicyValues(_Values):
    """The NetworkPolicy: what it does not name is refused, in and out."""

    enabled: bool
    ingress: IngressRules
    egress: EgressRules
