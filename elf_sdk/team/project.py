"""The project that a path means: its organisation, its teams, and what does not fit between them.

    project/              the root; what `elf` is started in
    ├── elf.yaml          optional: the organisation
    └── teams/
        ├── brand-team/team.yaml
        └── …

A path may be the root, the directory of teams, the directory of one team, or one of the two files. A team in a
directory called `teams` is read with its neighbours, because its relationships count only where both sides name them;
any other directory that holds a team.yaml is a project of that one team.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import yaml

from elf_sdk.cache import Cache
from elf_sdk.errors import BadInput, BadSpec, Problem
from elf_sdk.settings import load_image_settings
from elf_sdk.team.base import Location
from elf_sdk.team.document import Document
from elf_sdk.team.load import ORGANISATION_FILE, TEAM_FILE, in_order, read_model, read_organisation
from elf_sdk.team.org import Org, check_org
from elf_sdk.team.organisation import Organisation
from elf_sdk.team.spec import TeamSpec

__all__ = ["LoadedTeam", "Project", "ProjectRoot", "Survey", "find_project", "find_root", "survey"]


@dataclass(frozen=True, slots=True)
class LoadedTeam:
    """A team and its file.

    Attributes:
        spec: the team.
        path: absolute path of its team.yaml.
        document: what stands in it, with lines.
    """

    spec: TeamSpec
    path: Path
    document: Document

    @property
    def directory(self) -> Path:
        """The team's directory, absolute."""
        return self.path.parent

    @property
    def file(self) -> str:
        """Path of its team.yaml as the user would type it."""
        return self.document.file

    def line(self, location: Location) -> int:
        """1-based line of a field such as `("members", 0, "role")`, or of the nearest one around it."""
        return self.document.line(location)


@dataclass(frozen=True)
class Project:
    """An organisation and its teams, as they stand in files.

    Attributes:
        root: absolute directory that holds elf.yaml.
        organisation: what elf.yaml says, or its defaults.
        teams_dir: absolute directory whose subdirectories are teams; the team itself where it stands alone.
        teams: every team, sorted by directory.
        chosen: names of the teams that the path meant: one, or all.
        warnings: what works and is probably not meant.
    """

    root: Path
    organisation: Organisation
    teams_dir: Path
    teams: tuple[LoadedTeam, ...]
    chosen: tuple[str, ...]
    warnings: tuple[Problem, ...] = ()

    @cached_property
    def org(self) -> Org:
        """The tree that the teams form."""
        return Org(team.spec for team in self.teams)

    def select(self, names: Iterable[str] = ()) -> tuple[LoadedTeam, ...]:
        """The teams called `names`, in that order; without names, those that the path meant.

        Raises:
            BadInput: there is no such team; the message lists those that there are.
        """
        by_name = {team.spec.name: team for team in self.teams}
        wanted = list(dict.fromkeys(names)) or self.chosen
        for name in wanted:
            if name not in by_name:
                raise BadInput(f"there is no team {name!r}; there are: {', '.join(sorted(by_name))}")
        return tuple(by_name[name] for name in wanted)


@dataclass(frozen=True, slots=True)
class ProjectRoot:
    """A project whose teams nobody asked for.

    Attributes:
        root: absolute directory.
        organisation: what elf.yaml says.
    """

    root: Path
    organisation: Organisation


