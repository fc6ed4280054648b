"""The values of what is around a team's pods: what leads to them, what measures them, what fills their Secrets. Pure.

Every function takes `here`, the team with its environment merged in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from elf_sdk.team.access import Controller
from elf_sdk.team.kinds import duration_seconds
from elf_sdk.team.organisation import Environment, Organisation
from elf_sdk.team.spec import TeamSpec

__all__ = ["conversation", "external_secrets", "http_route", "ingress", "monitoring", "owned_secrets"]

_MESSAGE: Final = "This is a test of your deployment. Say in one sentence what you can do."


def ingress(here: TeamSpec) -> dict[str, Any]:
    """The Ingress, and the controller that the network policy lets in."""
    given = here.ingress
    namespace = "ingress-nginx" if given.class_name == "nginx" else given.class_name.partition(".")[0]
    return {
        "enabled": given.enabled,
        "className": given.class_name,
        "host": given.host,
        "tlsSecret": given.tls_secret or "",
        "timeoutSeconds": _seconds(given.timeout),
        "annotations": dict(sorted(given.annotations.items())),
        "controller": _controller(given.controller, namespace),
    }


def http_route(here: TeamSpec, namespace: str) -> dict[str, Any]:
    """The HTTPRoute, and the Gateway's pods that the network policy lets in."""
    given = here.gateway
    parent = given.parent_namespace or namespace
    return {
        "enabled": given.enabled,
        "parent": given.parent,
        "parentNamespace": parent,
        "section": given.section or "",
        "host": given.host,
        "timeoutSeconds": 0 if given.timeout is None else _seconds(given.timeout),
        "controller": _controller(given.controller, parent),
    }


def _controller(given: Controller | None, namespace: str) -> dict[str, Any]:
    if given is None:
        return {"namespace": namespace, "labels": {}}
    return {"namespace": given.namespace, "labels": dict(sorted(given.labels.items()))}


def _seconds(duration: str) -> int:
    return min(max(int(duration_seconds(duration)), 1), 86_400)


def monitoring(here: TeamSpec) -> dict[str, Any]:
    """The monitor."""
    given = here.monitoring
    return {
        "enabled": given.enabled,
        "kind": given.kind,
        "interval": given.interval,
        "labels": dict(sorted(given.labels.items())),
        "namespace": given.namespace,
    }


def owned_secrets(
    here: TeamSpec, organisation: Organisation, entries: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """`entries`, each with the Secret that the store fills for this team alone, where there is a store.

    Two charts that filled one Secret would take it away from each other. What may be absent is left to whoever makes
    it, because one key that the store does not have keeps the whole Secret from being made.
    """
    if organisation.secret_store is None:
        return [dict(entry) for entry in entries]
    return [
        dict(entry) if entry.get("optional") else {**entry, "secret": f"{here.name}-{entry['secret']}"}
        for entry in entries
    ]


def external_secrets(
    here: TeamSpec, organisation: Organisation, environment: Environment, entries: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What fills the Secrets of `entries`, as `owned_secrets` gives them."""
    store = organisation.secret_store
    keys: dict[str, set[str]] = {}
    for entry in entries:
        if store is not None and not entry.get("optional"):
            keys.setdefault(entry["secret"], set()).add(entry["key"])
    filled = {"organisation": organisation.name, "environment": environment.name, "team": here.name}
    return {
        "enabled": store is not None,
        "store": store.name if store else "",
        "kind": store.kind if store else "ClusterSecretStore",
        "refresh": store.refresh if store else "1h",
        "secrets": [
            {
                "name": name,
                # Its placeholders were checked where it was written.
                "path": store.path.format_map({**filled, "secret": name.removeprefix(f"{here.name}-")}),
                "keys": sorted(found),
            }
            for name, found in sorted(keys.items())
            if store is not None
        ],
    }


def conversation() -> dict[str, Any]:
    """`helm test`."""
    return {"enabled": True, "message": _MESSAGE, "seconds": 120, "secret": "", "key": ""}
