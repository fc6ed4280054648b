"""What `elf gitops write` makes of a project: pure, from the teams, elf.yaml and what a commit holds."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from elf_sdk.cache import digest_of
from elf_sdk.deploy.chart import load_templates
from elf_sdk.deploy.encode import to_yaml
from elf_sdk.deploy.gitops import argocd
from elf_sdk.deploy.gitops.app import App
from elf_sdk.deploy.gitops.argocd import IN_CLUSTER, Source
from elf_sdk.deploy.gitops.change import Change
from elf_sdk.deploy.gitops.directory import Directories, Directory
from elf_sdk.deploy.gitops.layout import (
    BOOTSTRAP,
    CLUSTERS,
    GENERATED,
    Tree,
    application_set_place,
    environment_of,
    project_place,
    team_place,
)
from elf_sdk.deploy.gitops.memory import Memory, Remembered
from elf_sdk.deploy.gitops.objects import Hash, tree_id
from elf_sdk.deploy.gitops.proof import Chart
from elf_sdk.deploy.gitops.snapshot import Snapshot
from elf_sdk.deploy.images import read_digests
from elf_sdk.deploy.team_chart import TeamChart, TeamCharts
from elf_sdk.errors import BadInput
from elf_sdk.team.edges import Edges, compile_edges
from elf_sdk.team.organisation import Cluster, Environment, Organisation
from elf_sdk.team.project import LoadedTeam, Project

__all__ = [
    "Asked",
    "Chosen",
    "Format",
    "Plan",
    "choose",
    "make_directory",
    "object_file",
    "plan",
    "refuse_later",
    "refuse_removal",
    "structure",
    "team_places",
]


Format = Literal["argocd", "manifests"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What `elf gitops write` is asked for.

    Attributes:
        teams: names; none means those of the project's path.
        all_environments: not only the first environment.
        allow_remove: how many teams may be removed at most.
        format: `argocd` for charts and ApplicationSets, `manifests` for plain rendered YAML with Kustomize.
    """

    teams: tuple[str, ...] = ()
    all_environments: bool = False
    allow_remove: int = 0
    format: Format = "argocd"

    @property
    def scope(self) -> str:
        """As it stands in a commit."""
        words = ["all-environments"] if self.all_environments else []
        words += [*self.teams, *([f"allow-remove={self.allow_remove}"] if self.allow_remove else [])]
        return " ".join([*words, *(["format=manifests"] if self.format == "manifests" else [])])

    @classmethod
    def from_scope(cls, scope: str) -> Asked:
        """What stands in a commit, as it was asked for."""
        words = scope.split()
        removed = [word.removeprefix("allow-remove=") for word in words if word.startswith("allow-remove=")]
        names = [word for word in words if word not in ("all-environments", "first-environment") and "=" not in word]
        allowed = int(removed[0]) if removed and removed[0].isdecimal() else 0
        plain: Format = "manifests" if "format=manifests" in words else "argocd"
        return cls(tuple(names), "all-environments" in words, allowed, plain)


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


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is asked for, beside what a commit holds.

    Attributes:
        teams: that are written.
        environments: in which they are.
        present: the teams that each of these then has.
        gone: environment and team of each that leaves.
        warnings: of teams that stay although their team.yaml is gone.
    """

    teams: tuple[LoadedTeam, ...]
    environments: tuple[Environment, ...]
    present: Mapping[str, Collection[str]]
    gone: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]


def choose(project: Project, asked: Asked, base: Snapshot) -> Chosen:
    """Which teams, in which environments, and who leaves.

    Raises:
        BadInput: there is no such team, or something would go that nobody said should.
    """
    known, selected = project.organisation.environments, project.select(asked.teams)
    whole = not asked.teams and len(selected) == len(project.teams) and project.teams_dir != project.teams[0].directory
    gone = _gone(project, base, asked.allow_remove) if whole else ()
    environments = known if asked.all_environments else known[:1]
    names = {team.spec.name for team in selected}
    present = {
        each.name: {*base.teams(each.name), *names} - {name for where, name in gone if where == each.name}
        for each in environments
    }
    return Chosen(selected, environments, present, gone, tuple(_left(project, base)) if whole else ())


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


def _gone(project: Project, base: Snapshot, allowed: int) -> tuple[tuple[str, str], ...]:
    """Environment and team of those that the project no longer has, where they leave by themselves."""
    known = {team.spec.name for team in project.teams}
    loose = [each.name for each in project.organisation.environments if not argocd.guarded(each)]
    gone = tuple((name, team) for name in loose for team in base.teams(name) if team not in known)
    refuse_removal({team for _, team in gone}, project.organisation.archived, allowed)
    return gone


def refuse_removal(teams: Collection[str], archived: Collection[str], allowed: int) -> None:
    """Refuse to remove teams of which nobody said that they should go.

    Args:
        teams: that would be removed.
        archived: those that are no more.
        allowed: how many may be removed all the same.

    Raises:
        BadInput: it is more than one, or one that is not archived, and more than `allowed`.
    """
    if len(teams) <= allowed or (len(teams) <= 1 and all(team in archived for team in teams)):
        return
    names = _some(sorted(teams))
    not_archived = [team for team in teams if team not in archived]
    what = f"{names} would be removed" + (
        f", and archived in elf.yaml {'does' if len(teams) == 1 else 'do'} not name {_some(sorted(not_archived))}"
        if not_archived
        else ", and only one may go at a time"
    )
    raise BadInput(
        f"{what}; look whether all of teams/ is here, and if {'it' if len(teams) == 1 else 'they'} really should go, "
        f"say --allow-remove {len(teams)}"
    )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown


def refuse_later(change: Change, asked: Asked, base: Snapshot, organisation: Organisation) -> None:
    """Refuse to write any but the first environment where it has teams already.

    Args:
        change: with nothing but what differs from `base`.
        asked: what is to be written.
        base: the commit that it goes on.
        organisation: whose environments they are.

    Raises:
        BadInput: a team there would change.
    """
    for environment in organisation.environments[1:] if asked.all_environments else ():
        inside = (environment_of(place) for place, tree in change.places.items() if tree is not None)
        changed = [each[1] for each in inside if each and each[0] == environment.name]
        if changed and base.teams(environment.name):
            raise BadInput(
                f"{environment.name} has teams already, and {_some(changed)} would change there; "
                "--all-environments is for the very start, later changes are promoted"
            )


def _left(project: Project, base: Snapshot) -> Iterator[str]:
    known = {team.spec.name for team in project.teams}
    for environment in filter(argocd.guarded, project.organisation.environments):
        for team in base.teams(environment.name):
            if team not in known:
                yield (
                    f"{team} has no team.yaml any more and is still in {environment.name}, where nothing goes by "
                    f"itself; elf remove {team} --env {environment.name} takes it away"
                )
