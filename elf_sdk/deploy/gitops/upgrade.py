"""`elf upgrade`: the library of the charts in one environment, and nothing else.

Version, image and values of each team stay as they are in the repository, whatever its team.yaml says by now. Only what
the new library's schema does not know goes, and what is new in it comes with its default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from elf_sdk.deploy.chart import LIBRARY, Templates, load_templates
from elf_sdk.deploy.gitops.argocd import Source
from elf_sdk.deploy.gitops.change import Change
from elf_sdk.deploy.gitops.deployed import Deployed, refuse_manifests
from elf_sdk.deploy.gitops.directory import Directories
from elf_sdk.deploy.gitops.layout import Tree
from elf_sdk.deploy.gitops.plan import team_places
from elf_sdk.deploy.gitops.proof import Chart, Progress, render
from elf_sdk.deploy.gitops.repository import Repository
from elf_sdk.deploy.gitops.snapshot import Snapshot
from elf_sdk.deploy.helm import Choice, Helm
from elf_sdk.errors import BadInput
from elf_sdk.team.edges import compile_edges
from elf_sdk.team.organisation import Environment
from elf_sdk.team.project import Project

__all__ = ["Upgrade", "Upgraded", "upgrade", "upgrade_of"]


@dataclass(frozen=True, slots=True)
class Upgraded:
    """A team whose chart has another library.

    Attributes:
        before: as it is.
        after: as it becomes.
    """

    before: Deployed
    after: Deployed


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What an upgrade does.

    Attributes:
        environment: that changes.
        library: the version that all its charts have then.
        teams: those that change, sorted by name.
        change: to the repository.
        commit: that was made; None before, and where there is nothing to do.
        helm: which Helm proved the charts; empty where none had to be proven.
        warnings: teams that stay as they are, one sentence each.
    """

    environment: Environment
    library: str
    teams: tuple[Upgraded, ...]
    change: Change
    commit: str | None = None
    helm: str = ""
    warnings: tuple[str, ...] = ()


def upgrade(
    project: Project,
    repository: Repository,
    environment: Environment,
    *,
    branch: str | None = None,
    check: bool = False,
    templates: Templates | None = None,
    helm: Choice | Callable[[], Helm] = "auto",
    progress: Progress = lambda done, total, about: None,
) -> Upgrade:
    """Bring the charts of an environment to this package's library, proven, in one commit.

    Args:
        project: the organisation and its teams.
        repository: the GitOps repository.
        environment: one of the organisation's.
        branch: a branch for a review, instead of the one that Argo CD follows.
        check: change nothing.
        templates: of charts; default: those that came with this package.
        helm: which Helm proves charts, or what gives it; asked for only when there is something to prove.
        progress: told about every chart.

    Raises:
        BadInput: the environment below has an older library, this one has a newer one, or the repository holds plain
            manifests.
        Failure: a chart is wrong with the new library; nothing was changed.
        ElfError: as `Repository.commit`.
    """
    with repository.lock():
        base = repository.head()
        planned = upgrade_of(project, base, repository.source, environment, templates or load_templates())
        if check or not planned.teams:
            return planned
        charts = [
            Chart(environment.name, each.after.app.team, each.after.app.namespace, each.after.files)
            for each in planned.teams
        ]
        engine, _ = render(charts, helm, progress=progress)
        made = repository.commit(planned.change, branch)
    return Upgrade(environment, planned.library, planned.teams, planned.change, made, engine, planned.warnings)


def upgrade_of(
    project: Project, base: Snapshot, source: Source, environment: Environment, templates: Templates
) -> Upgrade:
    """What an upgrade would do; nothing is proven or changed.

    Raises:
        BadInput: as `upgrade`.
    """
    library = templates.library_version
    refuse_manifests(base)
    present = base.teams(environment.name)
    _refuse_order(project, base, environment, library)
    directories = Directories(project.organisation, templates)
    places: dict[str, Tree | None] = {}
    upgraded: list[Upgraded] = []
    warnings: list[str] = []
    for name in present:
        spec = project.org.teams.get(name)
        there = Deployed.read(base, environment.name, name)
        assert there is not None  # noqa: S101 - the commit has just listed it
        if spec is None:
            warnings.append(f"{name} in {environment.name} has no team.yaml any more; its chart stays as it is")
            continue
        _refuse_newer(there, library)
        edges = compile_edges(project.org, project.organisation, environment, name, present)
        made = directories.make(
            spec.model_copy(update={"version": there.app.version}), environment, edges, there.app.digest
        )
        after = there.with_library(Deployed(environment.name, made.app, made.files))
        if after.files != there.files:
            upgraded.append(Upgraded(there, after))
            # A library may render kinds that the project of before does not allow.
            places |= team_places(after.app, after.files, environment, project.organisation, source)
    change = Change(
        dict(sorted(places.items())),
        "upgrade",
        title=f"Upgrade {_counted(upgraded)} in {environment.name} to {LIBRARY} {library}",
        trailers={"Elf-Library": library},
    )
    return Upgrade(environment, library, tuple(upgraded), change, warnings=tuple(warnings))


def _counted(teams: Sequence[Upgraded]) -> str:
    return f"the chart of {teams[0].after.app.team}" if len(teams) == 1 else f"the charts of {len(teams)} teams"


def _refuse_order(project: Project, base: Snapshot, environment: Environment, library: str) -> None:
    environments = list(project.organisation.environments)
    place = environments.index(environment)
    if place == 0:
        return
    lower = environments[place - 1].name
    here = base.teams(environment.name)
    late = [name for name, app in _apps(base, lower) if name in here and app != library]
    if late:
        raise BadInput(
            f"{late[0]} has another library than {library} in {lower}; upgrade that first: elf upgrade --env {lower}"
        )


def _apps(base: Snapshot, environment: str) -> Iterator[tuple[str, str]]:
    for name, app in base.environment(environment).items():
        yield name, app.library


def _refuse_newer(there: Deployed, library: str) -> None:
    if _numbers(there.app.library) > _numbers(library):
        raise BadInput(
            f"{there.app.team} in {there.environment} has the library {there.app.library}, and this elf brings "
            f"{library}; install the newer elf"
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdecimal() else 0 for part in version.partition("-")[0].split("."))
