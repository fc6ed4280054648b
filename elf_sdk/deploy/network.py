"""The values of a team's chart that come from the organisation: its neighbours, the tokens for them, and the policies.

Pure, like `values`, of which this is a part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any, Final

from elf_sdk.deploy.egress import egress_of
from elf_sdk.team.edges import Edges
from elf_sdk.team.organisation import Environment, Organisation, Pods, WorkloadIssuer
from elf_sdk.team.spec import TeamSpec

__all__ = ["network_values"]

_TOKEN_SECONDS: Final = 3600


def network_values(
    spec: TeamSpec, organisation: Organisation, environment: Environment, edges: Edges, store: Iterable[int]
) -> dict[str, Any]:
    """`edges`, `workloadTokens` and `networkPolicy` of the values.

    Args:
        spec: the team, with all of its environments.
        organisation: to which it belongs.
        environment: one of the organisation's.
        edges: the team's neighbours there.
        store: the ports of its database; none where runs are on the pod's own disk.
    """
    cluster = organisation.cluster(spec.cluster_in(environment))
    egress = egress_of(spec, organisation, environment, edges, store)
    issuer = cluster.workload_issuer
    return {
        "edges": {
            "callers": [asdict(caller) for caller in edges.callers],
            "callees": [asdict(callee) for callee in edges.callees],
        },
        "workloadTokens": _tokens(issuer),
        "networkPolicy": {
            "enabled": True,
            "ingress": {"clients": list(_clients(organisation))},
            "egress": {
                "dns": egress.dns.values("names"),
                "rules": list(egress.rules()),
                "proxy": egress.proxy_values(),
                "cilium": {
                    "enabled": egress.mode == "cilium-fqdn",
                    "hosts": egress.named_hosts(),
                    "apiServer": issuer is not None and issuer.keys == "api-server",
                },
            },
        },
    }


def _tokens(issuer: WorkloadIssuer | None) -> dict[str, Any]:
    about = issuer or WorkloadIssuer()
    return {
        "enabled": issuer is not None,
        "issuer": about.issuer,
        "algorithm": about.algorithm,
        "keys": about.keys,
        "jwksUrl": (about.keys == "issuer" and about.jwks_url) or "",
        "configMap": {"name": about.config_map.name, "key": about.config_map.key},
        "expirationSeconds": _TOKEN_SECONDS,
    }


def _clients(organisation: Organisation) -> Iterator[dict[str, Any]]:
    """Who connects although it is no team: in the name of people, whose tokens it brings along."""
    if organisation.agent_gateway is not None:
        gateway = organisation.agent_gateway
        yield _client("the agent gateway", Pods(namespace=gateway.namespace, labels=gateway.labels))
    yield _client("the Control Center", organisation.control_center)


def _client(what: str, pods: Pods) -> dict[str, Any]:
    return {"what": what, "namespace": pods.namespace, "labels": dict(sorted(pods.labels.items()))}
