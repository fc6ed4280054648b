"""The objects of Argo CD, and the namespaces, as plain data.

Pure. One ApplicationSet an environment makes Applications from the directories that hold an app.yaml; one AppProject a
team and environment says what such an Application may touch. The project's name comes from where the directory is and
never from what a file in it says, so whoever may change a file gets no other project; where an Application goes does
stand in app.yaml, and its project allows that one place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from elf_sdk.deploy.gitops.layout import (
    APP_FILE,
    APPLICATION_SETS,
    BOOTSTRAP,
    CLUSTERS,
    ENVIRONMENTS,
    PROJECTS,
    application_name,
)
from elf_sdk.team.organisation import Cluster, Environment, Organisation

__all__ = [
    "IN_CLUSTER",
    "KINDS",
    "Source",
    "app_project",
    "application_set",
    "environment_application",
    "guarded",
    "namespaces",
    "root",
]

IN_CLUSTER: Final = "https://kubernetes.default.svc"
"""How Argo CD calls the cluster that it runs in."""

KINDS: Final = (
    ("", "ConfigMap"),
    ("", "PersistentVolumeClaim"),
    ("", "Secret"),
    ("", "Service"),
    ("", "ServiceAccount"),
    ("apps", "Deployment"),
    ("autoscaling", "HorizontalPodAutoscaler"),
    ("cilium.io", "CiliumNetworkPolicy"),
    ("external-secrets.io", "ExternalSecret"),
    ("gateway.networking.k8s.io", "HTTPRoute"),
    ("keda.sh", "ScaledObject"),
    ("monitoring.coreos.com", "PodMonitor"),
    ("monitoring.coreos.com", "PrometheusRule"),
    ("monitoring.coreos.com", "ServiceMonitor"),
    ("networking.k8s.io", "Ingress"),
    ("networking.k8s.io", "NetworkPolicy"),
    ("policy", "PodDisruptionBudget"),
)
"""Group and kind of all that a team's chart may hold. Nothing without a namespace is among them."""

_API: Final = "argoproj.io/v1alpha1"
_KEEP: Final = {"argocd.argoproj.io/sync-options": "Prune=false"}
_RETRY: Final = {"limit": 5, "backoff": {"duration": "5s", "factor": 2, "maxDuration": "3m"}}
_SECONDS_BETWEEN_LOOKS: Final = 60
"""A team whose AppProject is not there yet when its directory is found waits for the next look."""

# A patch, because whether an Application syncs itself is a field that is there or not; the project cannot be patched.
_AUTOMATED: Final = """\
{{- if eq .sync "auto" }}
spec:
  syncPolicy:
    automated:
      prune: true
      selfHeal: true
      allowEmpty: {{ eq .state "leaving" }}
{{- else }}
spec:
  syncPolicy: {}
{{- end }}
"""


@dataclass(frozen=True, slots=True)
class Source:
    """Where Argo CD reads.

    Attributes:
        url: of the repository, without credentials.
        branch: that it follows.
        path: of the directory that ELF writes, in the repository.
    """

    url: str
    branch: str
    path: str

    @property
    def revision(self) -> str:
        """The branch by its full name, which a repository server resolves without looking through all others."""
        return f"refs/heads/{self.branch}"


def guarded(environment: Environment) -> bool:
    """Whether nothing in the environment goes by itself: prod, and whatever does not sync itself."""
    return environment.name == "prod" or environment.sync in ("manual", "rolling")


