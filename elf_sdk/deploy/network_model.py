"""The values of a team's chart that come from the organisation: neighbours, the tokens for them, and policies."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints

from elf_sdk.deploy.values_kinds import Cidr, Labels, Name, Port, SecretKey, SecretName, ValuesModel

__all__ = ["EdgesValues", "IssuerValues", "NetworkPolicyValues", "WorkloadTokens"]

TokenSeconds = Annotated[int, Field(ge=600, le=86_400)]
HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^/?#@]+")]
Host = Annotated[str, StringConstraints(pattern=r"^(\*\.)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]


class CallerValues(ValuesModel):
    """A team that may call."""

    team: Name
    """Its service account, and the label `app` of its pods."""
    namespace: Name
    """Where it runs."""
    relation: Literal["manages", "peers"]
    """Whether it is the team above, or one beside."""


class CalleeValues(ValuesModel):
    """A team that may be called."""

    team: Name
    """Its Service."""
    namespace: Name
    """Where it runs."""
    relation: Literal["manages", "peers"]
    """Whether it is a team below, or one beside."""
    url: HttpUrl
    """Where it answers."""
    audience: str
    """Of the token that is projected into the pod for it."""
    title: str
    """Of a team below, for the models that hand work to it."""
    purpose: str
    """The same."""


class EdgesValues(ValuesModel):
    """The organisation's edges in this environment, which policy, tokens, allow-list and addresses are written from."""

    callers: tuple[CallerValues, ...]
    callees: tuple[CalleeValues, ...]


class KeysConfigMap(ValuesModel):
    """A ConfigMap with public keys, a JWK Set."""

    name: SecretName | Literal[""]
    """Its name."""
    key: SecretKey | Literal[""]
    """Key in it."""


class IssuerValues(ValuesModel):
    """Who signs people's tokens."""

    url: HttpUrl | Literal[""]
    """As in the `iss` of its tokens; empty for nobody."""
    algorithm: Literal["EdDSA", "ES256", "RS256"]
    """The only one that they are signed with."""
    jwks_url: HttpUrl | Literal[""]
    """Where its keys are; empty: in the ConfigMap, or as its OpenID configuration says."""
    config_map: KeysConfigMap
    """Goes before the address where it has a name."""


class WorkloadTokens(ValuesModel):
    """The tokens with which teams call each other, one for each callee, and how those of callers are checked."""

    enabled: bool
    """Whether there are any."""
    issuer: str
    """The cluster's, as in the `iss` of its tokens."""
    algorithm: Literal["RS256", "ES256"]
    """The only one that they are signed with."""
    keys: Literal["api-server", "issuer", "config-map"]
    """Where the issuer's keys come from."""
    jwks_url: HttpUrl | Literal[""]
    """For `issuer`; empty: as its OpenID configuration says."""
    config_map: KeysConfigMap
    """For `config-map`."""
    expiration_seconds: TokenSeconds
    """Of a token; the kubelet renews it when four fifths are over."""


class Pods(ValuesModel):
    """Pods of a namespace."""

    namespace: Name
    """Where they are."""
    labels: Labels
    """None: every pod of the namespace."""


class Client(ValuesModel):
    """Pods that may connect although they are no team."""

    what: str
    """For people; not used."""
    namespace: Name
    """Where they are."""
    labels: Labels
    """None: every pod of the namespace."""


class IngressRules(ValuesModel):
    """Who may connect beside `edges.callers`, and what `ingress`, `httpRoute`, `monitoring` and `test` let in."""

    clients: tuple[Client, ...]


class Network(ValuesModel):
    """A network, and what in it does not count."""

    cidr: Cidr
    """The network."""
    excluded: Annotated[tuple[Cidr, ...], Field(alias="except")]
    """What in it is not reached."""


class PortRule(ValuesModel):
    """A port behind a Service, not of the Service."""

    port: Port
    """Its number."""
    protocol: Literal["TCP", "UDP"]
    """Its protocol."""


class EgressRule(ValuesModel):
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


class Proxy(ValuesModel):
    """The HTTP proxy, as the process is told of it; empty where there is none, or the team sets these itself."""

    url: HttpUrl | Literal[""]
    """HTTPS_PROXY and HTTP_PROXY."""
    no_proxy: str
    """NO_PROXY: hosts with commas between, a dot before one that stands for all below it."""


class NamedHost(ValuesModel):
    """A host that is reached by its name."""

    host: Host
    """With `*.` before it every name below."""
    port: Port
    """Its port."""


class Cilium(ValuesModel):
    """A CiliumNetworkPolicy beside the NetworkPolicy, for what only Cilium can tell."""

    enabled: bool
    """Whether there is one."""
    hosts: tuple[NamedHost, ...]
    api_server: bool
    """Whether the API server is reached, which Cilium does not know by its address."""


class EgressRules(ValuesModel):
    """What the team may reach beside `edges.callees`: each of its dependencies once."""

    dns: EgressRule
    """Where names are resolved, for the test too."""
    rules: tuple[EgressRule, ...]
    proxy: Proxy
    cilium: Cilium


class NetworkPolicyValues(ValuesModel):
    """The NetworkPolicy: what it does not name is refused, in and out."""

    enabled: bool
    """Whether there is one; without it everybody reaches the team, and the team everybody."""
    ingress: IngressRules
    egress: EgressRules
