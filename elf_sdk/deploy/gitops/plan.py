"""What `elf gitops write` makes of a project: pure, from the teams, elf.yaml and what a commit holds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from elf_sdk.cache import digest_of
from elf_sdk.deploy.chart import load_templates
from elf_sdk.deploy.encode import to_yaml
from elf_sdk.deploy.gitops import argocd
from elf_sdk.deploy.gitops.app import App
from elf_sdk.deploy.gitops.argocd import IN_CLUSTER, Source
from elf_sdk.deploy.gitops.change import Change
from elf_sdk.deploy.gitops.choice import Asked, choose, refuse_later
from elf_sdk.deploy.gitops.directory import Directories, Directory
from elf_sdk.deploy.gitops.layout import (
    BOOTSTRAP,
    CLUSTERS,
    GENERATED,
    Tree,
    application_set_place,
    project_place,
    team_place,
)
from elf_sdk.deploy.gitops.memory import Memory, Remembered
from elf_sdk.deploy.gitops.objects import Hash, tree_id
from elf_sdk.deploy.gitops.proof import Chart
from elf_sdk.deploy.gitops.snapshot import Snapshot
from elf_sdk.deploy.images import read_digests
from elf_sdk.deploy.team_chart import TeamChart, TeamCharts
from elf_sdk.team.edges import Edges, compile_edges
from elf_sdk.team.organisation import Cluster, Environment, Organisation
from elf_sdk.team.project import LoadedTeam, Project

__all__ = ["Asked", "Plan", "make_directory", "object_file", "plan", "structure", "team_places"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What the repository becomes.

    Attributes:
        change: the places that were looked at; those that are known to stay as they are may be left out.
        charts: the teams' directories among them, to be proven.
        warnings: what will not work although the charts are right, and what is left to do.
    """

    change: Change
    charts: tuple[Chart, ...]
    warnings: tuple[str, ...]


def plan(
    project: Project,
    asked: Asked,
    base: Snapshot,
    source: Source,
    *,
    memory: Memory | None = None,
    dirty: Collection[str] = (),
    algorithm: Hash = "sha1",
) -> Plan:
    """The plan for `project` on top of `base`.

    Args:
        project: the organisation and its teams.
        asked: what is to be written.
        base: the commit that it goes on.
        source: where Argo CD reads.
        memory: what came of the teams the last time.
        dirty: places that are made whatever the memory says.
        algorithm: by which the repository names objects.

    Raises:
        BadInput: it cannot be written so, or would take away what nobody said should go.
    """
    chosen = choose(project, asked, base)
    places: dict[str, Tree | None] = dict(structure(project, source))
    warnings = [str(problem) for problem in project.warnings]
    maker = _Maker(project, source, memory, algorithm)
    for team in chosen.teams:
        for environment in chosen.environments:
            made, told = maker.make(team, environment, chosen.present[environment.name], base, dirty)
            places |= made
            warnings += told
    for environment_name, name in chosen.gone:
        places |= {team_place(environment_name, name): None, project_place(environment_name, name): None}
    change = Change(dict(sorted(places.items())), "write", asked.scope)
    refuse_later(change.against(base, algorithm), asked, base, project.organisation)
    return Plan(change, tuple(maker.charts), (*warnings, *chosen.warnings))


