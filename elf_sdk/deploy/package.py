"""`elf package`: a chart for each team, proven for every environment before anything is replaced.

    output/
    ├── .elf-package.json            what was written here; a directory without it is somebody else's
    ├── executive-team/              the chart
    ├── executive-team-0.1.0.tgz     the same, as an archive
    └── …

The output is swapped in whole. A chart whose bytes are those that are already there was proven when they were
written, and is not proven again.

What is there is known without making the charts anew, and without reading them: a cache holds, for each team, the key
of what its chart was made from and the digest of its files, and how their directory entries looked when they were last
read (`elf_sdk.deploy.seen`). Without it the charts are made, and compared byte by byte.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from elf_sdk.cache import Cache
from elf_sdk.deploy.helm import Choice, Helm
from elf_sdk.deploy.kubernetes import KUBERNETES_VERSION
from elf_sdk.deploy.manifest import MANIFEST, Charted, Manifest, read_manifest
from elf_sdk.deploy.proofs import Proofs, proof_keys, refuse_wrong
from elf_sdk.deploy.prove import Proof, Provable, Prover
from elf_sdk.deploy.seen import Entries, Seen, file_clock
from elf_sdk.deploy.team_chart import TeamChart, TeamCharts
from elf_sdk.files import Drift, holds, keep_tree, look_at, staged, swap, tree_lock, write_tree
from elf_sdk.team.project import LoadedTeam, Project

__all__ = ["Packaged", "Report", "package"]

Progress = Callable[[int, int, str], None]
"""Called with what is done, how much there is, and what it is about."""


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
        foreign: paths in the output that belong to no chart, where the whole project was compared; `package` without
            `check` refuses them.
        warnings: what will not work although the charts are right.
    """

    output: Path
    environments: tuple[str, ...]
    helm: str
    kubernetes: str
    teams: tuple[Packaged, ...]
    foreign: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def drifted(self) -> tuple[Packaged, ...]:
        """The teams whose files differ from what is, or was, in the output."""
        return tuple(team for team in self.teams if team.status != "unchanged")


