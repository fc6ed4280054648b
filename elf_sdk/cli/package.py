"""`elf package`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from elf_sdk.cli.output import counted, print_json, print_warning
from elf_sdk.deploy.helm import Choice
from elf_sdk.deploy.package import Report
from elf_sdk.deploy.package import package as write_charts
from elf_sdk.errors import BadInput, Failure
from elf_sdk.team.load import ORGANISATION_FILE, TEAM_FILE
from elf_sdk.team.project import find_project

__all__ = ["package"]


@click.command()
@click.argument("teams", nargs=-1, metavar="[TEAM]… [PATH]")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Directory of the charts; nothing else may be in it. Default: charts, beside elf.yaml.",
)
@click.option("--check", is_flag=True, help="Change nothing; exit code 1 if the charts there are not up to date.")
@click.option("--prove", is_flag=True, help="Also prove charts that are already there.")
@click.option(
    "--helm",
    "choice",
    type=click.Choice(["auto", "embedded", "cli"]),
    default="auto",
    show_default=True,
    help="Which Helm proves the charts; auto is the embedded one where it is installed.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def package(
    teams: tuple[str, ...],
    output: Path | None,
    check: bool,
    prove: bool,
    choice: Choice,
    as_json: bool,
) -> None:
    """Write a Helm chart for each team, proven for every environment before anything is replaced.

    TEAM is the name of a team; by default all. PATH is the project, by default this directory. Every environment
    is linted and rendered by real Helm, and checked against the Kubernetes schemas; then the output is swapped in
    whole.

    Example: elf package --output out
    """
    names, path = _split(teams)
    with _Progress() as progress:
        report = write_charts(
            find_project(path),
            names,
            output=output,
            helm=choice,
            check=check,
            prove=prove,
            progress=progress,
        )
    if as_json:
        print_json(_as_json(report, check))
    else:
        _tell(report, check)
    if check and report.drifted:
        how_many = f"{len(report.drifted)} of {counted(len(report.teams), 'chart')}"
        raise Failure(f"{how_many} in {_shown(report.output)} not up to date; run elf package")


def _split(words: tuple[str, ...]) -> tuple[list[str], Path]:
    paths = [word for word in words if _is_path(word)]
    if len(paths) > 1:
        raise BadInput(f"{paths[0]} and {paths[1]} are two places; package one project at a time")
    return [word for word in words if word not in paths], Path(paths[0] if paths else ".")


def _is_path(word: str) -> bool:
    path = Path(word)
    return (
        os.sep in word
        or word in (".", "..", TEAM_FILE, ORGANISATION_FILE)
        or any((path / name).exists() for name in (TEAM_FILE, ORGANISATION_FILE, "teams"))
    )


def _tell(report: Report, check: bool) -> None:
    for warning in report.warnings:
        print_warning(warning)
    output = _shown(report.output)
    if check:
        for team in report.drifted:
            for what, paths in (
                ("missing", team.drift.added),
                ("changed", team.drift.changed),
                ("not ours", team.drift.removed),
            ):
                for path in paths:
                    click.echo(f"{what:9} {path}")
        if not report.drifted:
            click.echo(f"{click.style('✓', fg='green')} {counted(len(report.teams), 'chart')} in {output}, up to date")
        return
    shown = [team for team in report.teams if team.status != "unchanged" or team.environments]
    width = max((len(team.team) for team in shown), default=0)
    for team in shown[:_LINES]:
        counts = ", ".join(f"{name} {number}" for name, number in team.environments.items())
        objects = f"objects: {counts}" if counts else ""
        click.echo(f"{team.team:{width}}  {team.version:8}  {team.status:9}  {objects}".rstrip())
    if len(shown) > _LINES:
        click.echo(f"… and {len(shown) - _LINES} more")
    unchanged = sum(team.status == "unchanged" for team in report.teams)
    done = [counted(sum(team.status != "removed" for team in report.teams), "chart") + f" in {output}"]
    if unchanged:
        done.append("all unchanged" if unchanged == len(report.teams) else f"{unchanged} unchanged")
    if report.helm:
        *most, last = report.environments
        environments = f"{', '.join(most)} and {last}" if most else last
        done.append(f"proven for {environments} by {report.helm} and the schemas of Kubernetes {report.kubernetes}")
    click.echo(f"{click.style('✓', fg='green')} {', '.join(done)}")


_LINES: Final = 40
"""Of a list that a person reads; --json has all."""


def _shown(path: Path) -> str:
    near = os.path.relpath(path)
    return str(path) if near.startswith("..") else near


def _as_json(report: Report, check: bool) -> dict[str, Any]:
    return {
        "ok": not (check and report.drifted),
        "output": str(report.output),
        "environments": list(report.environments),
        "helm": report.helm or None,
        "kubernetes": report.kubernetes,
        "teams": [
            {
                "team": team.team,
                "version": team.version or None,
                "status": team.status,
                "objects": dict(team.environments),
                "drift": {
                    "added": list(team.drift.added),
                    "changed": list(team.drift.changed),
                    "removed": list(team.drift.removed),
                },
            }
            for team in report.teams
        ],
        "warnings": list(report.warnings),
    }


class _Progress:
    """Shown only when the work takes over a second: a bar on a terminal, elsewhere a line now and then."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._said = self._started
        self._bar: Any = None
        self._done = 0
        self._close: Callable[[], None] = lambda: None

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def __call__(self, done: int, total: int, about: str) -> None:
        now = time.monotonic()
        if now - self._started < 1:
            return
        if sys.stderr.isatty():
            if self._bar is None:
                self._bar = click.progressbar(length=total, label="proving charts", file=sys.stderr)
                self._bar.__enter__()
                self._close = lambda: self._bar.__exit__(None, None, None)
            self._bar.update(done - self._done)
            self._done = done
        elif now - self._said >= _SECONDS_BETWEEN_LINES:
            self._said = now
            click.echo(f"proving charts: {done} of {total}", err=True)


_SECONDS_BETWEEN_LINES: Final = 5
