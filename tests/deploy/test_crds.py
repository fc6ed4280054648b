"""Kinds that Kubernetes does not know, against their own definitions."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from referencing import Registry, Resource

import elf_sdk.deploy.kubernetes
from elf_sdk.deploy.kubernetes import ObjectSchemas
from elf_sdk.errors import Failure

CRDS = Path(elf_sdk.deploy.kubernetes.__file__).parent / "crds"

GOOD = list(
    yaml.safe_load_all("""
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: brand-team, namespace: elf-teams, labels: {app: brand-team}}
spec:
  parentRefs: [{name: public, namespace: gateways, sectionName: https}]
  hostnames: [brand.example.com]
  rules:
    - matches: [{path: {type: PathPrefix, value: /}}]
      timeouts: {request: 0s, backendRequest: 0s}
      filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x, value: y}]}}]
      backendRefs: [{name: brand-team, port: 8000}]
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata: {name: brand-team}
spec:
  selector: {matchLabels: {app: brand-team}}
  endpoints: [{port: metrics, interval: 30s, path: /metrics}]
---
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata: {name: brand-team}
spec:
  selector: {matchLabels: {app: brand-team}}
  podMetricsEndpoints: [{port: metrics, interval: 30s}]
---
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata: {name: brand-team}
spec: {groups: [{name: a, rules: [{alert: Down, expr: up == 0, for: 5m, labels: {severity: page}}]}]}
---
apiVersion: external-secrets.io/v1
kind: ExternalSecret
metadata: {name: brand-team}
spec:
  refreshInterval: 1h
  secretStoreRef: {name: vault, kind: ClusterSecretStore}
  target: {name: llm-api-keys, creationPolicy: Owner}
  data: [{secretKey: openai-api-key, remoteRef: {key: agents/openai, property: key}}]
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: brand-team}
spec:
  scaleTargetRef: {name: brand-team}
  minReplicaCount: 2
  maxReplicaCount: 5
  triggers: [{type: cpu, metricType: Utilization, metadata: {value: "70"}}]
---
apiVersion: keda.sh/v1alpha1
kind: TriggerAuthentication
metadata: {name: brand-team}
spec: {secretTargetRef: [{parameter: password, name: db, key: password}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: brand-team}
spec:
  endpointSelector: {matchLabels: {app: brand-team}}
  egress:
    - toFQDNs: [{matchName: api.openai.com}]
      toPorts: [{ports: [{port: "443", protocol: TCP}]}]
---
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: brand-team-dev, namespace: argocd}
spec:
  project: brand-team-dev
  source: {repoURL: "https://git.example.com/gitops.git", path: environments/dev/brand-team, targetRevision: main,
           helm: {releaseName: brand-team, valueFiles: [values.yaml, values-dev.yaml]}}
  destination: {server: "https://kubernetes.default.svc", namespace: elf-teams-dev}
  syncPolicy: {automated: {prune: true, selfHeal: true}, syncOptions: [ServerSideApply=true]}
---
apiVersion: argoproj.io/v1alpha1
kind: ApplicationSet
metadata: {name: dev, namespace: argocd}
spec:
  goTemplate: true
  goTemplateOptions: [missingkey=error]
  generators:
    - git:
        repoURL: "https://git.example.com/gitops.git"
        revision: main
        files: [{path: "environments/dev/*/app.yaml"}]
  syncPolicy: {applicationsSync: create-update, preserveResourcesOnDeletion: true}
  template:
    metadata: {name: "{{ .team }}-dev"}
    spec:
      project: "{{ .team }}-dev"
      source: {repoURL: "https://git.example.com/gitops.git", path: "{{ .path.path }}", targetRevision: main}
      destination: {server: "https://kubernetes.default.svc", namespace: elf-teams-dev}
---
apiVersion: argoproj.io/v1alpha1
kind: AppProject
metadata: {name: brand-team-dev, namespace: argocd}
spec:
  sourceRepos: ["https://git.example.com/gitops.git"]
  destinations: [{server: "https://kubernetes.default.svc", namespace: elf-teams-dev}]
  clusterResourceWhitelist: []
  namespaceResourceWhitelist: [{group: apps, kind: Deployment}]
