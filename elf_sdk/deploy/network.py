"""The values of a team's chart that come from the organisation: its neighbours, the tokens for them, and the policies.

Pure, like `values`, of which this is a part.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Final

from elf_sdk.deploy.egress import egress_of
from elf_sdk.team.edges import Edges
from elf_sdk.team.organisation import Environment, Issuer, Organisation, WorkloadIssuer
from elf_sdk.team.spec import TeamSpec

__all__ = ["network_values"]

_TOKEN_SECONDS: Final = 3600


def network_values(
    spec: TeamSpec, organisation: Organisation, environment: Environment, edges: Edges, store: Iterable[int]
) -> dict[str, Any]:
    """`edges`, `workloadTokens`, `issuer` and `networkPolicy` of the values.

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
        "issuer": _issuer(organisation.issuer),
        "networkPolicy": {
            "enabled": True,
            "ingress": {
                "clients": [
                    {"what": what, "namespace": pods.namespace, "labels": dict(sorted(pods.labels.items()))}
                    for what, pods in organisation.clients
                ]
            },
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


def _issuer(issuer: Issuer | None) -> dict[str, Any]:
    config_map = issuer.config_map if issuer else None
    return {
        "url": issuer.url if issuer else "",
        "algorithm": issuer.algorithm if issuer else "EdDSA",
        "jwksUrl": (issuer and issuer.jwks_url) or "",
        "configMap": {
            "name": config_map.name if config_map else "",
            "key": config_map.key if config_map else "",
        },
    }
