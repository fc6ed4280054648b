"""What `elf gitops write` makes of a project: pure, from the teams, elf.yaml and what a commit holds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from elf_sdk.deploy.chart import Templates, load_templates
from elf_sdk.deploy.encode import to_yaml
from elf_sdk.deploy.gitops import argocd
from elf_sdk.deploy.gitops.app import App
from elf_sdk.deploy.gitops.argocd import IN_CLUSTER, Source
from elf_sdk.deploy.gitops.change import Change
from elf_sdk.deploy.gitops.directory import Directories
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
from elf_sdk.deploy.gitops.snapshot import Snapshot
from elf_sdk.deploy.images import read_digests
from elf_sdk.errors import BadInput
from elf_sdk.team.edges import compile_edges
from elf_sdk.team.organisation import Cluster, Environment, Organisation
from elf_sdk.team.project import Project

__all__ = ["Asked", "Plan", "plan", "refuse_removal", "structure", "team_places"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What `elf gitops write` is asked for.

    Attributes:
        teams: names; none means those of the project's path.
        all_environments: not only the first environment.
        allow_remove: how many teams may be removed at most.
    """

    teams: tuple[str, ...] = ()
    all_environments: bool = False
    allow_remove: int = 0

    @property
    def scope(self) -> str:
        """As it stands in a commit."""
        words = ["all-environments"] if self.all_environments else []
        return " ".join([*words, *self.teams, *([f"allow-remove={self.allow_remove}"] if self.allow_remove else [])])

    @classmethod
    def from_scope(cls, scope: str) -> Asked:
        """What stands in a commit, as it was asked for."""
        words = scope.split()
        removed = [word.removeprefix("allow-remove=") for word in words if word.startswith("allow-remove=")]
        names = [word for word in words if word not in ("all-environments", "first-environment") and "=" not in word]
        allowed = int(removed[0]) if removed and removed[0].isdecimal() else 0
        return cls(tuple(names), "all-environments" in words, allowed)


@dataclass(frozen=True, slots=True)
class Plan:
    """What the repository becomes.

    Attributes:
        change: every place that was looked at, those that stay as they are included.
        namespaces: by environment and team, where each chart goes.
        warnings: what will not work although the charts are right, and what is left to do.
    """

    change: Change
    namespaces: Mapping[tuple[str, str], str]
    warnings: tuple[str, ...]


def plan(project: Project, asked: Asked, base: Snapshot, source: Source, templates: Templates | None = None) -> Plan:
    """The plan for `project` on top of `base`.

    Args:
        project: the organisation and its teams.
        asked: what is to be written.
        base: the commit that it goes on.
        source: where Argo CD reads.
        templates: of the charts; default: those that came with this package.

    Raises:
        BadInput: it cannot be written so, or would take away what nobody said should go.
    """
    organisation = project.organisation
    selected = project.select(asked.teams)
    first, *others = organisation.environments
    whole = not asked.teams and len(selected) == len(project.teams) and project.teams_dir != project.teams[0].directory
    directories = Directories(organisation, templates or load_templates())
    places: dict[str, Tree | None] = dict(structure(project, source))
    namespaces: dict[tuple[str, str], str] = {}
    warnings = [str(problem) for problem in project.warnings]
    gone = _gone(project, base, asked.allow_remove) if whole else {}
    for environment in organisation.environments if asked.all_environments else [first]:
        present = {*base.teams(environment.name), *(team.spec.name for team in selected)}
        present -= {name for name, where in gone.items() if environment.name in where}
        for team in selected:
            digests = read_digests(team.directory, organisation)
            # At the start every environment runs what the first one does, unless it was given its own.
            digest = digests.get(environment.name) or digests.get(first.name, "")
            edges = compile_edges(project.org, organisation, environment, team.spec.name, present)
            made = directories.make(team.spec, environment, edges, digest)
            places |= team_places(made.app, made.files, environment, organisation, source)
            namespaces[environment.name, team.spec.name] = made.app.namespace
            warnings += made.warnings
    for team_name, where in gone.items():
        for name in where:
            places |= {team_place(name, team_name): None, project_place(name, team_name): None}
    if asked.all_environments:
        _refuse_later(Change(places).against(base), base, others)
    if whole:
        warnings += _left(project, base)
    change = Change(dict(sorted(places.items())), "write", asked.scope)
    return Plan(change, namespaces, tuple(warnings))


def team_places(
    app: App, files: Tree, environment: Environment, organisation: Organisation, source: Source
) -> dict[str, Tree | None]:
    """The places of a team that is in an environment: its directory and its AppProject."""
    project = argocd.app_project(
        app.team, environment, organisation, source, server=app.server, namespace=app.namespace
    )
    return {
        team_place(environment.name, app.team): files,
        project_place(environment.name, app.team): _file([project]),
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
    places = {f"{BOOTSTRAP}/root.yaml": _file(argocd.root(organisation, source, others))}
    if here:
        places[f"{BOOTSTRAP}/namespaces.yaml"] = _file(argocd.namespaces(here, organisation))
    for other in others:
        names = argocd.namespaces(wanted[other.name], organisation)
        places[f"{CLUSTERS}/{other.name}/namespaces.yaml"] = _file(names)
    for environment in organisation.environments:
        made = argocd.application_set(environment, organisation, source)
        places[application_set_place(environment.name)] = _file([made])
    return places


def _file(objects: Sequence[Mapping[str, Any]]) -> Tree:
    return {"": (GENERATED + "---\n".join(to_yaml(each) for each in objects)).encode()}


def _gone(project: Project, base: Snapshot, allowed: int) -> dict[str, list[str]]:
    """The teams that the project no longer has, with the environments that they leave by themselves."""
    organisation = project.organisation
    known = {team.spec.name for team in project.teams}
    found: dict[str, list[str]] = {}
    for environment in organisation.environments:
        if not argocd.guarded(environment):
            for team in base.teams(environment.name):
                if team not in known:
                    found.setdefault(team, []).append(environment.name)
    refuse_removal(found, organisation.archived, allowed)
    return found


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


def _refuse_later(change: Change, base: Snapshot, others: Iterable[Environment]) -> None:
    for environment in others:
        if not base.teams(environment.name):
            continue
        changed = [
            each[1] for place in change.places if (each := environment_of(place)) and each[0] == environment.name
        ]
        if changed:
            raise BadInput(
                f"{environment.name} has teams already, and {_some(changed)} would change there; "
                "--all-environments is for the very start, later changes are promoted"
            )


def _left(project: Project, base: Snapshot) -> Iterator[str]:
    known = {team.spec.name for team in project.teams}
    for environment in project.organisation.environments:
        if argocd.guarded(environment):
            for team in base.teams(environment.name):
                if team not in known:
                    yield (
                        f"{team} has no team.yaml any more and is still in {environment.name}, where nothing goes by "
                        f"itself; elf remove {team} --env {environment.name} takes it away"
                    )
