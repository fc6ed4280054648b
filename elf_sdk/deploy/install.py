"""`elf deploy`: charts straight into a cluster, for people without Argo CD, and what keeps them from being ready.

The charts are those of `elf package`, proven in the same way, from the files as they stand.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from elf_sdk.deploy.applications import read_applications
from elf_sdk.deploy.cluster.api import (
    DEPLOYMENTS,
    EVENTS,
    NAMESPACES,
    PODS,
    REPLICA_SETS,
    KubeApi,
    Object,
)
from elf_sdk.deploy.cluster.contexts import argo_cd_cluster
from elf_sdk.deploy.cluster.kubeconfig import Context, Kubeconfig
from elf_sdk.deploy.cluster.places import Clusters, Place, places
from elf_sdk.deploy.gitops.layout import application_name
from elf_sdk.deploy.prove import Provable, Prover
from elf_sdk.deploy.release import Releases, choose_releases
from elf_sdk.deploy.rollout import crashed, is_ready, obstacles
from elf_sdk.deploy.secrets import check_secrets, needed_secrets
from elf_sdk.deploy.team_chart import TeamChart, TeamCharts
from elf_sdk.errors import BadInput, Conflict, ElfError, Failure, Forbidden
from elf_sdk.files import write_tree
from elf_sdk.team.organisation import Environment
from elf_sdk.team.project import LoadedTeam, Project

__all__ = ["Deployed", "Say", "deploy", "remove"]

Say = Callable[[str], None]
"""Told what happens, one sentence at a time."""

POD_SECURITY: Final = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
"""The labels of a namespace whose pods keep to the strictest standard."""

_WORKERS: Final = 4
_PERIOD: Final = 2.0
_LAST_LINES: Final = 8
"""Of a container that ended, to tell why."""
_LINE: Final = 300
"""Characters of each."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """What became of one team.

    Attributes:
        team: its name.
        namespace: where it is.
        ready: whether all of its replicas were ready in time; for a removal, whether it is gone.
        problems: what keeps it, one sentence each.
        log: the last lines of a container that ended.
    """

    team: str
    namespace: str
    ready: bool
    problems: tuple[str, ...] = ()
    log: tuple[str, ...] = ()


def deploy(
    project: Project,
    environment: Environment,
    teams: Sequence[LoadedTeam],
    kubeconfig: Kubeconfig,
    *,
    context: str = "",
    releases: Callable[[Context], Releases] = choose_releases,
    timeout: float = 300.0,
    say: Say = lambda sentence: None,
) -> tuple[Deployed, ...]:
    """Install `teams` into `environment`, or upgrade them there, and wait until they are ready.

    Args:
        project: whose teams they are.
        environment: one of its organisation's.
        teams: which of them.
        kubeconfig: how clusters are reached.
        context: the context to use, whichever the environment's own is; empty for that one.
        releases: gives the Helm that installs them.
        timeout: seconds to wait; 0 does not wait.
        say: told what happens.

    Returns:
        What became of each, in the order of `teams`.

    Raises:
        BadInput: the environment is not where the person works, or Argo CD keeps one of the teams; nothing was changed.
        ElfError: a chart is wrong, or the cluster does not answer; nothing was changed.
    """
    until = time.monotonic() + timeout
    with Clusters(project.organisation, kubeconfig, context) as clusters:
        wanted = _checked(project, environment, teams, kubeconfig, clusters, context, say)
        charts = TeamCharts(project)
        made = {team.spec.name: charts.chart(team) for team in teams}
        for chart in made.values():
            for warning in chart.warnings:
                if warning.startswith(f"{chart.team} in {environment.name}: "):
                    say(f"warning: {warning}")
        outcomes: dict[str, Deployed] = {}
        with TemporaryDirectory(prefix="elf-deploy-") as directory:
            _lay_out(made.values(), environment, Path(directory))
            for place in wanted:
                api = clusters.api(place.cluster)
                _make_namespaces(place, api, say)
                for sentence in _missing_secrets(charts, place, api):
                    say(f"warning: {sentence}")
                engine = releases(clusters.context(place.cluster))
                outcomes |= _install(place, engine, made, Path(directory), say)
        for place in wanted:
            installed = [team for team in place.teams if team.spec.name not in outcomes]
            if timeout > 0:
                outcomes |= _wait(charts, place, installed, clusters.api(place.cluster), until, say)
    return tuple(
        outcomes.get(team.spec.name, Deployed(team.spec.name, team.spec.namespace_in(environment), True))
        for team in teams
    )


def remove(
    project: Project,
    environment: Environment,
    teams: Sequence[LoadedTeam],
    kubeconfig: Kubeconfig,
    *,
    context: str = "",
    releases: Callable[[Context], Releases] = choose_releases,
    timeout: float = 300.0,
    say: Say = lambda sentence: None,
) -> tuple[Deployed, ...]:
    """Take `teams` out of `environment`, and wait until their pods are gone. Namespaces and Secrets stay.

    Arguments, answer and errors are those of `deploy`.
    """
    until = time.monotonic() + timeout
    outcomes: dict[str, Deployed] = {}
    with Clusters(project.organisation, kubeconfig, context) as clusters:
        for place in _checked(project, environment, teams, kubeconfig, clusters, context, say):
            engine = releases(clusters.context(place.cluster))
            for team in place.teams:
                name, namespace = team.spec.name, team.spec.namespace_in(environment)
                try:
                    there = engine.uninstall(release=name, namespace=namespace)
                except ElfError as error:
                    outcomes[name] = Deployed(name, namespace, False, (str(error),))
                    continue
                say(f"{name}: {'removed from' if there else 'is not in'} {namespace}")
                outcomes[name] = _gone(name, namespace, clusters.api(place.cluster), until)
    return tuple(outcomes[team.spec.name] for team in teams)


def _checked(
    project: Project,
    environment: Environment,
    teams: Sequence[LoadedTeam],
    kubeconfig: Kubeconfig,
    clusters: Clusters,
    context: str,
    say: Say,
) -> tuple[Place, ...]:
    """Where the teams go, after every reason not to go there was looked for."""
    wanted = places(teams, [environment], project.organisation)
    for place in wanted:
        found = clusters.context(place.cluster)
        if not context and found.name != kubeconfig.current:
            raise BadInput(
                f"{environment.name} is in the cluster {place.cluster.name!r}, to which the context {found.name!r} "
                f"leads, and the current one is {kubeconfig.current!r}; switch (kubectl config use-context "
                f"{found.name}), or say --context {found.name}"
            )
    kept = _kept_by_argo_cd(project, environment, teams, clusters, say)
    if kept:
        raise BadInput(
            f"Argo CD keeps {', '.join(kept)} in {environment.name}, and would undo this; change the GitOps "
            "repository, or take the Application away first"
        )
    return wanted


def _kept_by_argo_cd(
    project: Project, environment: Environment, teams: Sequence[LoadedTeam], clusters: Clusters, say: Say
) -> list[str]:
    cluster = argo_cd_cluster(project.organisation)
    if cluster is None:
        return []
    try:
        found = read_applications(clusters.api(cluster), project.organisation.gitops.argocd_namespace) or {}
    except (BadInput, Forbidden) as error:
        # Whoever reaches only their own cluster, or namespace, may deploy there all the same.
        say(f"warning: whether Argo CD keeps a team is not known: {error}")
        return []
    return [team.spec.name for team in teams if application_name(team.spec.name, environment.name) in found]


def _make_namespaces(place: Place, api: KubeApi, say: Say) -> None:
    for namespace in place.namespaces():
        try:
            if api.find(NAMESPACES, "", namespace) is not None:
                continue
            api.create(NAMESPACES, "", {"metadata": {"name": namespace, "labels": dict(POD_SECURITY)}})
        except (Conflict, Forbidden):
            # Somebody else just made it; or it was given to somebody who may not look at namespaces.
            continue
        say(f"made the namespace {namespace}")


def _lay_out(charts: Iterable[TeamChart], environment: Environment, directory: Path) -> None:
    """Write the charts below `directory`, and prove them for the environment."""
    provable = []
    for chart in charts:
        write_tree(directory / chart.team, chart.tree)
        namespaces = {environment.name: chart.namespaces[environment.name]}
        provable.append(Provable(chart.team, directory / chart.team, namespaces))
    with Prover(charts=len(provable)) as prover:
        wrong = [f"{proof.team}: {why}" for proof in prover.prove(provable) for why in proof.wrong.values()]
    if wrong:
        raise Failure("\n".join([f"nothing was installed in {environment.name}, because of:", *wrong]))


def _missing_secrets(charts: TeamCharts, place: Place, api: KubeApi) -> Iterator[str]:
    needed = needed_secrets(charts, place.teams, place.environment)
    try:
        for finding in check_secrets(needed, api):
            if finding.wrong:
                yield str(finding)
    except ElfError as error:
        yield f"whether the Secrets are there is not known: {error}"


def _install(
    place: Place, engine: Releases, charts: Mapping[str, TeamChart], directory: Path, say: Say
) -> dict[str, Deployed]:
    """Install the teams of a place; those that Helm or the cluster refused."""

    def install(team: LoadedTeam) -> Deployed | None:
        name, namespace = team.spec.name, team.spec.namespace_in(place.environment)
        values = charts[name].values[place.environment.name]
        try:
            engine.install(directory / name, values, release=name, namespace=namespace)
        except ElfError as error:
            return Deployed(name, namespace, False, (str(error),))
        say(f"{name}: {team.spec.version} installed in {namespace} by {engine.name}")
        return None

    with ThreadPoolExecutor(_WORKERS) as pool:
        return {refused.team: refused for refused in pool.map(install, place.teams) if refused is not None}


def _wait(
    charts: TeamCharts, place: Place, teams: Sequence[LoadedTeam], api: KubeApi, until: float, say: Say
) -> dict[str, Deployed]:
    waiting = {team.spec.name: team.spec.namespace_in(place.environment) for team in teams}
    outcomes: dict[str, Deployed] = {}
    said: dict[str, tuple[str, ...]] = {}
    while waiting:
        for namespace in sorted(set(waiting.values())):
            deployments = {each["metadata"]["name"]: each for each in api.list(DEPLOYMENTS, namespace)}
            late: list[str] = []
            for name in [name for name, where in waiting.items() if where == namespace]:
                if is_ready(deployments.get(name)):
                    outcomes[name] = Deployed(name, namespace, True)
                    say(f"{name}: ready")
                    del waiting[name]
                else:
                    late.append(name)
            over = time.monotonic() >= until
            if late:
                seen = _look(api, namespace)
                for name in late:
                    problems = _problems(name, deployments.get(name), seen)
                    if over:
                        outcomes[name] = _late(charts, place, name, namespace, problems, seen, api)
                        del waiting[name]
                    elif problems and said.get(name) != problems:
                        said[name] = problems
                        say(f"{name}: waits: {'; '.join(problems)}")
        if waiting:
            time.sleep(min(_PERIOD, max(0.0, until - time.monotonic())))
    return outcomes


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is in a namespace beside the Deployments."""

    replica_sets: Sequence[Object]
    pods: Sequence[Object]
    events: Sequence[Object]

    def of(self, team: str) -> tuple[list[Object], list[Object]]:
        """Its ReplicaSets and pods."""

        def own(objects: Sequence[Object]) -> list[Object]:
            return [each for each in objects if (each["metadata"].get("labels") or {}).get("app") == team]

        return own(self.replica_sets), own(self.pods)


