"""`--format manifests`: plain rendered YAML with Kustomize, for those who want no chart in their cluster.

applications/teams-app.yaml             an AppProject and an Application for each environment
manifests/environments/<env>/
├── kustomization.yaml                  all teams of the environment
└── namespaces.yaml
manifests/teams/<team>/<env>/
├── kustomization.yaml
├── app.yaml                            version, image, cluster, namespace
└── <kind>-<name>.yaml                  one file an object
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from elf_sdk.deploy.chart import load_templates
from elf_sdk.deploy.encode import to_yaml
from elf_sdk.deploy.gitops import argocd
from elf_sdk.deploy.gitops.argocd import Source
from elf_sdk.deploy.gitops.change import Change
from elf_sdk.deploy.gitops.choice import Asked, choose, refuse_later
from elf_sdk.deploy.gitops.directory import Directories, Directory
from elf_sdk.deploy.gitops.layout import (
    APP_FILE,
    GENERATED,
    KUSTOMIZATION,
    MANIFESTS,
    TEAMS_APP,
    Tree,
    environment_place,
    manifests_place,
)
from elf_sdk.deploy.gitops.plan import Plan, make_directory, object_file
from elf_sdk.deploy.gitops.proof import Chart, Progress, render
from elf_sdk.deploy.gitops.snapshot import Snapshot
from elf_sdk.deploy.helm import Choice, Helm
from elf_sdk.deploy.kubernetes import parse_manifests
from elf_sdk.errors import BadInput
from elf_sdk.team.edges import compile_edges
from elf_sdk.team.organisation import Environment, Organisation
from elf_sdk.team.project import Project

__all__ = ["environment_places", "plan_manifests"]


def plan_manifests(
    project: Project,
    asked: Asked,
    base: Snapshot,
    source: Source,
    helm: Choice | Callable[[], Helm] = "auto",
    progress: Progress = lambda done, total, about: None,
) -> tuple[Plan, str]:
    """The plan for `project` on top of `base`, and which Helm rendered it.

    Args:
        project: the organisation and its teams.
        asked: what is to be written.
        base: the commit that it goes on.
        source: where Argo CD reads.
        helm: which Helm renders, or what gives it.
        progress: told about every chart.

    Raises:
        BadInput: it cannot be written so, or would take away what nobody said should go.
        Failure: something does not render.
        Missing: Helm or the Kubernetes schemas have to be installed.
    """
    organisation = project.organisation
    chosen = choose(project, asked, base)
    directories = Directories(organisation, load_templates())
    made: dict[tuple[str, str], Directory] = {}
    for environment in chosen.environments:
        for team in chosen.teams:
            if team.spec.cluster_in(environment) != environment.cluster:
                raise BadInput(
                    f"{team.spec.name} runs in another cluster than the rest of {environment.name}, and plain "
                    "manifests have one Application an environment; write --format argocd"
                )
            present_here = chosen.present[environment.name]
            edges = compile_edges(project.org, organisation, environment, team.spec.name, present_here)
            made[environment.name, team.spec.name] = make_directory(directories, team, environment, edges, organisation)
    charts = [Chart(*where, each.app.namespace, each.files) for where, each in made.items()]
    engine, rendered = render(charts, helm, manifests=True, progress=progress)
    places: dict[str, Tree | None] = {
        manifests_place(*where): _directory(each, parse_manifests(rendered[where])) for where, each in made.items()
    }
    places |= {manifests_place(*where): None for where in chosen.gone}
    present = {each.name: base.teams(each.name) for each in organisation.environments} | {
        name: tuple(sorted(teams)) for name, teams in chosen.present.items()
    }
    for environment in organisation.environments:
        if present[environment.name]:
            places |= environment_places(environment, present[environment.name], project)
    places[TEAMS_APP] = object_file(
        [
            each
            for environment in organisation.environments
            if present[environment.name]
            for each in _application(environment, project, source)
        ]
    )
    change = Change(dict(sorted(places.items())), "write", asked.scope)
    refuse_later(change.against(base), asked, base, organisation)
    warnings = [*map(str, project.warnings), *(told for each in made.values() for told in each.warnings)]
    return Plan(change, (), (*warnings, *chosen.warnings)), engine


def _directory(made: Directory, objects: Sequence[Mapping[str, Any]]) -> Tree:
    files = {f"{str(each['kind']).lower()}-{each['metadata']['name']}.yaml": _text(each) for each in objects}
    kustomization = _text(_kustomization(sorted(files)))
    return dict(sorted({**files, KUSTOMIZATION: kustomization, APP_FILE: made.app.encode()}.items()))


def _text(data: Mapping[str, Any]) -> bytes:
    return (GENERATED + to_yaml(data)).encode()


def _kustomization(resources: Sequence[str]) -> dict[str, Any]:
    return {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": list(resources)}


def _namespaces(environment: Environment, project: Project) -> list[tuple[str, str]]:
    names = {environment.namespace_name, *(team.spec.namespace_in(environment) for team in project.teams)}
    return [(name, environment.name) for name in sorted(names)]


def environment_places(environment: Environment, teams: Iterable[str], project: Project) -> dict[str, Tree]:
    """The places of an environment with these teams."""
    resources = ["namespaces.yaml", *(f"../../teams/{team}/{environment.name}" for team in teams)]
    namespaces = argocd.namespaces(_namespaces(environment, project), project.organisation)
    return {
        environment_place(environment.name, KUSTOMIZATION): {"": _text(_kustomization(resources))},
        environment_place(environment.name, "namespaces.yaml"): object_file(namespaces),
    }


def _application(environment: Environment, project: Project, source: Source) -> list[dict[str, Any]]:
    organisation = project.organisation
    namespaces = [name for name, _ in _namespaces(environment, project)]
    path = f"{source.path}/{MANIFESTS}/environments/{environment.name}"
    return argocd.environment_application(
        environment, organisation, source, path=path, server=_server(environment, organisation), namespaces=namespaces
    )


def _server(environment: Environment, organisation: Organisation) -> str:
    return organisation.cluster(environment.cluster).server
