"""`elf promote`: the chart and the image of one environment, in the next one.

All that a promotion moves is fixed when it begins, and is never read again: what is committed is what was looked at,
and what was looked at is what the evals have talked to.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from elf_sdk.deploy.chart import Templates, load_templates
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
from elf_sdk.deploy.image.registry import Registry
from elf_sdk.deploy.images import read_digests, write_digest
from elf_sdk.deploy.reference import Reference, registry_of
from elf_sdk.errors import BadInput, NotFound
from elf_sdk.team.edges import compile_edges
from elf_sdk.team.organisation import Environment, Organisation
from elf_sdk.team.project import LoadedTeam, Project

__all__ = ["Move", "Promotion", "below", "commit", "promotion", "prove", "refuse_absent"]


@dataclass(frozen=True, slots=True)
class Move:
    """One team of a promotion.

    Attributes:
        team: what is in its files.
        source: where it comes from.
        target: what the next environment becomes.
        before: what runs there; None where it is new.
    """

    team: LoadedTeam
    source: Deployed
    target: Deployed
    before: Deployed | None

    @property
    def changes(self) -> bool:
        """Whether anything becomes different."""
        return self.before is None or self.before.files != self.target.files


@dataclass(frozen=True, slots=True)
class Promotion:
    """All that a promotion does, fixed.

    Attributes:
        source: environment that is copied.
        target: environment that changes.
        moves: by team, in the order in which they were asked for.
        neighbours: teams of the target whose edges change, because a neighbour comes.
        change: to the repository.
        base: what it was made from.
        warnings: what will not work although the charts are right, and what should be known.
    """

    source: Environment
    target: Environment
    moves: tuple[Move, ...]
    neighbours: tuple[Deployed, ...]
    change: Change
    base: Snapshot
    warnings: tuple[str, ...]


def promotion(
    project: Project,
    base: Snapshot,
    source: Source,
    names: Sequence[str],
    to: str,
    *,
    by_tag: bool = False,
    templates: Templates | None = None,
) -> Promotion:
    """What promoting teams to an environment would do.

    Args:
        project: the organisation and its teams.
        base: what the GitOps repository holds.
        source: where Argo CD reads.
        names: of teams; none means all that are in the environment below.
        to: the environment, which is any but the first.
        by_tag: let images go by their tag, which may be another image by then.
        templates: of charts; default: those that came with this package.

    Raises:
        BadInput: it is the first environment, a team is not in the one below, its image has no digest, an edge would
            have only one end, or the repository holds plain manifests.
    """
    organisation = project.organisation
    target = organisation.environment(to)
    lower = below(organisation, target)
    refuse_manifests(base)
    teams = project.select(names or [name for name in base.teams(lower.name) if name in project.org.teams])
    if not names and not base.teams(lower.name):
        raise BadInput(f"no team is in {lower.name}; elf gitops write puts them into the first environment")
    directories = Directories(organisation, templates or load_templates())
    there = set(base.teams(target.name))
    present = there | {team.spec.name for team in teams}
    sources = [_source(base, lower, target, team.spec.name, by_tag=by_tag) for team in teams]
    _refuse_half_edges(project, teams, present, target)
    warnings: list[str] = []
    moves: list[Move] = []
    for team, found in zip(teams, sources, strict=True):
        read_digests(team.directory, organisation)  # what is wrong there is better said before anything is done
        made = _made(directories, project, team.spec.name, found, target, present)
        warnings += made[1]
        if found.app.version != team.spec.version:
            warnings.append(
                f"{team.spec.name} is {found.app.version} in {lower.name} and {team.spec.version} in {team.file}; what "
                f"{target.name} alone says is taken from that file as it is now"
            )
        before = Deployed.read(base, target.name, team.spec.name)
        moves.append(Move(team, found, found.moved(target.name, made[0]), before))
    neighbours = tuple(_neighbours(directories, project, base, target, there, present, teams))
    places: dict[str, Tree | None] = {}
    for deployed in (*(move.target for move in moves), *neighbours):
        places |= team_places(deployed.app, deployed.files, target, organisation, source)
    change = Change(
        dict(sorted(places.items())),
        "promote",
        title=_title(moves, lower, target),
        notes=tuple(f"{team.app.team} gets new neighbours, and nothing else" for team in neighbours),
        trailers={"Elf-Promoted-From": lower.name},
    )
    return Promotion(lower, target, tuple(moves), neighbours, change, base, tuple(warnings))


def prove(
    planned: Promotion,
    *,
    helm: Choice | Callable[[], Helm] = "auto",
    progress: Progress = lambda done, total, about: None,
) -> str:
    """Lint, render and check the charts as they will stand in the next environment.

    Args:
        planned: the promotion.
        helm: which Helm proves charts, or what gives it; asked for only when there is something to prove.
        progress: told about every chart.

    Returns:
        Which Helm did it.

    Raises:
        Failure: one is wrong; nothing was changed.
        Missing: Helm or the Kubernetes schemas have to be installed.
    """
    changed = [*(move.target for move in planned.moves if move.changes), *planned.neighbours]
    charts = [Chart(each.environment, each.app.team, each.app.namespace, each.files) for each in changed]
    engine, _ = render(charts, helm, progress=progress)
    return engine


def refuse_absent(planned: Promotion, credentials: Sequence[str] = ()) -> None:
    """Refuse a promotion of images that the registry of the next environment does not have.

    Images without a registry, which were loaded into a cluster by hand, are not looked for.

    Args:
        planned: the promotion.
        credentials: files in which docker and podman keep what opens registries.

    Raises:
        NotFound: an image is not there.
        Denied: the registry refuses this user.
        Retryable: it is not reached.
        Failure: it answers something else.
    """
    absent: list[str] = []
    for move in planned.moves:
        repository, digest = move.target.repository, move.target.app.digest
        host = registry_of(repository)
        if move.changes and digest and host:
            with Registry(host, credentials) as registry:
                if not registry.holds(Reference(host, repository.removeprefix(f"{host}/"), ""), digest):
                    absent.append(f"{repository}@{digest}")
    if absent:
        raise NotFound(
            f"the registry does not have {', '.join(absent)}; push it with elf image push, or copy it from that of "
            f"{planned.source.name}"
        )


def commit(
    project: Project,
    repository: Repository,
    planned: Promotion,
    *,
    notes: Iterable[str] = (),
    verdict: str = "",
    branch: str | None = None,
) -> str | None:
    """Commit a promotion, and write the digests into each team's images.lock.yaml.

    Args:
        project: as it was planned for.
        repository: the GitOps repository.
        planned: what is done.
        notes: lines for the commit: what the evals came to.
        verdict: the same in a word, for the commit's trailer Elf-Evals; empty for none.
        branch: a branch for a review, instead of the one that Argo CD follows.

    Returns:
        The commit; None where all is there already.

    Raises:
        Conflict: somebody has changed the same teams there since the promotion began.
        ElfError: as `Repository.commit`; nothing was changed.
    """
    change = replace(
        planned.change,
        notes=(*planned.change.notes, *notes),
        trailers={**planned.change.trailers, **({"Elf-Evals": verdict} if verdict else {})},
    )
    with repository.lock():
        change.refuse_overlap(planned.base, repository.head(), repository.algorithm)
        made = repository.commit(change, branch)
    for move in planned.moves:
        if move.target.app.digest:
            write_digest(move.team.directory, project.organisation, planned.target.name, move.target.app.digest)
    return made


def below(organisation: Organisation, environment: Environment) -> Environment:
    """The environment from which this one is promoted to: the one before it in elf.yaml.

    Raises:
        BadInput: it is the first.
    """
    environments = list(organisation.environments)
    place = environments.index(environment)
    if place == 0:
        raise BadInput(
            f"{environment.name} is the first environment, which elf gitops write writes; promote to another"
        )
    return environments[place - 1]


def _source(base: Snapshot, lower: Environment, target: Environment, team: str, *, by_tag: bool) -> Deployed:
    found = Deployed.read(base, lower.name, team)
    if found is None:
        raise BadInput(
            f"{team} is not in {lower.name}, and no environment is skipped; bring it there before {target.name}"
        )
    if found.app.state != "deployed":
        raise BadInput(f"{team} is leaving {lower.name}; what is being removed is not promoted")
    if not found.app.digest and not by_tag:
        raise BadInput(
            f"{team} runs in {lower.name} by the tag of its image, which may be another image in {target.name}; push "
            "it with elf image push, or promote it all the same with --by-tag"
        )
    return found


def _made(
    directories: Directories, project: Project, team: str, like: Deployed, target: Environment, present: Collection[str]
) -> tuple[Deployed, tuple[str, ...]]:
    """The directory as it would be made now, with the version and the image of `like`; and its warnings."""
    spec = project.org.teams[team].model_copy(update={"version": like.app.version})
    made = directories.make(
        spec, target, compile_edges(project.org, project.organisation, target, team, present), like.app.digest
    )
    return Deployed(target.name, made.app, made.files), made.warnings


def _refuse_half_edges(
    project: Project, teams: Iterable[LoadedTeam], present: Collection[str], target: Environment
) -> None:
    missing: dict[str, list[str]] = {}
    for team in teams:
        name = team.spec.name
        for other in dict.fromkeys((*project.org.callers(name), *project.org.callees(name))):
            if other not in present:
                missing.setdefault(other, []).append(name)
    if missing:
        edges = "; ".join(f"{other}, the other end of {', '.join(names)}" for other, names in sorted(missing.items()))
        raise BadInput(f"{target.name} does not have {edges}; promote them together: {' '.join(sorted(missing))} too")


def _neighbours(
    directories: Directories,
    project: Project,
    base: Snapshot,
    target: Environment,
    there: Collection[str],
    present: Collection[str],
    teams: Iterable[LoadedTeam],
) -> Iterator[Deployed]:
    """Those that are in the target already and get a neighbour now."""
    moved = {team.spec.name for team in teams}
    beside = {other for name in moved for other in (*project.org.callers(name), *project.org.callees(name))}
    for name in sorted(beside - moved):
        found = Deployed.read(base, target.name, name)
        if found is None:
            continue
        before, _ = _made(directories, project, name, found, target, there)
        after, _ = _made(directories, project, name, found, target, present)
        changed = found.with_edges(before, after)
        if changed is not found:
            yield changed


def _title(moves: Sequence[Move], lower: Environment, target: Environment) -> str:
    way = f"from {lower.name} to {target.name}"
    if len(moves) == 1:
        return f"Promote {moves[0].source.app.team} {moves[0].source.app.version} {way}"
    return f"Promote {len(moves)} teams {way}"
