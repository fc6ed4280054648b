"""What a team's process reaches out to, each thing once: policies, warnings and tests are made from this table.

A network policy knows addresses and pods, and no names. So each dependency stands either in a known place, which gets
a rule of its own, or is known by its host alone, and then the team's egress mode decides. Pure.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from elf_sdk.deploy.defaults import defaults_of
from elf_sdk.models.llm import BASE_URLS
from elf_sdk.team.clashes import MAIN_PORT
from elf_sdk.team.deployment import EgressProxy
from elf_sdk.team.edges import Edges
from elf_sdk.team.organisation import Environment, Organisation
from elf_sdk.team.spec import TeamSpec

__all__ = ["Dependency", "Egress", "Kind", "Place", "egress_of"]

Kind: TypeAlias = Literal["dns", "team", "store", "keys", "model", "mcp", "telemetry", "push"]
"""Name resolution; another team; the database; the keys of callers' tokens; a model; an MCP server; an OTLP collector;
the receivers of push notifications."""

Mode: TypeAlias = Literal["proxy", "cidr", "cilium-fqdn", "open"]
Ports: TypeAlias = tuple[tuple[int, str], ...]
"""Numbers, each with TCP or UDP."""

_SERVICE: Final = re.compile(r"[a-z0-9-]+\.([a-z0-9-]+)\.svc(\..+)?")
_HERE: Final = re.compile(r"[a-z0-9-]+")
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_OTLP: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROXY_VARIABLES: Final = frozenset(
    {"HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy", "ALL_PROXY", "all_proxy"}
)
_HTTPS: Final = 443

_NOT_PUBLIC: Final = {
    "0.0.0.0/0": (
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.168.0.0/16",
    ),
    "::/0": ("::1/128", "fc00::/7", "fe80::/10"),
}
"""All addresses, and those among them that are private, shared, link-local or a cloud's metadata (RFC 1918, 6598, 3927,
6890, 4193, 4291)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is, as a network policy says it. With neither pods nor networks it is anywhere.

    Attributes:
        pods: namespaces, each with the labels of its pods; without labels all of them.
        networks: each with the networks in it that do not count.
        ports: behind its Service; none means any.
    """

    pods: tuple[tuple[str, Mapping[str, str]], ...] = ()
    networks: tuple[tuple[str, tuple[str, ...]], ...] = ()
    ports: Ports = ()

    def values(self, what: str) -> dict[str, Any]:
        """The rule in a chart's values that leads there."""
        return {
            "what": what,
            "pods": [
                {"namespace": namespace, "labels": dict(sorted(labels.items()))} for namespace, labels in self.pods
            ],
            "networks": [{"cidr": cidr, "except": list(without)} for cidr, without in self.networks],
            "ports": [{"port": number, "protocol": protocol} for number, protocol in self.ports],
        }


@dataclass(frozen=True, slots=True)
class Dependency:
    """One thing that a team's process reaches out to.

    Attributes:
        kind: what sort of thing.
        what: in words.
        place: where it is; None where no more is known than `host`, or not even that.
        host: its name, where that is all that is known; empty where it is another one each time.
        port: of `host`.
        needed: whether the team cannot do its work without it.
    """

    kind: Kind
    what: str
    place: Place | None = None
    host: str = ""
    port: int = _HTTPS
    needed: bool = True


