"""A change to the repository: which places become what, and how a commit says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from elf_sdk.deploy.gitops.app import App
from elf_sdk.deploy.gitops.layout import APP_FILE, Tree, environment_of
from elf_sdk.deploy.gitops.objects import Hash, tree_id
from elf_sdk.deploy.gitops.snapshot import Snapshot
from elf_sdk.errors import Conflict

__all__ = ["OPERATION", "SCOPE", "Change", "Step", "message", "steps"]

OPERATION: Final = "Elf-Operation"
"""The trailer of a commit that says what made it; commits without it were made by people."""
SCOPE: Final = "Elf-Scope"
"""The trailer that says what `elf gitops write` was asked for."""

_LINES: Final = 200


@dataclass(frozen=True, slots=True)
class Change:
    """What places become; those that already are so may be among them.

    Attributes:
        places: files by place; None for one that goes.
        operation: `write`, `promote`, `remove` and so on.
        scope: of `write`: `all-environments`, names of teams, or empty for all of the first environment.
        title: first line of the commit; empty for one that is made from what happens.
        notes: lines that stand below what happens.
        trailers: more of them, by name.
    """

    places: Mapping[str, Tree | None]
    operation: str = "write"
    scope: str = ""
    title: str = ""
    notes: tuple[str, ...] = ()
    trailers: Mapping[str, str] = field(default_factory=dict)

    def against(self, base: Snapshot, algorithm: Hash = "sha1") -> Change:
        """The same change with nothing but what differs from `base`."""
        different = {
            place: tree
            for place, tree in self.places.items()
            if base.ids.get(place) != (None if tree is None else tree_id(tree, algorithm))
        }
        return replace(self, places=dict(sorted(different.items())))

    def refuse_overlap(self, base: Snapshot, now: Snapshot, algorithm: Hash = "sha1") -> None:
        """Refuse to put this change on `now` where somebody else has changed one of its places.

        Args:
            base: what the change was made for.
            now: what there is meanwhile.
            algorithm: how the repository names objects.

        Raises:
            Conflict: a place is neither as it was nor as it should become.
        """
        for place in self.against(base, algorithm).against(now, algorithm).places:
            if base.ids.get(place) != now.ids.get(place):
                raise Conflict(
                    f"{place} was changed by somebody else since this {self.operation} began; look at what is there, "
                    "and begin again"
                )


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to a team in an environment.

    Attributes:
        environment: its name.
        team: its name.
        before: what ran there; None where it is new.
        after: what is to run there; None where it goes.
    """

    environment: str
    team: str
    before: App | None
    after: App | None

    def __str__(self) -> str:
        old, new = self.before, self.after
        if new is None:
            return f"{self.environment}: {self.team}{f' {old.version}' if old else ''} goes"
        image = new.digest or "by its tag"
        if old is None:
            return f"{self.environment}: {self.team} {new.version} comes, image {image}"
        if new.state != old.state:
            return f"{self.environment}: {self.team} {old.version} renders only what outlives it"
        version = f"{old.version} → {new.version}" if old.version != new.version else new.version
        if new.digest != old.digest:
            return f"{self.environment}: {self.team} {version}, image {old.digest or 'by its tag'} → {image}"
        library = f", library {old.library} → {new.library}" if old.library != new.library else ""
        return f"{self.environment}: {self.team} {version}{library}, image as before"


def steps(change: Change, base: Snapshot) -> tuple[Step, ...]:
    """What `change` does to teams, in the order of environments and names."""
    inside = {place: each for place in change.places if (each := environment_of(place))}
    before = base.apps(inside.values())
    found = []
    for place, (environment, team) in inside.items():
        tree = change.places[place]
        after = None if tree is None else App.decode(tree.get(APP_FILE, b""), f"{place}/{APP_FILE}")
        found.append(Step(environment, team, before.get((environment, team)), after))
    return tuple(found)


def message(change: Change, base: Snapshot) -> str:
    """What the commit says."""
    done = steps(change, base)
    lines = [change.title or _title(done), ""]
    lines += [str(step) for step in done[:_LINES]]
    if len(done) > _LINES:
        lines.append(f"and {len(done) - _LINES} more")
    if done or change.notes:
        lines += [*change.notes, ""]
    lines += list(_trailers(change, done))
    return "\n".join(lines) + "\n"


def _trailers(change: Change, done: tuple[Step, ...]) -> Iterator[str]:
    yield f"{OPERATION}: {change.operation}"
    if change.operation == "write":
        yield f"{SCOPE}: {change.scope or 'first-environment'}"
    environments = list(dict.fromkeys(step.environment for step in done))
    if environments:
        yield f"Elf-Environments: {', '.join(environments)}"
    for name, value in change.trailers.items():
        yield f"{name}: {value}"


def _title(done: tuple[Step, ...]) -> str:
    if not done:
        return "Update what Argo CD reads"
    environments = list(dict.fromkeys(step.environment for step in done))
    where = " and ".join(filter(None, [", ".join(environments[:-1]), environments[-1]]))
    teams = list(dict.fromkeys(step.team for step in done))
    kinds = {"added" if step.before is None else "removed" if step.after is None else "changed" for step in done}
    verb, preposition = ("Change", "in")
    if kinds == {"added"}:
        verb, preposition = ("Add", "to")
    elif kinds == {"removed"}:
        verb, preposition = ("Remove", "from")
    if len(teams) > 1:
        return f"{verb} {len(teams)} teams {preposition} {where}"
    versions = {step.after.version for step in done if step.after}
    version = f" {versions.pop()}" if len(versions) == 1 else ""
    if verb == "Change" and version and any(s.before and s.after and s.before.version != s.after.version for s in done):
        verb, preposition = "Move", f"to{version} in"
        version = ""
    return f"{verb} {teams[0]}{version} {preposition} {where}"
