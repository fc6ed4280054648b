"""`elf gitops write`, `commit` and `push`: from a project to the repository that Argo CD watches."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from elf_sdk.cache import Cache
from elf_sdk.deploy.gitops.change import Change, Step, steps
from elf_sdk.deploy.gitops.choice import Asked
from elf_sdk.deploy.gitops.layout import ENVIRONMENTS, MANIFESTS, environment_of
from elf_sdk.deploy.gitops.manifests import plan_manifests
from elf_sdk.deploy.gitops.memory import Memory
from elf_sdk.deploy.gitops.plan import Plan, plan
from elf_sdk.deploy.gitops.proof import Progress, render
from elf_sdk.deploy.gitops.repository import Pushed, Repository
from elf_sdk.deploy.gitops.snapshot import Snapshot
from elf_sdk.deploy.helm import Choice, Helm
from elf_sdk.deploy.proofs import Proofs
from elf_sdk.errors import BadInput
from elf_sdk.team.project import Project

__all__ = ["Written", "push", "unwritten", "write"]


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
    helm: Choice | Callable[[], Helm] = "auto",
    check: bool = False,
    progress: Progress = lambda done, total, about: None,
) -> Written:
    """Write what `project` gives into the work tree of `repository`, proven before anything is replaced.

    Args:
        project: the organisation and its teams.
        repository: from `open_repository`.
        asked: what is to be written; default: all teams in the first environment.
        helm: which Helm proves charts, or what gives it; asked for only when there is something to prove.
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
        wanted, dirty = asked or Asked(), repository.dirty()
        _refuse_other_format(base, wanted)
        if wanted.format == "manifests":
            planned, engine = plan_manifests(project, wanted, base, repository.source, helm, progress)
        else:
            planned = _plan(project, repository, wanted, base, dirty)
            engine = "" if check else _prove(project, planned, base, repository, helm, progress)
        different = (
            planned.change.against(base, repository.algorithm) if check else repository.write(planned.change, dirty)
        )
        return Written(steps(different, base), tuple(different.places), engine, planned.warnings)


def unwritten(project: Project, repository: Repository, asked: Asked | None = None) -> Change:
    """What `write` would change in the checked-out commit.

    Raises:
        BadInput: as `write`.
    """
    base, wanted = repository.head(), asked or Asked()
    _refuse_other_format(base, wanted)
    if wanted.format == "manifests":
        planned, _ = plan_manifests(project, wanted, base, repository.source)
    else:
        planned = _plan(project, repository, wanted, base)
    return planned.change.against(base, repository.algorithm)


def push(
    project: Project,
    repository: Repository,
    branch: str | None = None,
    *,
    helm: Choice | Callable[[], Helm] = "auto",
) -> Pushed:
    """Push what was committed. Where the remote has moved, what `write` wrote is written anew for what is there now.

    Args:
        project: the organisation and its teams.
        repository: from `open_repository`.
        branch: of the clone, to be pushed under the same name; default: the one that it is on.
        helm: as of `write`.

    Raises:
        ElfError: as `Repository.push` and `write`.
    """

    def again(scope: str, base: Snapshot) -> Change:
        asked = Asked.from_scope(scope)
        _refuse_other_format(base, asked)
        if asked.format == "manifests":
            return plan_manifests(project, asked, base, repository.source, helm)[0].change
        planned = _plan(project, repository, asked, base)
        _prove(project, planned, base, repository, helm)
        return planned.change

    with repository.lock():
        return repository.push(again, branch)


def _refuse_other_format(base: Snapshot, asked: Asked) -> None:
    other = ENVIRONMENTS if asked.format == "manifests" else MANIFESTS
    if any(place.startswith(f"{other}/") for place in base.ids):
        written = "argocd" if asked.format == "manifests" else "manifests"
        raise BadInput(
            f"{base.path} was written with --format {written}, and both formats in it would deploy every team twice; "
            f"go on with --format {written}, or write to another directory: gitops: {{path: …}} in elf.yaml"
        )


def _plan(project: Project, repository: Repository, asked: Asked, base: Snapshot, dirty: Collection[str] = ()) -> Plan:
    with Cache.opened("gitops", str(repository.root), keep=True) as cache:
        return plan(
            project,
            asked,
            base,
            repository.source,
            memory=Memory(cache),
            dirty=dirty,
            algorithm=repository.algorithm,
        )


def _prove(
    project: Project,
    planned: Plan,
    base: Snapshot,
    repository: Repository,
    helm: Choice | Callable[[], Helm],
    progress: Progress = lambda done, total, about: None,
) -> str:
    changed = {environment_of(place) for place in planned.change.against(base, repository.algorithm).places}
    charts = [chart for chart in planned.charts if (chart.environment, chart.team) in changed]
    # One as it stands here, with its library as an archive; what elf package has proven of the others holds.
    charts[:1] = [replace(chart, key="") for chart in charts[:1]]
    with Proofs.of(project.root) as proofs:
        engine, _ = render(charts, helm, proofs=proofs, progress=progress)
    return engine
