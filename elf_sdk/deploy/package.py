"""`elf package`: a chart for each team, proven for every environment before anything is replaced.

    output/
    ├── .elf-package.json            what was written here; a directory without it is somebody else's
    ├── executive-team/              the chart
    ├── executive-team-0.1.0.tgz     the same, as an archive
    └── …

The output is swapped in whole. A chart whose bytes are those that are already there was proven when they were
written, and is not proven again.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from elf_sdk.deploy.chart import Templates, archive, chart_tree, load_templates
from elf_sdk.deploy.helm import Helm, choose_helm
from elf_sdk.deploy.images import read_digests
from elf_sdk.deploy.kubernetes import KUBERNETES_VERSION, ObjectSchemas, parse_manifests
from elf_sdk.deploy.manifest import MANIFEST, Charted, Manifest, read_manifest
from elf_sdk.deploy.values import shortcomings, team_values
from elf_sdk.errors import Failure
from elf_sdk.files import Drift, compare, keep_tree, staged, swap, tree_lock, write_tree
from elf_sdk.team.edges import compile_edges
from elf_sdk.team.org import Org
from elf_sdk.team.project import LoadedTeam, Project

__all__ = ["Packaged", "Report", "package"]

Progress = Callable[[int, int, str], None]
"""Called with what is done, how much there is, and what it is about."""

_WORKERS: Final = 4


@dataclass(frozen=True, slots=True)
class Packaged:
    """What became of one team.

    Attributes:
        team: its name.
        version: of team and chart; empty where it was removed.
        status: compared with what was there.
        environments: number of Kubernetes objects by environment; empty where nothing was rendered.
        drift: which files differ, as paths in the output.
    """

    team: str
    version: str
    status: Literal["added", "changed", "unchanged", "removed"]
    environments: Mapping[str, int] = field(default_factory=dict)
    drift: Drift = field(default_factory=Drift)


@dataclass(frozen=True, slots=True)
class Report:
    """What `package` did, or with `check` would do.

    Attributes:
        output: absolute directory.
        environments: names in the order of promotion.
        helm: which Helm proved the charts; empty where none had to be proven.
        kubernetes: the version of the schemas.
        teams: sorted by name.
        warnings: what will not work although the charts are right.
    """

    output: Path
    environments: tuple[str, ...]
    helm: str
    kubernetes: str
    teams: tuple[Packaged, ...]
    warnings: tuple[str, ...]

    @property
    def drifted(self) -> tuple[Packaged, ...]:
        """The teams whose files differ from what is, or was, in the output."""
        return tuple(team for team in self.teams if team.status != "unchanged")


@dataclass(frozen=True, slots=True)
class _Chart:
    team: str
    version: str
    files: Mapping[str, bytes]
    """By path in the output, the archive included."""
    namespaces: Mapping[str, str]
    """By environment."""
    warnings: tuple[str, ...]

    @property
    def record(self) -> Charted:
        digest = hashlib.sha256()
        for path, content in self.files.items():
            digest.update(f"{path}\0{len(content)}\0".encode())
            digest.update(content)
        return Charted(self.version, digest.hexdigest(), tuple(self.files))


def package(
    project: Project,
    names: Iterable[str] = (),
    *,
    output: Path | None = None,
    helm: Callable[[], Helm] = choose_helm,
    check: bool = False,
    prove: bool = False,
    progress: Progress = lambda done, total, about: None,
) -> Report:
    """Write the charts of `project` to `output`, or with `check` only compare.

    Args:
        project: the organisation and its teams.
        names: of teams; none means those of the project's path. Charts of other teams stay as they are; only a
            whole project removes the charts of teams that are gone.
        output: directory of the charts; default `charts` beside elf.yaml.
        helm: gives the Helm that proves charts; called only when there is something to prove.
        check: change nothing.
        prove: also prove charts that are already there.
        progress: told about every environment of a team.

    Raises:
        BadInput: the teams or the output cannot be used; nothing was changed.
        Failure: a chart is wrong, or the output cannot be written; nothing was changed.
        Missing: Helm or the Kubernetes schemas have to be installed.
        Retryable: another packager is at work here.
    """
    wanted = tuple(names)
    target = Path(os.path.abspath(output or project.root / "charts"))  # noqa: PTH100 - a link must stay one, to be refused
    charts = tuple(_charts(project, project.select(wanted)))
    warnings = (*map(str, project.warnings), *(warning for chart in charts for warning in chart.warnings))
    whole = not wanted and len(charts) == len(project.teams) and project.teams_dir != project.teams[0].directory
    environments = tuple(environment.name for environment in project.organisation.environments)

    def report(teams: Iterable[Packaged], engine: str = "") -> Report:
        ordered = tuple(sorted(teams, key=lambda team: team.team))
        return Report(target, environments, engine, KUBERNETES_VERSION, ordered, warnings)

    if check:
        return report(_compare(charts, target, read_manifest(target, strict=False), whole=whole))
    with tree_lock(target):
        there = read_manifest(target)
        compared = list(_compare(charts, target, there, whole=whole))
        fresh = {team.team for team in compared if team.status in ("added", "changed")}
        gone = {team.team for team in compared if team.status == "removed"}
        unproven = [chart for chart in charts if prove or chart.team in fresh]
        if not unproven and not gone:
            return report(compared)
        with staged(target) as stage:
            next_manifest = _stage(stage, target, charts, there, gone, fresh)
            engine, objects = _prove(stage, unproven, helm, progress) if unproven else ("", {})
            if fresh or gone:
                write_tree(stage, {MANIFEST: next_manifest.encode()})
                swap(stage, target)
    teams = (
        Packaged(team.team, team.version, team.status, objects.get(team.team, {}), team.drift) for team in compared
    )
    return report(teams, engine)


def _charts(project: Project, teams: Sequence[LoadedTeam]) -> Iterator[_Chart]:
    templates, org = load_templates(), project.org
    for team in teams:
        yield _chart(team, project, org, templates)


def _chart(team: LoadedTeam, project: Project, org: Org, templates: Templates) -> _Chart:
    spec, organisation = team.spec, project.organisation
    digests = read_digests(team.directory, organisation)
    values: dict[str, dict[str, Any]] = {}
    warnings: list[str] = []
    for environment in organisation.environments:
        edges = compile_edges(org, organisation, environment, spec.name)
        own = team_values(spec, organisation, environment, edges, digests.get(environment.name, ""))
        warnings += shortcomings(spec, organisation, environment, edges)
        values[environment.name] = own
    tree = chart_tree(spec, values, templates)
    files = {f"{spec.name}/{path}": content for path, content in tree.items()}
    files[f"{spec.name}-{spec.version}.tgz"] = archive(spec.name, tree)
    namespaces = {name: own["namespace"] for name, own in values.items()}
    return _Chart(spec.name, spec.version, files, namespaces, tuple(warnings))


def _compare(charts: Sequence[_Chart], output: Path, there: Manifest, *, whole: bool) -> Iterator[Packaged]:
    owners = {path: chart.team for chart in charts for path in chart.files}
    for chart in charts:
        # Archives of earlier versions, too, which have no directory to tell whose they are.
        owners |= dict.fromkeys(there.charts[chart.team].files if chart.team in there.charts else (), chart.team)
    found = compare({path: content for chart in charts for path, content in chart.files.items()}, output)

    def by_team(paths: Iterable[str]) -> Mapping[str, list[str]]:
        grouped: dict[str, list[str]] = defaultdict(list)
        for path in paths:
            grouped[owners.get(path, path.partition("/")[0])].append(path)
        return grouped

    added, changed, removed = by_team(found.added), by_team(found.changed), by_team(found.removed)
    for chart in charts:
        known = there.charts.get(chart.team)
        drift = Drift(*(tuple(each.get(chart.team, ())) for each in (added, changed, removed)))
        same = not drift and known == chart.record
        status: Literal["added", "changed", "unchanged"] = "unchanged" if same else "changed" if known else "added"
        yield Packaged(chart.team, chart.version, status, drift=drift)
    if whole:
        for team in sorted(there.charts.keys() - {chart.team for chart in charts}):
            yield Packaged(team, "", "removed", drift=Drift(removed=there.charts[team].files))


def _stage(
    stage: Path, output: Path, charts: Sequence[_Chart], there: Manifest, gone: set[str], fresh: set[str]
) -> Manifest:
    """Build the next output: fresh charts written, the others taken over."""
    records = {chart.team: chart.record for chart in charts}
    for chart in charts:
        if chart.team in fresh:
            write_tree(stage, chart.files)
    for team, known in there.charts.items():
        # A chart that somebody took away by hand is no longer ours to keep.
        if team not in gone | fresh and (output / team).is_dir():
            records.setdefault(team, known)
            for path in (team, *(path for path in known.files if "/" not in path)):
                if (output / path).exists():
                    keep_tree(output / path, stage / path)
    return Manifest(dict(sorted(records.items())))


def _prove(
    stage: Path, charts: Sequence[_Chart], helm: Callable[[], Helm], progress: Progress
) -> tuple[str, dict[str, dict[str, int]]]:
    """Lint, render and check every environment of `charts`; count the objects."""
    engine, schemas = helm(), ObjectSchemas()
    work = [(chart, environment) for chart in charts for environment in chart.namespaces]
    counted: dict[str, dict[str, int]] = {}
    wrong: list[str] = []

    def prove(job: tuple[_Chart, str]) -> int | Failure:
        chart, environment = job
        directory = stage / chart.team
        try:
            text = engine.render(
                directory,
                directory / f"values-{environment}.yaml",
                release=chart.team,
                namespace=chart.namespaces[environment],
            )
            objects = parse_manifests(text)
            schemas.check(objects)
        except Failure as failure:
            return failure
        return len(objects)

    with ThreadPoolExecutor(min(_WORKERS, os.cpu_count() or 1)) as pool:
        for done, ((chart, environment), result) in enumerate(zip(work, pool.map(prove, work), strict=True), start=1):
            progress(done, len(work), f"{chart.team} in {environment}")
            if isinstance(result, Failure):
                wrong.append(f"{chart.team} in {environment}: {result}")
            else:
                counted.setdefault(chart.team, {})[environment] = result
    if wrong:
        more = [f"and {len(wrong) - 10} more"] if len(wrong) > 10 else []
        raise Failure("\n".join(["nothing was replaced, because of:", *wrong[:10], *more]))
    return engine.name, counted
