"""The tree of teams: who reports to whom, who may call whom, and what does not fit.

An edge counts when both sides name it: `reports_to` and `manages`, or `peers` twice. Everything that is compiled from
relationships (policies, routes, allow-lists) asks `Org`, which knows whole edges only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol

from elf_sdk.errors import Problem
from elf_sdk.team.base import Location, field_path
from elf_sdk.team.spec import TeamSpec

__all__ = ["Edge", "Half", "Org", "Placed", "check_org"]


class Placed(Protocol):
    """A spec that knows its file; what `elf_sdk.team.load` gives."""

    @property
    def spec(self) -> TeamSpec:
        """The team."""

    @property
    def file(self) -> str:
        """Path as the user would type it."""

    def line(self, location: Location) -> int:
        """1-based line of a field."""


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """A relationship that both sides name.

    Attributes:
        kind: `manages` from the upper to the lower team, or `peers` from the first to the second by name.
        source: the upper, or the first team.
        target: the lower, or the second team.
    """

    kind: Literal["manages", "peers"]
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Half:
    """A relationship that only one side names.

    Attributes:
        team: who names it.
        location: the field of that team.
        other: who does not.
        remedy: what the other would have to write.
    """

    team: str
    location: Location
    other: str
    remedy: str


class Org:
    """An organisation of teams, by their specs. Where two have one name, the first counts."""

    def __init__(self, specs: Iterable[TeamSpec]) -> None:
        teams: dict[str, TeamSpec] = {}
        for spec in specs:
            teams.setdefault(spec.name, spec)
        self._teams = {name: teams[name] for name in sorted(teams)}
        self._parent: dict[str, str] = {}
        self._children: dict[str, list[str]] = {name: [] for name in self._teams}
        for name, spec in self._teams.items():
            upper = self._teams.get(spec.reports_to or "")
            if upper is not None and name in upper.manages:
                self._parent[name] = upper.name
                self._children[upper.name].append(name)

    @property
    def teams(self) -> Mapping[str, TeamSpec]:
        """Every team by name, sorted."""
        return self._teams

    @property
    def roots(self) -> tuple[str, ...]:
        """The teams that report to nobody here."""
        return tuple(name for name in self._teams if name not in self._parent)

    @property
    def top_level(self) -> tuple[str, ...]:
        """The teams that people are meant to talk to first."""
        return tuple(name for name, spec in self._teams.items() if spec.chat.top_level)

    def parent(self, team: str) -> str | None:
        """The team above, if both name each other."""
        return self._parent.get(team)

    def children(self, team: str) -> tuple[str, ...]:
        """The teams below, sorted."""
        return tuple(self._children.get(team, ()))

    def peers(self, team: str) -> tuple[str, ...]:
        """The teams beside it, sorted."""
        spec = self._teams.get(team)
        named = sorted(set(spec.peers)) if spec else []
        return tuple(other for other in named if other in self._teams and team in self._teams[other].peers)

    def chain(self, team: str) -> tuple[str, ...]:
        """The team itself, the one above it, and so on to the root."""
        found = [team]
        while (upper := self._parent.get(found[-1])) is not None and upper not in found:
            found.append(upper)
        return tuple(found)

    def depth(self, team: str) -> int:
        """How many teams are above it; 0 for a root."""
        return len(self.chain(team)) - 1

    def edges(self) -> tuple[Edge, ...]:
        """Every whole edge, once, sorted."""
        manages = [Edge("manages", upper, lower) for lower, upper in self._parent.items()]
        peers = [Edge("peers", team, other) for team in self._teams for other in self.peers(team) if team < other]
        return tuple(sorted([*manages, *peers]))

    def may_call(self, caller: str, callee: str) -> bool:
        """Whether `callee` takes work from `caller`: from the team above it, and from its peers."""
        return self._parent.get(callee) == caller or caller in self.peers(callee)

    def callees(self, team: str) -> tuple[str, ...]:
        """The teams that this one may call, sorted."""
        return tuple(sorted({*self.children(team), *self.peers(team)}))

    def callers(self, team: str) -> tuple[str, ...]:
        """The teams that may call this one, sorted."""
        upper = self._parent.get(team)
        return tuple(sorted({*self.peers(team), *([upper] if upper else [])}))

    def halves(self) -> tuple[Half, ...]:
        """Relationships that only one of two teams names, in the order of names and fields."""
        return tuple(self._halves())

    def cycles(self) -> tuple[tuple[str, ...], ...]:
        """Circles of teams that report to each other, each as `(a, b, a)`, whole edges or not."""
        above: dict[str, set[str]] = {name: set() for name in self._teams}
        for name, spec in self._teams.items():
            if spec.reports_to in above and spec.reports_to != name:
                above[name].add(spec.reports_to)
            for lower in spec.manages:
                if lower in above and lower != name:
                    above[lower].add(name)
        found: list[tuple[str, ...]] = []
        while True:
            # What has nobody above it is in no circle; taking such teams away until none is left leaves the circles
            # and what is below them.
            while free := [name for name, uppers in above.items() if not uppers & above.keys()]:
                for name in free:
                    del above[name]
            if not above:
                return tuple(found)
            walk = [min(above)]
            while (upper := min(above[walk[-1]] & above.keys())) not in walk:
                walk.append(upper)
            circle = walk[walk.index(upper) :]
            start = circle.index(min(circle))
            circle = circle[start:] + circle[:start]
            found.append((*circle, circle[0]))
            for name in circle:
                del above[name]

    def _halves(self) -> Iterator[Half]:
        for name, spec in self._teams.items():
            upper = self._teams.get(spec.reports_to or "")
            if upper is not None and upper.name != name and name not in upper.manages:
                yield Half(name, ("reports_to",), upper.name, f"add {name!r} under manages")
            for index, lower in enumerate(spec.manages):
                if lower != name and lower in self._teams and self._teams[lower].reports_to != name:
                    yield Half(name, ("manages", index), lower, f"write reports_to: {name}")
            for index, other in enumerate(spec.peers):
                if other != name and other in self._teams and name not in self._teams[other].peers:
                    yield Half(name, ("peers", index), other, f"add {name!r} under peers")


def check_org(
    teams: Sequence[Placed], *, elsewhere: Collection[str] = (), absent: Literal["error", "warning"] = "error"
) -> tuple[Problem, ...]:
    """What does not fit between `teams`, sorted by file and line.

    Args:
        teams: all of the organisation.
        elsewhere: names of teams that exist and could not be read.
        absent: how bad it is to name a team that is not there; a team that is looked at alone names others.
    """
    problems = [*_duplicates(teams), *_unknown(teams, elsewhere, absent), *_relations(teams)]
    return tuple(sorted(problems, key=lambda problem: (problem.file, problem.line)))


def _problem(
    team: Placed, location: Location, message: str, severity: Literal["error", "warning"] = "error"
) -> Problem:
    return Problem(team.file, team.line(location), field_path(location), message, severity)


def _duplicates(teams: Sequence[Placed]) -> Iterator[Problem]:
    first: dict[str, Placed] = {}
    for team in teams:
        other = first.setdefault(team.spec.name, team)
        if other is not team:
            message = (
                f"{team.spec.name!r} is also the name of the team in {other.file}; write another name in one of them"
            )
            yield _problem(team, ("name",), message)


def _unknown(
    teams: Sequence[Placed], elsewhere: Collection[str], severity: Literal["error", "warning"]
) -> Iterator[Problem]:
    known = {team.spec.name for team in teams}
    there = ", ".join(sorted(known))
    for team in teams:
        for location, name in _references(team.spec):
            if name not in known and name not in elsewhere:
                message = f"there is no team {name!r}; there are: {there}"
                if severity == "warning":
                    message = f"the team {name!r} is not here, so the relationship does not count"
                yield _problem(team, location, message, severity)


def _references(spec: TeamSpec) -> Iterator[tuple[Location, str]]:
    if spec.reports_to:
        yield ("reports_to",), spec.reports_to
    for index, name in enumerate(spec.manages):
        yield ("manages", index), name
    for index, name in enumerate(spec.peers):
        yield ("peers", index), name
    for index, member in enumerate(spec.members):
        for place, name in enumerate(member.manages):
            yield ("members", index, "manages", place), name
    for index, approval in enumerate(spec.delegation.approvals):
        if approval.target:
            yield ("delegation", "approvals", index, "target"), approval.target


def _relations(teams: Sequence[Placed]) -> Iterator[Problem]:
    org = Org(team.spec for team in teams)
    placed: dict[str, Placed] = {}
    for team in teams:
        placed.setdefault(team.spec.name, team)
    told: set[tuple[str, str]] = set()
    for cycle in org.cycles():
        team = placed[cycle[0]]
        named = team.spec.reports_to == cycle[1]
        location: Location = ("reports_to",) if named else ("manages", team.spec.manages.index(cycle[-2]))
        yield _problem(team, location, f"{' → '.join(cycle)} report to each other in a circle; cut it at one of them")
        told |= set(pairwise(cycle))
    managers_of: dict[str, list[Placed]] = {name: [] for name in org.teams}
    for team in placed.values():
        for name in set(team.spec.manages) & org.teams.keys() - {team.spec.name}:
            managers_of[name].append(team)
    for name, spec in org.teams.items():
        managers = managers_of[name]
        # The one that the team itself reports to keeps it.
        managers.sort(key=lambda team: team.spec.name != spec.reports_to)
        for team in managers[1:]:
            told.add((name, team.spec.name))
            keeper = f"{managers[0].spec.name!r} in {managers[0].file}"
            message = f"{name!r} is already managed by {keeper}; remove it in one of them"
            yield _problem(team, ("manages", team.spec.manages.index(name)), message)
    for half in org.halves():
        pair = (half.other, half.team) if half.location[0] == "manages" else (half.team, half.other)
        if pair not in told:
            remedy = f"{half.remedy} in {placed[half.other].file}"
            message = f"{half.other!r} does not say so, and the edge does not count; {remedy}"
            yield _problem(placed[half.team], half.location, message, "warning")
