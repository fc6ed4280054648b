"""`elf remove --env`: how a team leaves an environment.

Where Applications sync themselves it is one commit: the directory goes, and Argo CD deletes the Application with all
that it made. Where they are guarded, as in prod, it is two. After the first the chart renders nothing but volumes and
Secrets, and the next sync prunes the rest; after the second the directory is gone, and a person deletes the empty
Application. Plain manifests have one Application for all teams, which stays, so there it is one commit too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import yaml

from elf_sdk.deploy.chart import templates_directory
from elf_sdk.deploy.encode import to_yaml
from elf_sdk.deploy.gitops.app import App
from elf_sdk.deploy.gitops.argocd import guarded
from elf_sdk.deploy.gitops.change import Change
from elf_sdk.deploy.gitops.choice import refuse_removal
from elf_sdk.deploy.gitops.layout import (
    APP_FILE,
    GENERATED,
    Tree,
    application_name,
    manifests_place,
    project_place,
)
from elf_sdk.deploy.gitops.manifests import environment_places
from elf_sdk.deploy.gitops.proof import Chart, render
from elf_sdk.deploy.gitops.repository import Repository
from elf_sdk.deploy.helm import Choice, Helm
from elf_sdk.deploy.kubernetes import parse_manifests
from elf_sdk.errors import BadInput
from elf_sdk.team.organisation import Environment, Organisation
from elf_sdk.team.project import Project

__all__ = ["Removed", "remove"]

_KEPT: Final = frozenset({"ExternalSecret", "PersistentVolumeClaim", "Secret"})


@dataclass(frozen=True, slots=True)
class Removed:
    """What became of a team in an environment.

    Attributes:
        commit: that was made.
        last: whether the directory is gone.
        kept: the objects that outlive the team, as `Kind/name`, sorted.
        next: what is left to do, in the order in which it is to be done.
    """

    commit: str
    last: bool
    kept: tuple[str, ...]
    next: tuple[str, ...]


def remove(
    team: str,
    environment: str,
    project: Project,
    repository: Repository,
    *,
    allowed: int = 0,
    branch: str | None = None,
    helm: Choice | Callable[[], Helm] = "auto",
) -> Removed:
    """Take a team out of an environment, or take the next step of that, and commit it.

    Args:
        team: its name.
        environment: its name.
        project: whose elf.yaml says what is archived.
        repository: from `open_repository`.
        allowed: how many teams may be removed that are not archived.
        branch: commit on this one instead.
        helm: which Helm renders what is kept, or what gives it.

    Raises:
        BadInput: there is no such team or environment, it is not archived, or the clone cannot be used.
        Failure: what is kept does not render, or the commit cannot be made; nothing was changed.
        Missing: Helm or the Kubernetes schemas have to be installed.
        Retryable: another `elf` is at work in the clone.
    """
    organisation = project.organisation
    where = organisation.environment(environment)
    with repository.lock():
        repository.branch()
        base = repository.head(branch)
        if base.commit is None:
            base = repository.head()
        place = base.places.get((environment, team))
        tree = base.read(place) if place else None
        if place is None or tree is None:
            there = ", ".join(base.teams(environment)) or "none"
            raise BadInput(f"there is no team {team} in {environment}; there are: {there}")
        refuse_removal([team], organisation.archived, allowed)
        app = App.decode(tree[APP_FILE], f"{place}/{APP_FILE}")
        plain = place == manifests_place(environment, team)
        objects = [] if plain else _kept(tree, app, environment, helm)
        last = plain or app.state == "leaving" or not guarded(where)
        places: dict[str, Tree | None] = {place: None}
        if plain:
            places |= environment_places(where, [each for each in base.teams(environment) if each != team], project)
        elif last:
            places |= {project_place(environment, team): None}
        else:
            directory = _leaving(tree, app, environment, objects)
            render([Chart(environment, team, app.namespace, directory)], helm)
            places = {place: directory}
        made = repository.commit(Change(places, "remove"), branch)
    assert made is not None  # noqa: S101 - for the type checker: a directory that is there goes or changes
    kept = tuple(sorted(f"{each['kind']}/{each['metadata']['name']}" for each in objects))
    return Removed(made, last, kept, tuple(_next(team, where, organisation, last=last, plain=plain)))


def _kept(tree: Tree, app: App, environment: str, helm: Choice | Callable[[], Helm]) -> list[Mapping[str, Any]]:
    _, rendered = render([Chart(environment, app.team, app.namespace, tree)], helm, manifests=True)
    objects = parse_manifests(rendered[environment, app.team])
    return [each for each in objects if each.get("kind") in _KEPT]


def _leaving(tree: Tree, app: App, environment: str, objects: list[Mapping[str, Any]]) -> Tree:
    chart = yaml.safe_load(tree["Chart.yaml"])
    chart.pop("dependencies", None)
    template = templates_directory() / "leaving" / "templates" / "kept.yaml"
    files = {
        APP_FILE: replace(app, state="leaving").encode(),
        "Chart.yaml": (GENERATED + to_yaml(chart)).encode(),
        "templates/kept.yaml": template.read_bytes(),
        "values.yaml": (GENERATED + to_yaml({"kept": objects})).encode(),
        f"values-{environment}.yaml": (GENERATED + to_yaml({})).encode(),
    }
    return dict(sorted(files.items()))


def _next(team: str, environment: Environment, organisation: Organisation, *, last: bool, plain: bool) -> list[str]:
    application = application_name(team, environment.name)
    if plain and guarded(environment) and environment.sync != "auto":
        return ["elf gitops push", f"sync with pruning: argocd app sync {organisation.name}-{environment.name} --prune"]
    if not last:
        sync = "" if environment.sync == "auto" else f"sync it with pruning: argocd app sync {application} --prune"
        return [
            "elf gitops push",
            *([sync] if sync else []),
            f"when its pods are gone: elf remove {team} --env {environment.name}",
        ]
    if plain or not guarded(environment):
        return ["elf gitops push"]
    home = organisation.gitops.argocd_namespace
    delete = f"kubectl delete application {application} --namespace {home}"
    return ["elf gitops push", f"delete the empty Application: {delete}"]