@dataclass(frozen=True, slots=True)
class Egress:
    """All ways out of one team in one environment.

    Attributes:
        mode: what is let out to what is known by its name alone.
        table: each dependency once, teams included.
        proxy: of mode `proxy`.
        hosts: further names.
        cidrs: the networks of mode `cidr`.
        told: whether the team's own variables name a proxy already.
        silent: whether they say what is reached without one.
    """

    mode: Mode
    table: tuple[Dependency, ...]
    proxy: EgressProxy | None
    hosts: tuple[str, ...]
    cidrs: tuple[str, ...]
    told: bool
    silent: bool

    @property
    def dns(self) -> Place:
        """Where names are resolved."""
        return next(each.place for each in self.table if each.kind == "dns" and each.place is not None)

    def rules(self) -> Iterator[dict[str, Any]]:
        """The rules of the policy in a chart's values, but for names and teams: theirs are written from the edges."""
        for each in self.table:
            if each.kind not in ("dns", "team") and each.place is not None:
                yield each.place.values(each.what)
        if (outside := self._outside()) is not None:
            yield outside.values(_OUTSIDE[self.mode])

    def _outside(self) -> Place | None:
        match self.mode:
            case "open":
                return Place(networks=tuple(_NOT_PUBLIC.items()), ports=((_HTTPS, "TCP"),))
            case "cidr" if self.cidrs:
                return Place(networks=tuple((cidr, ()) for cidr in self.cidrs))
            case "proxy" if self.proxy is not None and (self.proxy.namespace or self.proxy.cidr):
                return Place(
                    pods=((self.proxy.namespace, {}),) if self.proxy.namespace else (),
                    networks=((self.proxy.cidr, ()),) if self.proxy.cidr else (),
                    ports=((self.proxy.port, "TCP"),),
                )
            case _:
                return None

    def named_hosts(self) -> list[dict[str, Any]]:
        """The hosts of a CiliumNetworkPolicy, in a chart's values; none in another mode."""
        if self.mode != "cilium-fqdn":
            return []
        named = {(each.host, each.port) for each in self.table if each.host and each.place is None} | {
            (host, _HTTPS) for host in self.hosts
        }
        return [{"host": host, "port": port} for host, port in sorted(named)]

    def proxy_values(self) -> dict[str, str]:
        """What the process is told of the proxy, in a chart's values."""
        proxy = self.proxy
        if self.mode != "proxy" or proxy is None or proxy.kind != "forward" or not proxy.host or self.told:
            return {"url": "", "noProxy": ""}
        near = {each.host for each in self.table if each.host and each.place is not None}
        without = [*_LOOPBACK, ".svc", ".svc.cluster.local", *sorted(near)]
        return {"url": f"http://{proxy.host}:{proxy.port}", "noProxy": "" if self.silent else ",".join(without)}

    def closed(self, dependency: Dependency) -> str:
        """Why a dependency is not reached, and what to do; empty where it is, as far as that can be told."""
        if dependency.place is not None:
            return ""
        match self.mode:
            case "open" if dependency.port != _HTTPS:
                return (
                    f"egress.mode is open, which lets out to port {_HTTPS} alone; use https, or choose cidr and write "
                    "its network"
                )
            case "cidr" if not self.cidrs:
                return "egress.mode is cidr, and egress.cidrs is empty; add the networks"
            case "proxy":
                return self._not_by_proxy(dependency)
            case "cilium-fqdn" if not dependency.host:
                return "egress.mode is cilium-fqdn, which lets out to hosts that are named; add them to egress.hosts"
            case _:
                return ""

    def _not_by_proxy(self, dependency: Dependency) -> str:
        proxy = self.proxy
        if proxy is None or not (proxy.namespace or proxy.cidr):
            return "egress.mode is proxy, and egress.proxy names none; name it, or choose another mode"
        if dependency.kind == "push":
            return "egress.mode is proxy, and notifications go straight to their receivers; choose another mode"
        if proxy.kind == "gateway" and dependency.host != proxy.host:
            return (
                f"egress.proxy is a gateway, which is reached as {proxy.host or 'nothing'} alone; choose another mode"
            )
        if proxy.kind == "forward" and not (proxy.host or self.told):
            return "egress.proxy has no host, by which the process would find it; write it"
        return ""


_OUTSIDE: Final[Mapping[Mode, str]] = {
    "open": "HTTPS to public addresses",
    "cidr": "the networks of egress.cidrs",
    "proxy": "the proxy",
    "cilium-fqdn": "",
}


