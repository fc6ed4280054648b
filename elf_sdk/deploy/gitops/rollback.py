"""`elf promote --rollback`: a team's directory as it was before its last change, as a new commit.

The bytes are those of then: chart, image, values and edges. They were proven when they were written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from elf_sdk.deploy.gitops.change import Change
from elf_sdk.deploy.gitops.deployed import Deployed, refuse_manifests
from elf_sdk.deploy.gitops.layout import Tree, project_place, team_place
from elf_sdk.deploy.gitops.repository import Repository
from elf_sdk.deploy.gitops.snapshot import Snapshot
from elf_sdk.deploy.images import read_digests, write_digest
from elf_sdk.errors import BadInput
from elf_sdk.team.organisation import Environment
from elf_sdk.team.project import Project

__all__ = ["Return", "RolledBack", "rollback"]


@dataclass(frozen=True, slots=True)
class Return:
    """One team of a rollback.

    Attributes:
        before: what runs now.
        after: what ran before it.
        commit: that held it last.
    """

    before: Deployed
    after: Deployed
    commit: str


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What a rollback did.

    Attributes:
        commit: that was made; None with `check`.
        returns: by team, in the order in which they were asked for.
    """

    commit: str | None
    returns: tuple[Return, ...]


def rollback(
    project: Project,
    repository: Repository,
    names: Sequence[str],
    environment: Environment,
    branch: str | None = None,
    *,
    check: bool = False,
) -> RolledBack:
    """Return teams in an environment to what ran there before the last change of each.

    Args:
        project: the organisation and its teams.
        repository: the GitOps repository.
        names: of teams.
        environment: one of the organisation's.
        branch: a branch for a review, instead of the one that Argo CD follows.
        check: change nothing.

    Raises:
        BadInput: a team is not there, nothing of it was there before, or the repository holds plain manifests.
        ElfError: as `Repository.commit`; nothing was changed.
    """
    with repository.lock():
        base = repository.head()
        refuse_manifests(base)
        returns = tuple(_return(base, name, environment.name) for name in dict.fromkeys(names))
        if check:
            return RolledBack(None, returns)
        known = {team.spec.name: team.directory for team in project.teams}
        for each in returns:
            if each.after.app.team in known:
                read_digests(known[each.after.app.team], project.organisation)
        places: dict[str, Tree | None] = {}
        for each in returns:
            team = each.after.app.team
            places[team_place(environment.name, team)] = each.after.files
            boundary = project_place(environment.name, team)
            if (then := Snapshot(base.git, each.commit, base.path).read(boundary)) is not None:
                places[boundary] = then
        change = Change(
            dict(sorted(places.items())),
            "rollback",
            title=_title(returns, environment),
            notes=tuple(f"{each.after.app.team} as it was in {each.commit[:10]}" for each in returns),
            trailers={"Elf-Returned-To": ", ".join(dict.fromkeys(each.commit for each in returns))},
        )
        made = repository.commit(change, branch)
    for each in returns:
        app = each.after.app
        if app.digest and app.team in known:
            write_digest(known[app.team], project.organisation, environment.name, app.digest)
    return RolledBack(made, returns)


def _return(base: Snapshot, team: str, environment: str) -> Return:
    now = Deployed.read(base, environment, team)
    if now is None:
        raise BadInput(f"{team} is not in {environment}; elf promote --to {environment} brings it there")
    other: Return | None = None
    for each in _earlier(base, now):
        if each.after.app != now.app:
            return each
        # The same version and image with other values or neighbours: only where nothing else was ever there.
        other = other or each
    if other is None:
        raise BadInput(f"nothing of {team} was in {environment} before what is there now; elf remove takes it away")
    return other


def _earlier(base: Snapshot, now: Deployed) -> Iterator[Return]:
    """What was there before, the latest first."""
    assert base.commit is not None  # noqa: S101 - the team is in it
    place = team_place(now.environment, now.app.team)
    listed = base.git("--literal-pathspecs", "rev-list", "--first-parent", base.commit, "--", f"{base.path}/{place}")
    for changed in listed.split():
        done = base.git.attempt("rev-parse", "--verify", "--quiet", f"{changed}^1")
        if parent := done.stdout.decode().strip():
            then = Deployed.read(Snapshot(base.git, parent, base.path), now.environment, now.app.team)
            if then is not None and then.files != now.files:
                yield Return(now, then, parent)


def _title(returns: Sequence[Return], environment: Environment) -> str:
    if len(returns) == 1:
        app = returns[0].after.app
        return f"Return {app.team} in {environment.name} to {app.version}"
    return f"Return {len(returns)} teams in {environment.name} to what ran before"