def package(
    project: Project,
    names: Iterable[str] = (),
    *,
    output: Path | None = None,
    helm: Choice | Callable[[], Helm] = "auto",
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
        helm: which Helm proves charts, or what gives it; asked for only when there is something to prove.
        check: change nothing.
        prove: also prove charts that are already there.
        progress: told about every chart that was proven.

    Raises:
        BadInput: the teams or the output cannot be used; nothing was changed.
        Failure: a chart is wrong, or the output cannot be written; nothing was changed.
        Missing: Helm or the Kubernetes schemas have to be installed.
        Retryable: another packager is at work here.
    """
    wanted = tuple(names)
    target = Path(os.path.abspath(output or project.root / "charts"))  # noqa: PTH100 - a link must stay one, to be refused
    teams = project.select(wanted)
    whole = not wanted and len(teams) == len(project.teams) and project.teams_dir != project.teams[0].directory
    with Cache.opened("charts", str(target), keep=True) as cache:
        if check:
            work = _Work(project, teams, target, cache, whole=whole, strict=False)
            return work.report(work.compare())
        with tree_lock(target):
            work = _Work(project, teams, target, cache, whole=whole)
            compared = work.compare()
            engine, proofs = work.write(compared, helm, progress, prove=prove)
    return work.report(compared, engine, proofs)


class _Work:
    """One packaging of `teams` into `output`."""

    def __init__(
        self,
        project: Project,
        teams: tuple[LoadedTeam, ...],
        output: Path,
        cache: Cache,
        *,
        whole: bool,
        strict: bool = True,
    ) -> None:
        self._project, self._teams, self._output, self._whole = project, teams, output, whole
        self._charts = TeamCharts(project)
        self._made: dict[str, TeamChart] = {}
        self._warnings: dict[str, tuple[str, ...]] = {}
        at = file_clock(output.parent)
        status = look_at(output) if output.is_dir() else {}
        self._there = read_manifest(output, status, strict=strict)
        self._entries = self._sorted(status, at)
        self._seen = Seen(output, cache, self._entries)

    def _sorted(self, status: Mapping[str, os.stat_result], at: int) -> Entries:
        """Whose entries are whose."""
        # Archives of earlier versions, too, which have no directory to tell whose they are.
        owners = {path: team for team, chart in self._there.charts.items() for path in chart.files if "/" not in path}
        owners |= {f"{team.spec.name}-{team.spec.version}.tgz": team.spec.name for team in self._teams}
        by_team: dict[str, list[str]] = defaultdict(list)
        for path in status:
            top, _, rest = path.partition("/")
            by_team[top if rest else owners.get(path, path)].append(path)
        return Entries(status, by_team, at)

    def compare(self) -> list[Packaged]:
        """What is there beside what should be there."""
        found = [self._one(team) for team in self._teams]
        if self._whole:
            gone = sorted(self._there.charts.keys() - {team.spec.name for team in self._teams})
            found += [
                Packaged(name, "", "removed", drift=Drift(removed=self._there.charts[name].files)) for name in gone
            ]
        return found

    def _one(self, team: LoadedTeam) -> Packaged:
        name, known = team.spec.name, self._there.charts.get(team.spec.name)
        key = self._charts.key(team)
        if known is not None and (warnings := self._seen.unchanged(name, key, known)) is not None:
            self._warnings[name] = warnings
            return Packaged(name, known.version, "unchanged")
        chart = self._made[name] = self._charts.chart(team)
        self._warnings[name] = chart.warnings
        self._seen.made(name, key, chart.sha256, chart.warnings)
        there = set(self._entries.by_team.get(name, ()))
        both = sorted(there & chart.files.keys())
        drift = Drift(
            tuple(sorted(chart.files.keys() - there)),
            tuple(path for path in both if not holds(self._output, path, chart.files[path])),
            tuple(sorted(there - chart.files.keys())),
        )
        same = not drift and known == Charted(chart.version, chart.sha256, tuple(chart.files))
        return Packaged(name, chart.version, "unchanged" if same else "changed" if known else "added", drift=drift)

    def write(
        self, compared: Iterable[Packaged], helm: Choice | Callable[[], Helm], progress: Progress, *, prove: bool
    ) -> tuple[str, Mapping[str, Proof]]:
        """Prove what is new, or all of it, and swap it in; which Helm it was, and the proofs."""
        fresh = {team.team for team in compared if team.status in ("added", "changed")}
        gone = {team.team for team in compared if team.status == "removed"}
        unproven = [team for team in self._teams if prove or team.spec.name in fresh]
        engine, swapped_at = "", 0
        proofs: Mapping[str, Proof] = {}
        if unproven or gone:
            with staged(self._output) as stage:
                records = self._keep(stage, fresh, gone)
                if unproven:
                    with (
                        Proofs.of(self._project.root) as known,
                        Prover(helm, charts=len(unproven), proofs=None if prove else known) as prover,
                    ):
                        charts = self._staged(stage, unproven, fresh, records)
                        proofs = _proven(prover.prove(charts), len(unproven), progress)
                        engine = prover.helm
                if fresh or gone:
                    write_tree(stage, {MANIFEST: Manifest(dict(sorted(records.items()))).encode()})
                    swapped_at = file_clock(self._output.parent)
                    swap(stage, self._output)
        if fresh or gone:
            at = file_clock(self._output.parent)
            self._seen.remember(self._sorted(look_at(self._output), at), fresh, swapped_at)
        else:
            self._seen.remember()
        return engine, proofs

    def _keep(self, stage: Path, fresh: set[str], gone: set[str]) -> dict[str, Charted]:
        """Take over the charts that stay as they are, if anything is to be swapped in."""
        if not fresh and not gone:
            return {}
        kept = {
            team: known
            for team, known in self._there.charts.items()
            # A chart that somebody took away by hand is no longer ours to keep.
            if team not in gone | fresh and (self._output / team).is_dir()
        }
        for team in kept:
            keep_tree(self._output, stage, self._entries.by_team.get(team, ()))
        return kept

    def _staged(
        self, stage: Path, unproven: Iterable[LoadedTeam], fresh: set[str], records: dict[str, Charted]
    ) -> Iterator[Provable]:
        """The charts to prove, each written when it is its turn."""
        for team in unproven:
            name = team.spec.name
            chart = self._made.pop(name, None) or self._charts.chart(team)
            place = stage if name in fresh else self._output
            if name in fresh:
                write_tree(stage, chart.files)
                records[name] = Charted(chart.version, chart.sha256, tuple(chart.files))
            yield Provable(name, place / name, chart.namespaces, proof_keys(name, chart.tree, chart.namespaces))

    def report(
        self, compared: Iterable[Packaged], engine: str = "", proofs: Mapping[str, Proof] | None = None
    ) -> Report:
        """What is told of it."""
        counted = {
            name: {environment: each.objects for environment, each in proof.rendered.items()}
            for name, proof in (proofs or {}).items()
        }
        teams = [Packaged(t.team, t.version, t.status, counted.get(t.team, {}), t.drift) for t in compared]
        warnings = [str(warning) for warning in self._project.warnings]
        warnings += [warning for team in self._teams for warning in self._warnings[team.spec.name]]
        return Report(
            self._output,
            tuple(environment.name for environment in self._project.organisation.environments),
            engine,
            KUBERNETES_VERSION,
            tuple(sorted(teams, key=lambda team: team.team)),
            self._foreign(),
            tuple(warnings),
        )

    def _foreign(self) -> tuple[str, ...]:
        """What is in the output beside the charts; of a chart's own directory its `Drift` tells that."""
        if not self._whole:
            return ()
        charts = self._there.charts.keys() | {team.spec.name for team in self._teams}
        beside = self._entries.by_team.keys() - charts - {MANIFEST}
        return tuple(sorted(path for name in beside for path in self._entries.by_team[name]))


def _proven(proofs: Iterable[Proof], total: int, progress: Progress) -> Mapping[str, Proof]:
    """All proofs by team.

    Raises:
        Failure: one says that a chart is wrong.
    """
    found: dict[str, Proof] = {}
    for done, proof in enumerate(proofs, start=1):
        progress(done, total, proof.team)
        found[proof.team] = proof
    refuse_wrong((team, proof.wrong) for team, proof in found.items())
    return found
