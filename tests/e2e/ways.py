"""The ways into the cluster: Gateway API, and Ingress of the classes that ELF writes annotations for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.error import HTTPError
from urllib.request import urlopen

from tests.e2e.cluster import Cluster

__all__ = ["WAYS", "Ways"]

WAYS: Mapping[str, str] = {
    "HTTPRoute": "marketing-team",
    "Ingress of class traefik": "engineering-team",
    "Ingress of class nginx, as Traefik reads its annotations": "marketing-brand-team",
}
"""Which team of the sandbox stands behind which of them."""


@dataclass(frozen=True)
class Ways:
    """What is there.

    Attributes:
        teams: by the way in; those that the cluster has.
        settings: of each of these teams, as team.yaml has it.
        url: of the controller, as this machine reaches it; empty where it does not.
    """

    teams: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    url: str = ""

    @classmethod
    def found(cls, cluster: Cluster, host_of: Mapping[str, str]) -> Ways:
        """The ways of a cluster; one controller is taken for all of them: that of its first Gateway."""
        if not cluster.has("gateways.gateway.networking.k8s.io"):
            return cls()
        gateways = cluster.items("gateways.gateway.networking.k8s.io", "-A")
        if not gateways:
            return cls()
        gateway, namespace = gateways[0]["metadata"]["name"], gateways[0]["metadata"]["namespace"]
        classes = {item["metadata"]["name"] for item in cluster.items("ingressclasses")}
        settings: dict[str, str] = {}
        for way, team in WAYS.items():
            host, name = host_of[team], way.split()[3].strip(",") if "class" in way else ""
            if not name:
                settings[team] = (
                    f"gateway: {{enabled: true, parent: {gateway}, parent_namespace: {namespace}, host: {host}}}"
                )
            elif name in classes:
                controller = f"controller: {{namespace: {namespace}}}"
                settings[team] = f"ingress: {{enabled: true, class_name: {name}, host: {host}, {controller}}}"
        teams = {way: team for way, team in WAYS.items() if team in settings}
        return cls(teams, settings, next(_answering(cluster, namespace), ""))


def _answering(cluster: Cluster, namespace: str) -> Iterator[str]:
    """Addresses of a controller's Services that answer HTTP here, whatever the answer is."""
    nodes = [
        address["address"]
        for node in cluster.items("nodes")
        for address in node["status"]["addresses"]
        if address["type"] in {"ExternalIP", "InternalIP"}
    ]
    for service in cluster.items("services", "-n", namespace):
        balanced = service.get("status", {}).get("loadBalancer", {}).get("ingress", [])
        for port in service["spec"]["ports"]:
            hosts = [f"{item.get('ip') or item.get('hostname')}:{port['port']}" for item in balanced]
            if "nodePort" in port:
                hosts += [f"{host}:{port['nodePort']}" for host in ("127.0.0.1", *nodes)]
            yield from (f"http://{host}" for host in hosts if _answers(f"http://{host}/"))


def _answers(url: str) -> bool:
    try:
        urlopen(url, timeout=2).close()  # noqa: S310 - an http address, put together above
    except HTTPError:
        return True
    except OSError:
        return False
    return True