def _look(api: KubeApi, namespace: str) -> _Seen:
    return _Seen(api.list(REPLICA_SETS, namespace), api.list(PODS, namespace), api.list(EVENTS, namespace))


def _problems(team: str, deployment: Object | None, seen: _Seen) -> tuple[str, ...]:
    return obstacles(deployment, *seen.of(team), seen.events)


def _late(
    charts: TeamCharts,
    place: Place,
    name: str,
    namespace: str,
    problems: tuple[str, ...],
    seen: _Seen,
    api: KubeApi,
) -> Deployed:
    """A team that is not ready in time, with all that can be said about it."""
    team = next(team for team in place.teams if team.spec.name == name)
    own = Place(place.environment, place.cluster, (team,))
    secrets = tuple(_missing_secrets(charts, own, api))
    replica_sets, pods = seen.of(name)
    log: list[str] = []
    for pod, container in crashed(pods, replica_sets):
        log = _last_lines(api, namespace, pod, container)
        if log:
            break
    every = tuple(dict.fromkeys((*secrets, *problems))) or ("it is not ready, and its pods do not say why",)
    return Deployed(name, namespace, False, every, tuple(log))


def _last_lines(api: KubeApi, namespace: str, pod: str, container: str) -> list[str]:
    for previous in ("false", "true"):
        query = {"container": container, "tailLines": str(_LAST_LINES), "previous": previous}
        try:
            with api.lines(PODS, namespace, pod, "log", query, silence=10) as lines:
                found = [line.decode("utf-8", "replace")[:_LINE] for line in lines]
        except ElfError:
            # The log went with its container, or may not be read; the exit code is told all the same.
            continue
        if found:
            return found[-_LAST_LINES:]
    return []


def _gone(team: str, namespace: str, api: KubeApi, until: float) -> Deployed:
    while True:
        left = api.list(PODS, namespace, labels={"app": team})
        if not left and api.find(DEPLOYMENTS, namespace, team) is None:
            return Deployed(team, namespace, True)
        if time.monotonic() >= until:
            pods = ", ".join(pod["metadata"]["name"] for pod in left) or "its Deployment"
            return Deployed(team, namespace, False, (f"{pods} is still there; it may have runs to finish",))
        time.sleep(min(_PERIOD, max(0.0, until - time.monotonic())))