def application_set(environment: Environment, organisation: Organisation, source: Source) -> dict[str, Any]:
    """The ApplicationSet of an environment."""
    name = f"{{{{ .path.basename }}}}-{environment.name}"
    labels = {**_labels(organisation), "elf-sdk/environment": environment.name}
    spec: dict[str, Any] = {
        "goTemplate": True,
        "goTemplateOptions": ["missingkey=error"],
        "generators": [
            {
                "git": {
                    "repoURL": source.url,
                    "revision": source.revision,
                    "requeueAfterSeconds": _SECONDS_BETWEEN_LOOKS,
                    "files": [{"path": f"{source.path}/{ENVIRONMENTS}/{environment.name}/*/{APP_FILE}"}],
                }
            }
        ],
        "syncPolicy": _application_policy(environment),
        "template": {
            "metadata": {
                "name": name,
                "labels": {**labels, "elf-sdk/team": "{{ .path.basename }}"},
                "annotations": {"argocd.argoproj.io/manifest-generate-paths": "."},
            },
            "spec": {
                "project": name,
                "source": {
                    "repoURL": source.url,
                    "targetRevision": source.revision,
                    "path": "{{ .path.path }}",
                    "helm": {
                        "releaseName": "{{ .path.basename }}",
                        "valueFiles": [f"values-{environment.name}.yaml"],
                    },
                },
                "destination": {"server": "{{ .server }}", "namespace": "{{ .namespace }}"},
                "syncPolicy": {"syncOptions": ["ServerSideApply=true"], "retry": _RETRY},
            },
        },
        "templatePatch": _AUTOMATED,
    }
    if environment.sync == "rolling":
        spec["strategy"] = _rolling(environment)
    return {
        "apiVersion": _API,
        "kind": "ApplicationSet",
        "metadata": {
            "name": f"{organisation.name}-{environment.name}",
            "namespace": organisation.gitops.argocd_namespace,
            "labels": labels,
            "annotations": _KEEP,
        },
        "spec": spec,
    }


def _application_policy(environment: Environment) -> dict[str, Any]:
    if guarded(environment):
        return {"applicationsSync": "create-update", "preserveResourcesOnDeletion": True}
    return {"applicationsSync": "sync", "preserveResourcesOnDeletion": False}


def _rolling(environment: Environment) -> dict[str, Any]:
    # One step for all: a quarter of the Applications at a time, the next ones when these are healthy.
    everyone = {"key": "elf-sdk/environment", "operator": "In", "values": [environment.name]}
    return {"type": "RollingSync", "rollingSync": {"steps": [{"matchExpressions": [everyone], "maxUpdate": "25%"}]}}


def app_project(
    team: str, environment: Environment, organisation: Organisation, source: Source, *, server: str, namespace: str
) -> dict[str, Any]:
    """What the Application of a team in an environment may touch: one repository, one namespace, `KINDS`."""
    return {
        "apiVersion": _API,
        "kind": "AppProject",
        "metadata": {
            "name": application_name(team, environment.name),
            "namespace": organisation.gitops.argocd_namespace,
            "labels": {**_labels(organisation), "elf-sdk/environment": environment.name, "elf-sdk/team": team},
            "annotations": {"argocd.argoproj.io/sync-wave": "-1"},
            # It stays while an Application refers to it, because without it that Application could not be deleted.
            "finalizers": ["resources-finalizer.argocd.argoproj.io"],
        },
        "spec": {
            "description": f"The team {team} in {environment.name}",
            "sourceRepos": [source.url],
            "destinations": [{"server": server, "namespace": namespace}],
            "clusterResourceWhitelist": [],
            "namespaceResourceWhitelist": [{"group": group, "kind": kind} for group, kind in KINDS],
        },
    }


def environment_application(
    environment: Environment,
    organisation: Organisation,
    source: Source,
    *,
    path: str,
    server: str,
    namespaces: Sequence[str],
) -> list[dict[str, Any]]:
    """An AppProject and one Application for all teams of an environment, from plain manifests.

    Args:
        environment: that it brings.
        organisation: to which it belongs.
        source: where Argo CD reads.
        path: of the environment's kustomization, in the repository.
        server: of the environment's cluster.
        namespaces: of the environment.
    """
    name = f"{organisation.name}-{environment.name}"
    labels = {**_labels(organisation), "elf-sdk/environment": environment.name}
    metadata = {"name": name, "namespace": organisation.gitops.argocd_namespace, "labels": labels}
    project = {
        "apiVersion": _API,
        "kind": "AppProject",
        "metadata": {**metadata, "finalizers": ["resources-finalizer.argocd.argoproj.io"]},
        "spec": {
            "description": f"All teams of {organisation.name} in {environment.name}",
            "sourceRepos": [source.url],
            "destinations": [{"server": server, "namespace": each} for each in namespaces],
            "clusterResourceWhitelist": [{"group": "", "kind": "Namespace"}],
            "namespaceResourceWhitelist": [{"group": group, "kind": kind} for group, kind in KINDS],
        },
    }
    automated = environment.sync == "auto" or not guarded(environment)
    application = {
        "apiVersion": _API,
        "kind": "Application",
        "metadata": {
            **metadata,
            # What all teams of the environment are made of.
            "annotations": {"argocd.argoproj.io/manifest-generate-paths": ".;../../teams"},
        },
        "spec": {
            "project": name,
            "source": {"repoURL": source.url, "targetRevision": source.revision, "path": path},
            "destination": {"server": server, "namespace": environment.namespace_name},
            "syncPolicy": {
                **({"automated": {"prune": True, "selfHeal": True}} if automated else {}),
                "syncOptions": ["ServerSideApply=true"],
                "retry": _RETRY,
            },
        },
    }
    return [project, application]


