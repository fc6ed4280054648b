"""`elf status`: what runs, team by team and environment by environment, and where it is not what the files say.

Sync and health come from Argo CD's Applications where there are any, else health from the Deployment; replicas, version
and digest always from the Deployment and its pods.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from elf_sdk.deploy.applications import read_applications
from elf_sdk.deploy.cluster.api import DEPLOYMENTS, PODS, KubeApi, Object
from elf_sdk.deploy.cluster.contexts import argo_cd_cluster
from elf_sdk.deploy.cluster.kubeconfig import Kubeconfig
from elf_sdk.deploy.cluster.places import Clusters, Place, places
from elf_sdk.deploy.gitops.layout import application_name
from elf_sdk.deploy.images import read_digests
from elf_sdk.deploy.rollout import health, running_digest, wanted_replicas
from elf_sdk.errors import ElfError, Forbidden
from elf_sdk.team.organisation import Environment, Organisation
from elf_sdk.team.project import LoadedTeam, Project

__all__ = ["EnvironmentStatus", "Status", "TeamStatus", "read_status"]

_COMPONENT: Final = {"app.kubernetes.io/component": "team"}
"""The label that every chart gives to a team's Deployment and pods."""


@dataclass(frozen=True, slots=True)
class TeamStatus:
    """One team in one environment.

    Attributes:
        team: its name.
        environment: its name.
        sync: Argo CD's word, such as `Synced` or `OutOfSync`; empty without an Application.
        health: Argo CD's word, such as `Healthy` or `Missing`; empty where nobody could be asked.
        ready: replicas that are ready; None where the Deployment could not be read.
        wanted: replicas that there should be.
        version: of the team that runs.
        digest: of the image that runs, `sha256:…`; empty where nothing says it.
        locked: of the image that images.lock.yaml names; empty for none.
        note: what Argo CD has to say, in one line.
    """

    team: str
    environment: str
    sync: str = ""
    health: str = ""
    ready: int | None = None
    wanted: int | None = None
    version: str = ""
    digest: str = ""
    locked: str = ""
    note: str = ""

    @property
    def drifted(self) -> bool:
        """Whether another image runs than images.lock.yaml names."""
        return bool(self.locked and self.wanted is not None and self.digest != self.locked)


@dataclass(frozen=True, slots=True)
class EnvironmentStatus:
    """One environment, or that part of it which one cluster holds.

    Attributes:
        environment: its name.
        cluster: as in elf.yaml.
        context: that leads there; empty where none does.
        argo_cd: `there`, `absent`, or `unknown` where it could not be asked.
        problems: why something could not be asked, one sentence each.
        reached: whether the cluster answered.
        teams: in the order of the project.
    """

    environment: str
    cluster: str
    context: str
    argo_cd: Literal["there", "absent", "unknown"]
    reached: bool
    problems: tuple[str, ...]
    teams: tuple[TeamStatus, ...]


@dataclass(frozen=True, slots=True)
class Status:
    """All of it, in the order of promotion."""

    environments: tuple[EnvironmentStatus, ...]

    @property
    def complete(self) -> bool:
        """Whether everything could be asked."""
        return not any(environment.problems for environment in self.environments)


@dataclass(frozen=True, slots=True)
class _ArgoCd:
    """What Argo CD knows.

    Attributes:
        state: as in `EnvironmentStatus`.
        problem: why it could not be asked; empty otherwise.
        applications: by name.
    """

    state: Literal["there", "absent", "unknown"]
    problem: str = ""
    applications: Mapping[str, Object] = field(default_factory=dict)


def read_status(
    project: Project, teams: Sequence[LoadedTeam], environments: Iterable[Environment], kubeconfig: Kubeconfig
) -> Status:
    """What runs of `teams` in `environments`; what cannot be asked is part of the answer.

    Raises:
        BadInput: an images.lock.yaml is wrong.
    """
    organisation = project.organisation
    locked = {team.spec.name: read_digests(team.directory, organisation) for team in teams}
    wanted = places(teams, environments, organisation)
    with Clusters(organisation, kubeconfig) as clusters:
        argo_cd = _ask_argo_cd(clusters, organisation)
        answers = clusters.ask(wanted, lambda place, api: _deployed(place, api))
        return Status(tuple(_environment(place, answer, argo_cd, locked, clusters) for place, answer in answers))


