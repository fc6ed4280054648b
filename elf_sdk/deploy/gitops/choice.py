"""What `elf gitops write` is asked for, beside what a commit holds: which teams, where, and who leaves.

What would go is guarded here: nothing leaves of which nobody said that it should.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from elf_sdk.deploy.gitops.argocd import guarded
from elf_sdk.deploy.gitops.change import Change
from elf_sdk.deploy.gitops.layout import environment_of
from elf_sdk.deploy.gitops.snapshot import Snapshot
from elf_sdk.errors import BadInput
from elf_sdk.team.organisation import Environment, Organisation
from elf_sdk.team.project import LoadedTeam, Project

__all__ = ["Asked", "Chosen", "Format", "choose", "refuse_later", "refuse_removal"]

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


def _gone(project: Project, base: Snapshot, allowed: int) -> tuple[tuple[str, str], ...]:
    """Environment and team of those that the project no longer has, where they leave by themselves."""
    known = {team.spec.name for team in project.teams}
    loose = [each.name for each in project.organisation.environments if not guarded(each)]
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
    for environment in filter(guarded, project.organisation.environments):
        for team in base.teams(environment.name):
            if team not in known:
                yield (
                    f"{team} has no team.yaml any more and is still in {environment.name}, where nothing goes by "
                    f"itself; elf remove {team} --env {environment.name} takes it away"
                )
