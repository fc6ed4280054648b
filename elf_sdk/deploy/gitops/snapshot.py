"""What a commit holds below the directory that ELF writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from elf_sdk.deploy.gitops.app import App
from elf_sdk.deploy.gitops.git import Git
from elf_sdk.deploy.gitops.layout import APP_FILE, Tree, environment_of, place_of

__all__ = ["Snapshot"]


@dataclass(frozen=True)
class Snapshot:
    """The directory `path` of a commit; every place in it with its git id.

    Attributes:
        git: in the repository.
        commit: its id; None before the first commit.
        path: of the directory that ELF writes, in the repository.
    """

    git: Git
    commit: str | None
    path: str

    @cached_property
    def ids(self) -> Mapping[str, str]:
        """The git id of every place, sorted; directories below an environment that hold no app.yaml are not ours."""
        if self.commit is None:
            return {}
        listed = self.git("ls-tree", "-r", "-t", "-z", "--full-tree", self.commit, "--", f"{self.path}/")
        found: dict[str, str] = {}
        trees: dict[str, str] = {}
        apps: list[str] = []
        start = len(self.path) + 1
        for line in filter(None, listed.split("\0")):
            entry, _, name = line.partition("\t")
            relative = name[start:]
            _, kind, identity = entry.split(" ")
            if kind == "blob" and relative.count("/") > 2 and not relative.endswith(f"/{APP_FILE}"):
                continue  # most of them: what is inside of a team's directory
            if kind == "tree":
                trees[relative] = identity
            elif (place := place_of(relative)) == relative:
                found[relative] = identity
            elif relative == f"{place}/{APP_FILE}":
                apps.append(place)
        found |= {place: trees[place] for place in apps}
        return dict(sorted(found.items()))

    @cached_property
    def places(self) -> Mapping[tuple[str, str], str]:
        """The directory of every team by environment and team."""
        return {where: place for place in self.ids if (where := environment_of(place))}

    def teams(self, environment: str) -> tuple[str, ...]:
        """The teams in an environment, sorted."""
        return tuple(sorted(team for name, team in self.places if name == environment))

    def read(self, place: str) -> Tree | None:
        """The files of a place; None where there is none."""
        return self.read_all([place]).get(place)

    def read_all(self, places: Iterable[str]) -> Mapping[str, Tree]:
        """The files of those of `places` that are there."""
        wanted = [place for place in places if place in self.ids]
        if not wanted or self.commit is None:
            return {}
        # Literal, because a name may hold what git takes for a pattern.
        listed = self.git(
            "--literal-pathspecs",
            "ls-tree",
            *("-r", "-z", "--full-tree", "--name-only"),
            self.commit,
            "--",
            *(f"{self.path}/{place}" for place in wanted),
        )
        names = [name for name in listed.split("\0") if name]
        trees: dict[str, dict[str, bytes]] = {place: {} for place in wanted}
        for name, content in zip(names, self._contents(names), strict=True):
            relative = name.removeprefix(f"{self.path}/")
            place = place_of(relative)
            trees[place][relative[len(place) :].lstrip("/")] = content
        return trees

    def app(self, environment: str, team: str) -> App | None:
        """What runs there; None where nothing does."""
        return self.apps([(environment, team)]).get((environment, team))

    def apps(self, wanted: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str], App]:
        """What runs in those environments and teams that are there.

        Raises:
            BadInput: an app.yaml is not as `elf gitops` writes it.
        """
        there = [each for each in wanted if each in self.places]
        files = [f"{self.path}/{self.places[each]}/{APP_FILE}" for each in there]
        contents = zip(there, files, self._contents(files), strict=True)
        return {each: App.decode(content, file) for each, file, content in contents}

    def environment(self, name: str) -> Mapping[str, App]:
        """What runs in an environment, by team."""
        apps = self.apps((name, team) for team in self.teams(name))
        return {team: app for (_, team), app in apps.items()}

    def _contents(self, files: Iterable[str]) -> list[bytes]:
        names = list(files)
        if not names:
            return []
        request = "".join(f"{self.commit}:{name}\n" for name in names).encode("utf-8", "surrogateescape")
        answer = self.git.output("cat-file", "--batch", stdin=request)
        contents: list[bytes] = []
        position = 0
        for _ in names:
            header, _, _ = answer[position : position + 200].partition(b"\n")
            start = position + len(header) + 1
            size = int(header.rpartition(b" ")[2])
            contents.append(answer[start : start + size])
            position = start + size + 1
        return contents