def _ask_argo_cd(clusters: Clusters, organisation: Organisation) -> _ArgoCd:
    cluster = argo_cd_cluster(organisation)
    if cluster is None:
        return _ArgoCd("absent")
    namespace = organisation.gitops.argocd_namespace
    try:
        applications = read_applications(clusters.api(cluster), namespace)
    except Forbidden as error:
        return _ArgoCd("unknown", f"Argo CD's Applications in {namespace} may not be read: {error}")
    except ElfError as error:
        return _ArgoCd("unknown", str(error))
    return _ArgoCd("absent") if applications is None else _ArgoCd("there", applications=applications)


def _deployed(place: Place, api: KubeApi) -> Mapping[str, tuple[Object | None, list[Object]]]:
    """Deployment and pods by team."""
    found: dict[str, tuple[Object | None, list[Object]]] = {}
    for namespace, teams in place.namespaces().items():
        deployments = {each["metadata"]["name"]: each for each in api.list(DEPLOYMENTS, namespace, labels=_COMPONENT)}
        by_team: dict[str, list[Object]] = {}
        if any(not running_digest(deployment) for deployment in deployments.values()):
            for pod in api.list(PODS, namespace, labels=_COMPONENT):
                by_team.setdefault(pod["metadata"]["labels"].get("app", ""), []).append(pod)
        for team in teams:
            name = team.spec.name
            found[name] = (deployments.get(name), by_team.get(name, []))
    return found


def _environment(
    place: Place,
    answer: Mapping[str, tuple[Object | None, list[Object]]] | ElfError,
    argo_cd: _ArgoCd,
    locked: Mapping[str, Mapping[str, str]],
    clusters: Clusters,
) -> EnvironmentStatus:
    name = place.environment.name
    try:
        context = clusters.context(place.cluster).name
    except ElfError:
        context = ""
    reached = not isinstance(answer, ElfError)
    problems = dict.fromkeys([] if reached else [str(answer)])
    if argo_cd.problem:
        problems[argo_cd.problem] = None
    teams: list[TeamStatus] = []
    for team in place.teams:
        own = team.spec.name
        application = argo_cd.applications.get(application_name(own, name))
        deployed = None if isinstance(answer, ElfError) else answer[own]
        teams.append(_team(own, name, application, deployed, locked[own].get(name, "")))
    return EnvironmentStatus(name, place.cluster.name, context, argo_cd.state, reached, tuple(problems), tuple(teams))


def _team(
    team: str,
    environment: str,
    application: Object | None,
    deployed: tuple[Object | None, list[Object]] | None,
    locked: str,
) -> TeamStatus:
    seen: dict[str, Any] = {}
    if deployed is not None:
        deployment, pods = deployed
        seen["health"] = health(deployment)
        if deployment is not None:
            labels = deployment["metadata"].get("labels") or {}
            seen["ready"] = deployment.get("status", {}).get("readyReplicas", 0)
            seen["wanted"] = wanted_replicas(deployment)
            seen["version"] = labels.get("app.kubernetes.io/version", "")
            seen["digest"] = running_digest(deployment, pods)
    if application is not None:
        status = application.get("status", {})
        seen["sync"] = status.get("sync", {}).get("status", "Unknown")
        seen["health"] = status.get("health", {}).get("status") or seen.get("health", "Unknown")
        seen["note"] = _note(status)
    return TeamStatus(team, environment, locked=locked, **seen)


def _note(status: Mapping[str, Any]) -> str:
    """Why Argo CD does not bring an Application to where it should be."""
    said = [condition.get("message", "") for condition in status.get("conditions") or ()]
    operation = status.get("operationState") or {}
    if operation.get("phase") in ("Failed", "Error"):
        said.append(operation.get("message", ""))
    said.append(status.get("health", {}).get("message") or "")
    return " ".join(next((text for text in said if text), "").split())
