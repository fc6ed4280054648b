"""`elf deploy`: charts straight into a cluster, for people without Argo CD.

The charts are those of `elf package`, proven in the same way, from the files as they stand.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from elf_sdk.deploy.applications import read_applications
from elf_sdk.deploy.cluster.api import NAMESPACES, KubeApi
from elf_sdk.deploy.cluster.contexts import argo_cd_cluster
from elf_sdk.deploy.cluster.kubeconfig import Context, Kubeconfig
from elf_sdk.deploy.cluster.places import Clusters, Place, places
from elf_sdk.deploy.gitops.layout import application_name
from elf_sdk.deploy.prove import Provable, Prover
from elf_sdk.deploy.readiness import Deployed, Say, missing_secrets, wait_gone, wait_ready
from elf_sdk.deploy.release import Releases, choose_releases
from elf_sdk.deploy.team_chart import TeamChart, TeamCharts
from elf_sdk.errors import BadInput, Conflict, ElfError, Failure, Forbidden
from elf_sdk.files import write_tree
from elf_sdk.team.organisation import Environment
from elf_sdk.team.project import LoadedTeam, Project

__all__ = ["deploy", "remove"]

POD_SECURITY: Final = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
"""The labels of a namespace whose pods keep to the strictest standard."""

_WORKERS: Final = 4
"""Teams that are installed at once."""


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
                for sentence in missing_secrets(charts, place, api):
                    say(f"warning: {sentence}")
                engine = releases(clusters.context(place.cluster))
                outcomes |= _install(place, engine, made, Path(directory), say)
        for place in wanted:
            installed = [team for team in place.teams if team.spec.name not in outcomes]
            if timeout > 0:
                outcomes |= wait_ready(charts, place, installed, clusters.api(place.cluster), until, say)
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
                outcomes[name] = wait_gone(name, namespace, clusters.api(place.cluster), until)
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