@dataclass(frozen=True, slots=True)
class Survey:
    """A project as far as it could be read, and everything that is wrong with it.

    Attributes:
        project: with the teams that are right in themselves.
        problems: errors and warnings, file by file.
    """

    project: Project
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that are errors."""
        return tuple(problem for problem in self.problems if problem.severity == "error")


def find_project(start: Path) -> Project:
    """The project that `start` means; every file of it is right, and the teams fit together.

    Args:
        start: the root, the directory of teams, one team's directory, or a team.yaml or elf.yaml.

    Raises:
        BadInput: there is no team, or (BadSpec) something is wrong; the error carries all of it.
    """
    found = survey(start)
    if found.errors:
        raise BadSpec(found.errors)
    return found.project


def find_root(start: Path) -> ProjectRoot:
    """The project that `start` means, without a look at its teams, of which there may be thousands.

    Args:
        start: as of `find_project`.

    Raises:
        BadInput: there is no team, or (BadSpec) elf.yaml is wrong.
    """
    root, _, _, _ = _located(start)
    file = root / ORGANISATION_FILE
    organisation, problems = read_organisation(file, _label(file, start))
    if errors := [problem for problem in problems if problem.severity == "error"]:
        raise BadSpec(errors)
    return ProjectRoot(root, organisation or Organisation())


def survey(start: Path) -> Survey:
    """Like `find_project`, but what is wrong is part of the answer.

    Raises:
        BadInput: `start` means no project.
    """
    root, teams_dir, files, alone = _located(start)
    real_root = os.path.realpath(root)
    label = partial(_label, start=start)
    organisation, problems = read_organisation(root / ORGANISATION_FILE, label(root / ORGANISATION_FILE))
    known = None if problems else organisation
    teams: list[LoadedTeam] = []
    unreadable: set[str] = set()
    with Cache.opened("documents", str(root), yaml.__version__) as read_before:
        for file in files:
            # realpath() and not resolve(), which fails on a link that leads to itself.
            if os.path.commonpath((os.path.realpath(file), real_root)) != real_root:
                message = "it is a link to outside of the project; put the file itself there"
                problems.append(Problem(label(file), 0, "", message))
                unreadable.add(file.parent.name)
                continue
            document, spec, found = read_model(file, label(file), TeamSpec, read_before)
            if spec is None or document is None:
                unreadable.add(file.parent.name)
            else:
                found += [document.problem(*problem) for problem in _in_project(spec, file.parent.name, known)]
                teams.append(LoadedTeam(spec, file, document))
            problems += in_order(found)
    problems += check_org(teams, elsewhere=unreadable, absent="warning" if alone else "error")
    meant = _absolute(start)
    meant = meant.parent if meant.is_file() else meant
    chosen = [team.spec.name for team in teams if team.directory == meant] or [team.spec.name for team in teams]
    warnings = tuple(problem for problem in problems if problem.severity == "warning")
    project = Project(root, organisation or Organisation(), teams_dir, tuple(teams), tuple(chosen), warnings)
    project = _in_registry(project, load_image_settings().registry)
    # By file, and within a file by line; what is said of a file as a whole comes after its lines.
    ordered = sorted(problems, key=lambda problem: (problem.file, problem.line or sys.maxsize))
    return Survey(project, tuple(ordered))


def _in_registry(project: Project, registry: str) -> Project:
    """`project` with every image in `registry`, whatever its files say; as it is where `registry` is empty.

    Done here, once, so that whoever names an image (a builder, a chart, a promotion) names the same one.
    """
    if not registry:
        return project

    def moved(spec: TeamSpec) -> TeamSpec:
        # Without one of its own, a team and each of its environments has the organisation's.
        environments = {
            name: override.model_copy(update={"image": override.image.model_copy(update={"registry": None})})
            if override.image
            else override
            for name, override in spec.environments.items()
        }
        image = spec.image.model_copy(update={"registry": None})
        return spec.model_copy(update={"image": image, "environments": environments})

    return replace(
        project,
        organisation=project.organisation.model_copy(update={"registry": registry}),
        teams=tuple(replace(team, spec=moved(team.spec)) for team in project.teams),
    )


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links, and messages name what was typed


def _label(path: Path, start: Path) -> str:
    """What `path` is called in messages, where the user has named the project by `start`."""
    inside = not start.is_absolute() or path.is_relative_to(Path.cwd())
    return os.path.relpath(path) if inside else str(path)


def _located(start: Path) -> tuple[Path, Path, list[Path], bool]:
    try:
        return _locate(start)
    except OSError as error:
        raise BadInput(f"{start} cannot be read: {error.strerror}") from None


def _locate(start: Path) -> tuple[Path, Path, list[Path], bool]:
    """Root, directory of teams, every team.yaml, and whether a team stands alone."""
    path = _absolute(start)
    if path.name in (TEAM_FILE, ORGANISATION_FILE) and not path.is_dir():
        path = path.parent
    if not path.is_dir():
        what = "is no directory and no team.yaml" if path.exists() else "does not exist"
        raise BadInput(f"{start} {what}; name a project, a directory of teams, or a team's directory")
    if os.path.lexists(path / TEAM_FILE):
        if path.parent.name != "teams":
            return path, path, [path / TEAM_FILE], True
        path = path.parent
    teams_dir = path / "teams" if (path / "teams").is_dir() else path
    # A link that leads nowhere is listed too: it is told, and not passed over.
    files = [entry / TEAM_FILE for entry in sorted(teams_dir.iterdir()) if not entry.name.startswith(".")]
    files = [file for file in files if os.path.lexists(file)]
    if not files:
        raise BadInput(
            f"there is no team in {start}: no team.yaml, and no teams/*/team.yaml; go to a project, or name one"
        )
    inside = teams_dir.name == "teams" or (teams_dir.parent / ORGANISATION_FILE).exists()
    return (teams_dir.parent if inside else teams_dir), teams_dir, files, False


def _in_project(spec: TeamSpec, directory: str, organisation: Organisation | None) -> list[tuple[Location, str]]:
    """What does not fit between a team, its directory and elf.yaml (None: it could not be read)."""
    found: list[tuple[Location, str]] = []
    if spec.name != directory:
        message = f"{spec.name!r} stands in the directory {directory!r}; give both the same name"
        found.append((("name",), message))
    if organisation is None:
        return found
    if spec.name in organisation.archived:
        found.append((("name",), f"{spec.name!r} is archived in elf.yaml; remove it there, or its directory here"))
    known = [environment.name for environment in organisation.environments]
    clusters = [cluster.name for cluster in organisation.clusters]
    places: dict[tuple[str, str], str] = {}
    for environment in organisation.environments:
        override = spec.environments.get(environment.name)
        cluster, namespace = spec.cluster_in(environment), spec.namespace_in(environment)
        if cluster not in clusters:
            message = f"there is no cluster {cluster!r} in elf.yaml; write one of: {', '.join(sorted(clusters))}"
            found.append((("environments", environment.name, "cluster"), message))
        other = places.setdefault((cluster, namespace), environment.name)
        if other != environment.name:
            where = f"the namespace {namespace!r} of the cluster {cluster!r}"
            message = f"{environment.name!r} and {other!r} would share {where}; give one of them another"
            moved = environment.name if override and (override.cluster or override.namespace) else other
            found.append((("environments", moved, "namespace"), message))
    for name in spec.environments:
        if name not in known:
            message = f"elf.yaml knows no environment {name!r}; write one of: {', '.join(known)}, or add it there"
            found.append((("environments", name), message))
    return found
