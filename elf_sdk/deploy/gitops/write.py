"""`elf gitops write`, `commit` and `push`: from a project to the repository that Argo CD watches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from elf_sdk.deploy.gitops.change import Change, Step, steps
from elf_sdk.deploy.gitops.layout import environment_of
from elf_sdk.deploy.gitops.plan import Asked, Plan, plan
from elf_sdk.deploy.gitops.proof import Chart, Progress, render
from elf_sdk.deploy.gitops.repository import Pushed, Repository
from elf_sdk.deploy.gitops.snapshot import Snapshot
from elf_sdk.deploy.helm import Helm, choose_helm
from elf_sdk.team.project import Project

__all__ = ["Written", "push", "write"]


@dataclass(frozen=True, slots=True)
class Written:
    """What `write` did, or with `check` would do, compared with the checked-out commit.

    Attributes:
        steps: what happens to teams.
        places: every place that differs, sorted.
        helm: which Helm proved the charts; empty where none had to be proven.
        warnings: what will not work although the charts are right, and what is left to do.
    """

    steps: tuple[Step, ...]
    places: tuple[str, ...]
    helm: str
    warnings: tuple[str, ...]


def write(
    project: Project,
    repository: Repository,
    asked: Asked | None = None,
    *,
    helm: Callable[[], Helm] = choose_helm,
    check: bool = False,
    progress: Progress = lambda done, total, about: None,
) -> Written:
    """Write what `project` gives into the work tree of `repository`, proven before anything is replaced.

    Args:
        project: the organisation and its teams.
        repository: from `open_repository`.
        asked: what is to be written; default: all teams in the first environment.
        helm: gives the Helm that proves charts; called only when there is something to prove.
        check: change nothing.
        progress: told about every chart.

    Raises:
        BadInput: the teams or the clone cannot be used, or something would go that nobody said should.
        Failure: a chart is wrong, or the clone cannot be written; nothing was changed.
        Missing: Helm or the Kubernetes schemas have to be installed.
        Retryable: another `elf` is at work in the clone.
    """
    with repository.lock():
        repository.branch()
        base = repository.head()
        planned = plan(project, asked or Asked(), base, repository.source)
        engine = "" if check else _prove(planned, base, repository, helm, progress)
        different = planned.change.against(base, repository.algorithm) if check else repository.write(planned.change)
        return Written(steps(different, base), tuple(different.places), engine, planned.warnings)


def push(
    project: Project,
    repository: Repository,
    branch: str | None = None,
    *,
    helm: Callable[[], Helm] = choose_helm,
) -> Pushed:
    """Push what was committed. Where the remote has moved, what `write` wrote is written anew for what is there now.

    Args:
        project: the organisation and its teams.
        repository: from `open_repository`.
        branch: of the clone, to be pushed under the same name; default: the one that it is on.
        helm: gives the Helm that proves charts.

    Raises:
        ElfError: as `Repository.push` and `write`.
    """

    def again(scope: str, base: Snapshot) -> Change:
        planned = plan(project, Asked.from_scope(scope), base, repository.source)
        _prove(planned, base, repository, helm, lambda done, total, about: None)
        return planned.change

    with repository.lock():
        return repository.push(again, branch)


def _prove(planned: Plan, base: Snapshot, repository: Repository, helm: Callable[[], Helm], progress: Progress) -> str:
    engine, _ = render(
        _charts(planned.change.against(base, repository.algorithm), planned.namespaces), helm=helm, progress=progress
    )
    return engine


def _charts(change: Change, namespaces: Mapping[tuple[str, str], str]) -> list[Chart]:
    return [
        Chart(*where, namespaces[where], tree)
        for place, tree in change.places.items()
        if tree is not None and (where := environment_of(place))
    ]