class _Maker:
    """Makes the places of teams, or knows that they stay as they are."""

    def __init__(self, project: Project, source: Source, memory: Memory | None, algorithm: Hash) -> None:
        templates = load_templates()
        self._project, self._source, self._memory, self._algorithm = project, source, memory, algorithm
        self._directories = Directories(project.organisation, templates)
        self._charts = TeamCharts(project, templates)
        self._keys: dict[str, str] = {}
        self._packaged: TeamChart | None = None
        self.charts: list[Chart] = []

    def make(
        self,
        team: LoadedTeam,
        environment: Environment,
        present: Collection[str],
        base: Snapshot,
        dirty: Collection[str],
    ) -> tuple[Mapping[str, Tree | None], tuple[str, ...]]:
        """The team's places in `environment`, none where they are known to be those of `base`; warnings."""
        organisation, name = self._project.organisation, team.spec.name
        edges = compile_edges(self._project.org, organisation, environment, name, present)
        key = self._key(team, environment, edges) if self._memory else ""
        place = team_place(environment.name, name)
        known = self._memory.recall(place, key) if self._memory else None
        if known and not any(base.ids.get(each) != known.ids[each] or each in dirty for each in known.ids):
            return {}, known.warnings
        if self._packaged is None or self._packaged.team != name:
            self._packaged = self._charts.chart(team)
        made = make_directory(self._directories, team, environment, edges, organisation, self._packaged)
        places = team_places(made.app, made.files, environment, organisation, self._source)
        self.charts.append(Chart(environment.name, name, made.app.namespace, made.files, made.proof))
        if self._memory:
            ids = {each: tree_id(tree, self._algorithm) for each, tree in places.items() if tree is not None}
            self._memory.remember(place, Remembered(key, ids, made.warnings))
        return places, made.warnings

    def _key(self, team: LoadedTeam, environment: Environment, edges: Edges) -> str:
        name = team.spec.name
        if name not in self._keys:
            self._keys[name] = self._charts.key(team)
        return digest_of(self._keys[name], environment.name, repr(edges), repr(self._source), self._algorithm)


def make_directory(
    directories: Directories,
    team: LoadedTeam,
    environment: Environment,
    edges: Edges,
    organisation: Organisation,
    packaged: TeamChart | None = None,
) -> Directory:
    """The directory of a team in `environment`, with the image that images.lock.yaml names for it."""
    digests = read_digests(team.directory, organisation)
    # At the start every environment runs what the first one does, unless it was given its own.
    digest = digests.get(environment.name) or digests.get(organisation.environments[0].name, "")
    return directories.make(team.spec, environment, edges, digest, packaged)


def team_places(
    app: App, files: Tree, environment: Environment, organisation: Organisation, source: Source
) -> dict[str, Tree | None]:
    """The places of a team that is in an environment: its directory and its AppProject."""
    project = argocd.app_project(
        app.team, environment, organisation, source, server=app.server, namespace=app.namespace
    )
    return {
        team_place(environment.name, app.team): files,
        project_place(environment.name, app.team): object_file([project]),
    }


def structure(project: Project, source: Source) -> dict[str, Tree]:
    """The places that belong to no team: the bootstrap and the ApplicationSets."""
    organisation = project.organisation
    clusters = {cluster.name: cluster for cluster in organisation.clusters}
    wanted: dict[str, set[tuple[str, str]]] = {}
    for environment in organisation.environments:
        wanted.setdefault(environment.cluster, set()).add((environment.namespace_name, environment.name))
        for team in project.teams:
            cluster = team.spec.cluster_in(environment)
            wanted.setdefault(cluster, set()).add((team.spec.namespace_in(environment), environment.name))
    others: list[Cluster] = [
        clusters[name] for name in sorted(wanted) if clusters[name].server.rstrip("/") != IN_CLUSTER
    ]
    elsewhere = {cluster.name for cluster in others}
    here = {each for name, names in wanted.items() if name not in elsewhere for each in names}
    places = {f"{BOOTSTRAP}/root.yaml": object_file(argocd.root(organisation, source, others))}
    if here:
        places[f"{BOOTSTRAP}/namespaces.yaml"] = object_file(argocd.namespaces(here, organisation))
    for other in others:
        names = argocd.namespaces(wanted[other.name], organisation)
        places[f"{CLUSTERS}/{other.name}/namespaces.yaml"] = object_file(names)
    for environment in organisation.environments:
        made = argocd.application_set(environment, organisation, source)
        places[application_set_place(environment.name)] = object_file([made])
    return places


def object_file(objects: Sequence[Mapping[str, Any]]) -> Tree:
    """The place that is a file with these objects."""
    return {"": (GENERATED + "---\n".join(to_yaml(each) for each in objects)).encode()}