def root(organisation: Organisation, source: Source, others: Sequence[Cluster]) -> list[dict[str, Any]]:
    """The AppProject and the Application that bring everything else, and one Application a cluster in `others`."""
    name = f"{organisation.name}-bootstrap"
    home = organisation.gitops.argocd_namespace
    metadata = {"namespace": home, "labels": _labels(organisation)}
    project = {
        "apiVersion": _API,
        "kind": "AppProject",
        "metadata": {"name": name, **metadata, "annotations": {**_KEEP, "argocd.argoproj.io/sync-wave": "-3"}},
        "spec": {
            "description": f"Namespaces, projects and ApplicationSets of {organisation.name}",
            "sourceRepos": [source.url],
            "destinations": [
                {"server": IN_CLUSTER, "namespace": home},
                *({"server": cluster.server, "namespace": "default"} for cluster in others),
            ],
            "clusterResourceWhitelist": [{"group": "", "kind": "Namespace"}],
            "namespaceResourceWhitelist": [
                {"group": "argoproj.io", "kind": kind} for kind in ("AppProject", "Application", "ApplicationSet")
            ],
        },
    }
    directories = [BOOTSTRAP, PROJECTS, APPLICATION_SETS]
    application = _bootstrap_application(
        name,
        name,
        metadata,
        source,
        {"server": IN_CLUSTER, "namespace": home},
        path=source.path,
        directory={"recurse": True, "include": f"{{{','.join(f'{each}/*.yaml' for each in directories)}}}"},
        paths=";".join(directories),
    )
    elsewhere = [
        _bootstrap_application(
            f"{name}-{cluster.name}",
            name,
            metadata,
            source,
            {"server": cluster.server, "namespace": "default"},
            path=f"{source.path}/{CLUSTERS}/{cluster.name}",
            directory={"recurse": False},
            paths=".",
        )
        for cluster in others
    ]
    return [project, application, *elsewhere]


def _bootstrap_application(
    name: str,
    project: str,
    metadata: Mapping[str, Any],
    source: Source,
    destination: Mapping[str, str],
    *,
    path: str,
    directory: Mapping[str, Any],
    paths: str,
) -> dict[str, Any]:
    annotations = {**_KEEP, "argocd.argoproj.io/manifest-generate-paths": paths}
    return {
        "apiVersion": _API,
        "kind": "Application",
        "metadata": {"name": name, **metadata, "annotations": annotations},
        "spec": {
            "project": project,
            "source": {
                "repoURL": source.url,
                "targetRevision": source.revision,
                "path": path,
                "directory": dict(directory),
            },
            "destination": dict(destination),
            "syncPolicy": {
                "automated": {"prune": True, "selfHeal": True},
                "syncOptions": ["ServerSideApply=true"],
                "retry": _RETRY,
            },
        },
    }


def namespaces(names: Iterable[tuple[str, str]], organisation: Organisation) -> list[dict[str, Any]]:
    """Namespaces that enforce, audit and warn at the restricted Pod Security Standard.

    Args:
        names: of namespace and environment.
        organisation: to which they belong.
    """
    modes: tuple[Literal["enforce", "audit", "warn"], ...] = ("enforce", "audit", "warn")
    return [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": name,
                "labels": {
                    **_labels(organisation),
                    "elf-sdk/environment": environment,
                    **{f"pod-security.kubernetes.io/{mode}": "restricted" for mode in modes},
                },
                "annotations": {**_KEEP, "argocd.argoproj.io/sync-wave": "-2"},
            },
        }
        for name, environment in sorted(names)
    ]


def _labels(organisation: Organisation) -> dict[str, str]:
    return {"app.kubernetes.io/managed-by": "elf", "app.kubernetes.io/part-of": organisation.name}
