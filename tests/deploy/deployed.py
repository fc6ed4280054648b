"""What a controller and a kubelet would write of a team, for an API server without either."""

from __future__ import annotations

import copy
from typing import Any

from tests.kubernetes import ApiServer

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64

APPLICATION_CRD: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "applications.argoproj.io"},
    "spec": {
        "group": "argoproj.io",
        "names": {
            "kind": "Application",
            "listKind": "ApplicationList",
            "plural": "applications",
            "singular": "application",
        },
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}
"""Argo CD's kind without its schema, which is too large for what is read of it."""


def labels(team: str, version: str = "0.1.0") -> dict[str, str]:
    return {
        "app": team,
        "app.kubernetes.io/name": team,
        "app.kubernetes.io/component": "team",
        "app.kubernetes.io/version": version,
    }


def put_deployment(
    kube: ApiServer,
    namespace: str,
    team: str,
    image: str,
    *,
    replicas: int = 1,
    ready: int | None = None,
    **status: Any,
) -> dict[str, Any]:
    """A Deployment, with the status that its controller would give it; `ready` of its replicas are."""
    up = replicas if ready is None else ready
    body = {
        "metadata": {"name": team, "labels": labels(team)},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": team}},
            "template": {
                "metadata": {"labels": labels(team)},
                "spec": {"containers": [{"name": "team", "image": image}]},
            },
        },
    }
    counts = {"replicas": replicas, "updatedReplicas": replicas, "readyReplicas": up, "availableReplicas": up}
    status = {"observedGeneration": 1, **counts, "unavailableReplicas": replicas - up, **status}
    return kube.put(f"/apis/apps/v1/namespaces/{namespace}/deployments", body, status)


def put_replica_set(kube: ApiServer, namespace: str, deployment: dict[str, Any], revision: int = 1) -> dict[str, Any]:
    """The ReplicaSet that a Deployment's controller makes."""
    team = deployment["metadata"]["name"]
    body = {
        "metadata": {
            "name": f"{team}-{revision}",
            "labels": labels(team),
            "annotations": {"deployment.kubernetes.io/revision": str(revision)},
            "ownerReferences": [_owner(deployment, "apps/v1", "Deployment")],
        },
        "spec": {"selector": {"matchLabels": {"app": team}}, "template": copy.deepcopy(deployment["spec"]["template"])},
    }
    return kube.put(f"/apis/apps/v1/namespaces/{namespace}/replicasets", body)


def put_pod(
    kube: ApiServer,
    namespace: str,
    replica_set: dict[str, Any] | None,
    status: dict[str, Any],
    *,
    name: str = "",
    team: str = "",
    node: str = "",
) -> dict[str, Any]:
    """A pod with the status that its kubelet would give it."""
    owned = [] if replica_set is None else [_owner(replica_set, "apps/v1", "ReplicaSet")]
    team = team or (replica_set or {"metadata": {"labels": {}}})["metadata"]["labels"]["app"]
    body = {
        "metadata": {"name": name or f"{team}-x", "labels": labels(team), "ownerReferences": owned},
        "spec": {"containers": [{"name": "team", "image": f"{team}:0.1.0"}], **({"nodeName": node} if node else {})},
    }
    return kube.put(f"/api/v1/namespaces/{namespace}/pods", body, status)


def put_event(kube: ApiServer, namespace: str, about: dict[str, Any], kind: str, reason: str, message: str) -> None:
    """An event about an object."""
    involved = {
        "kind": kind,
        "namespace": namespace,
        "name": about["metadata"]["name"],
        "uid": about["metadata"]["uid"],
    }
    body = {
        "metadata": {"generateName": f"{about['metadata']['name']}."},
        "involvedObject": involved,
        "reason": reason,
        "message": message,
        "type": "Warning",
    }
    kube.put(f"/api/v1/namespaces/{namespace}/events", body)


def _owner(thing: dict[str, Any], api_version: str, kind: str) -> dict[str, Any]:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": thing["metadata"]["name"],
        "uid": thing["metadata"]["uid"],
        "controller": True,
    }