---
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [deployment.yaml]
namespace: elf-teams-dev
""")
)


def spoilt(node: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Ways to spoil an object: a field too many in each map, and another type in each leaf."""
    if isinstance(node, dict):
        yield path, {**node, "surprise": {"a": [1]}}
        for key, value in node.items():
            for where, changed in spoilt(value, (*path, key)):
                yield where, {**node, key: changed}
    elif isinstance(node, list):
        for index, item in enumerate(node):
            for where, changed in spoilt(item, (*path, index)):
                yield where, [*node[:index], changed, *node[index + 1 :]]
    else:
        yield path, {"not": "a leaf"}
        yield path, 7.5


def reference(api_version: str, kind: str) -> jsonschema.Draft202012Validator:
    """The validator that kubernetes-validate uses itself."""
    directory = ObjectSchemas()._directory
    definitions = json.loads((directory / "_definitions.json").read_bytes())
    registry: Registry[Any] = Registry().with_resource(
        "https://kubernetes.io/api/_definitions.json", Resource.from_contents(definitions)
    )
    group = api_version.partition("/")[0].partition(".")[0]
    file = CRDS / f"{kind.lower()}-{group}-{api_version.partition('/')[2]}.json"
    return jsonschema.Draft202012Validator(json.loads(file.read_bytes()), registry=registry)


@pytest.mark.parametrize("good", GOOD, ids=lambda good: good["kind"])
def test_the_compiled_schema_and_another_validator_agree(good: dict[str, Any]) -> None:
    schemas, other = ObjectSchemas(), reference(good["apiVersion"], good["kind"])
    schemas.check([good])
    assert other.is_valid(good)
    refused = 0
    for path, changed in spoilt(copy.deepcopy(good)):
        if path in ((), ("apiVersion",), ("kind",), ("metadata",)) and not isinstance(changed, dict):
            continue
        says = []
        try:
            schemas.check([changed])
        except Failure as failure:
            says.append(str(failure))
        if path[:1] not in (("apiVersion",), ("kind",)):
            assert bool(says) != other.is_valid(changed), (path, says)
        refused += bool(says)
    assert refused > 3


@pytest.mark.parametrize("good", GOOD, ids=lambda good: good["kind"])
def test_a_field_that_the_kind_does_not_know_is_refused_with_its_place(good: dict[str, Any]) -> None:
    inner = "spec" if "spec" in good else "metadata"
    with pytest.raises(Failure, match=rf"{good['kind']}/.*{inner}: .*'surprise'"):
        ObjectSchemas().check([{**good, inner: {**good.get(inner, {}), "surprise": 1}}])


def test_every_schema_has_an_example_here() -> None:
    kinds = {file.name.partition("-")[0] for file in CRDS.glob("*.json")}
    assert kinds == {good["kind"].lower() for good in GOOD}


def test_another_version_or_group_of_a_kind_is_unknown() -> None:
    route = GOOD[0]
    for api_version in ("gateway.networking.k8s.io/v1alpha2", "gateway.example.com/v1", "gateway/v1"):
        with pytest.raises(Failure, match="HTTPRoute/brand-team"):
            ObjectSchemas().check([{**route, "apiVersion": api_version}])


@pytest.mark.parametrize(
    ("kind", "name", "fine"),
    [
        ("Service", "a-b", True),
        ("Service", "1a", False),
        ("Service", "a.b", False),
        ("Service", "a" * 64, False),
        ("ConfigMap", "1.a-b", True),
        ("ConfigMap", "A", False),
        ("ConfigMap", "a_b", False),
        ("ConfigMap", "a" * 254, False),
        ("ServiceAccount", "-a", False),
    ],
)
def test_names_are_checked_as_an_api_server_does(kind: str, name: str, fine: bool) -> None:
    it = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}
    if fine:
        ObjectSchemas().check([it])
    else:
        with pytest.raises(Failure, match=r"metadata\.name"):
            ObjectSchemas().check([it])
