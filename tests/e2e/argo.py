"""Argo CD as its objects show it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from tests.e2e.cluster import Cluster, until

__all__ = ["ArgoCD"]

_NAMESPACE = "argocd"


class ArgoCD:
    """The Applications of the cluster's Argo CD, in its usual namespace."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def applications(self) -> Mapping[str, dict[str, Any]]:
        """All of them, by name."""
        found = self._cluster.items("applications.argoproj.io", "-n", _NAMESPACE)
        return {item["metadata"]["name"]: item for item in found}

    def refresh(self) -> None:
        """Have all of them look at the repository now, as a webhook would."""
        for name in self.applications():
            self._cluster.run(
                "annotate",
                "-n",
                _NAMESPACE,
                "application.argoproj.io",
                name,
                "argocd.argoproj.io/refresh=normal",
                "--overwrite",
                fine=(0, 1),
            )

    def settled(self, names: Collection[str], seconds: float, *, revision: str = "") -> float:
        """Wait until all of `names` are Synced and Healthy, at a revision if one is given; the seconds that it took."""
        began = time.monotonic()

        def is_settled() -> bool:
            found = self.applications()
            return all(name in found and _problem(found[name], revision) == "" for name in names)

        until(
            f"Application that is Synced and Healthy for each of {len(names)}",
            is_settled,
            seconds,
            lambda: self.why(names),
        )
        return time.monotonic() - began

    def until(self, name: str, what: str, look: Callable[[dict[str, Any]], bool], seconds: float) -> None:
        """Wait until an Application looks so."""

        def is_so() -> bool:
            found = self.applications().get(name)
            return found is not None and look(found)

        until(f"{what} of {name}", is_so, seconds, lambda: self.why([name]))

    def why(self, names: Collection[str]) -> str:
        """What keeps some Applications from being Synced and Healthy."""
        found = self.applications()
        lines = [f"{name}: there is no such Application" for name in sorted(set(names) - set(found))]
        for name in sorted(set(names) & set(found)):
            lines += [f"{name}: {problem}"] if (problem := _problem(found[name], "")) else []
        for sets in self._cluster.items("applicationsets.argoproj.io", "-n", _NAMESPACE):
            name, conditions = sets["metadata"]["name"], sets.get("status", {}).get("conditions", [])
            wrong = [item for item in conditions if item["type"] == "ErrorOccurred" and item["status"] == "True"]
            lines += [f"ApplicationSet {name}: {item['message']}" for item in wrong]
        namespaces = {item["spec"]["destination"]["namespace"] for name, item in found.items() if name in names}
        return "\n".join([*lines, self._cluster.why(*sorted(namespaces))])

    def clear(self, organisation: str) -> None:
        """Take away all that belongs to an organisation, and leave what it brought where it is."""
        label = f"app.kubernetes.io/part-of={organisation}"
        # The root first: it would put back what goes before it.
        self._cluster.delete("-n", _NAMESPACE, "applications.argoproj.io", f"{organisation}-bootstrap")
        for kind in ("applicationsets", "applications", "appprojects"):
            resource = f"{kind}.argoproj.io"
            for item in self._cluster.items(resource, "-n", _NAMESPACE, "-l", label):
                name, patch = item["metadata"]["name"], '{"metadata": {"finalizers": null}}'
                there = ("-n", _NAMESPACE, resource, name)
                self._cluster.run("patch", *there, "--type=merge", "-p", patch, fine=(0, 1))
                self._cluster.delete(*there)


def _problem(application: Mapping[str, Any], revision: str) -> str:
    """Why an Application is not done; empty when it is."""
    status = application.get("status", {})
    sync, health = status.get("sync", {}), status.get("health", {})
    conditions = "; ".join(f"{item['type']}: {item['message']}" for item in status.get("conditions", []))
    operation = status.get("operationState", {})
    details = f"{sync.get('status')}, {health.get('status')} {operation.get('message', '')} {conditions}".strip()
    if sync.get("status") != "Synced" or health.get("status") != "Healthy":
        return details
    if revision and sync.get("revision") != revision:
        return f"at {sync.get('revision')} instead of {revision}"
    return ""