def egress_of(
    spec: TeamSpec, organisation: Organisation, environment: Environment, edges: Edges, store: Iterable[int] = ()
) -> Egress:
    """The ways out of a team.

    Args:
        spec: the team, with all of its environments.
        organisation: to which it belongs.
        environment: one of the organisation's.
        edges: the team's neighbours there.
        store: the ports of its database; none where runs are on the pod's own disk.
    """
    here = spec.for_environment(environment.name)
    table = tuple(_dependencies(spec, here, organisation, environment, edges, store))
    variables = {variable.name for variable in here.env}
    return Egress(
        here.egress.mode or defaults_of(environment.name).egress,
        table,
        here.egress.proxy,
        here.egress.hosts,
        here.egress.cidrs,
        bool(variables & _PROXY_VARIABLES),
        bool(variables & {"NO_PROXY", "no_proxy"}),
    )


def _dependencies(
    spec: TeamSpec,
    here: TeamSpec,
    organisation: Organisation,
    environment: Environment,
    edges: Edges,
    store: Iterable[int],
) -> Iterator[Dependency]:
    """Everything that a team reaches out to; `here` is the team with its environment merged in."""
    namespace = spec.namespace_in(environment)
    cluster, database = organisation.cluster(spec.cluster_in(environment)), organisation.database
    dns = cluster.dns
    yield Dependency(
        "dns",
        "names",
        Place(
            ((dns.namespace, dns.labels),),
            tuple((cidr, ()) for cidr in dns.cidrs),
            ((dns.port, "UDP"), (dns.port, "TCP")),
        ),
    )
    for callee in edges.callees:
        place = Place(((callee.namespace, {"app": callee.team}),), ports=((MAIN_PORT, "TCP"),))
        yield Dependency("team", f"the team {callee.team}", place)
    if ports := tuple((port, "TCP") for port in dict.fromkeys(store)):
        # Its address stands in a Secret, so without a word in elf.yaml the port is open to any address.
        pods: tuple[tuple[str, Mapping[str, str]], ...] = ((database.namespace, {}),) if database.namespace else ()
        yield Dependency("store", "the database", Place(pods, tuple((cidr, ()) for cidr in database.cidrs), ports))
    issuer = cluster.workload_issuer
    if issuer is not None and issuer.keys == "api-server":
        server = cluster.api_server
        place = Place(networks=tuple((cidr, ()) for cidr in server.cidrs), ports=((server.port, "TCP"),))
        yield Dependency("keys", "the keys of callers, at the API server", place)
    elif issuer is not None and issuer.keys == "issuer":
        yield from _at(issuer.jwks_url or issuer.issuer, "keys", "the keys of callers", namespace)
    people = organisation.issuer
    if people is not None and people.config_map is None:
        yield from _at(people.jwks_url or people.url, "keys", "the keys of people's issuer", namespace)
    for model in here.llm.chain():
        if model.provider != "offline":
            url = model.base_url or BASE_URLS[model.provider]
            yield from _at(url, "model", f"the model of {model.provider}", namespace)
    for server_ in here.mcp:
        if server_.url:
            yield from _at(server_.url, "mcp", f"the MCP server {server_.name!r}", namespace)
    for variable in here.env:
        if variable.name in _OTLP and variable.value:
            yield from _at(variable.value, "telemetry", "the collector of traces", namespace)
    yield Dependency("push", "the receivers of push notifications", needed=False)


def _at(url: str, kind: Kind, what: str, namespace: str) -> Iterator[Dependency]:
    """What is at an address: in a place that the address itself tells, or wherever its host is."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or {"http": 80}.get(parts.scheme, _HTTPS)
    if not host or host in _LOOPBACK:
        return
    place: Place | None = None
    try:
        place = Place(networks=((str(ipaddress.ip_network(host)), ()),), ports=((port, "TCP"),))
    except ValueError:
        # Of a Service the namespace is known, and neither the labels nor the ports behind it.
        if service := _SERVICE.fullmatch(host):
            place = Place(((service[1], {}),))
        elif _HERE.fullmatch(host):
            place = Place(((namespace, {}),))
    yield Dependency(kind, what, place, host, port)
