"""`elf package`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from elf_sdk.cli import options
from elf_sdk.cli.output import counted, nearest, print_done, print_json, print_lines, print_warning
from elf_sdk.cli.progress import Progress
from elf_sdk.cli.words import split_words
from elf_sdk.deploy.helm import Choice
from elf_sdk.deploy.package import Report
from elf_sdk.deploy.package import package as write_charts
from elf_sdk.errors import Failure
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
@options.helm
@options.as_json
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
    names, path = split_words(teams)
    with Progress("proving charts") as progress:
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
        raise Failure(f"{how_many} in {nearest(report.output)} not up to date; run elf package")
    if check and report.foreign:
        what = counted(len(report.foreign), "file")
        raise Failure(
            f"{nearest(report.output)} holds {what} that elf package did not write; move what is not ours elsewhere"
        )


def _tell(report: Report, check: bool) -> None:
    for warning in report.warnings:
        print_warning(warning)
    output = nearest(report.output)
    if check:
        for team in report.drifted:
            for what, paths in (
                ("missing", team.drift.added),
                ("changed", team.drift.changed),
                ("not ours", team.drift.removed),
            ):
                for path in paths:
                    click.echo(f"{what:9} {path}")
        for path in report.foreign:
            click.echo(f"not ours  {path}")
        if not report.drifted and not report.foreign:
            print_done(f"{counted(len(report.teams), 'chart')} in {output}, up to date")
        return
    shown = [team for team in report.teams if team.status != "unchanged" or team.environments]
    width = max((len(team.team) for team in shown), default=0)
    lines: list[str] = []
    for team in shown:
        counts = ", ".join(f"{name} {number}" for name, number in team.environments.items())
        objects = f"objects: {counts}" if counts else ""
        lines.append(f"{team.team:{width}}  {team.version:8}  {team.status:9}  {objects}".rstrip())
    print_lines(lines)
    unchanged = sum(team.status == "unchanged" for team in report.teams)
    done = [counted(sum(team.status != "removed" for team in report.teams), "chart") + f" in {output}"]
    if unchanged:
        done.append("all unchanged" if unchanged == len(report.teams) else f"{unchanged} unchanged")
    if report.helm:
        *most, last = report.environments
        environments = f"{', '.join(most)} and {last}" if most else last
        done.append(f"proven for {environments} by {report.helm} and the schemas of Kubernetes {report.kubernetes}")
    print_done(", ".join(done))


def _as_json(report: Report, check: bool) -> dict[str, Any]:
    return {
        "ok": not (check and (report.drifted or report.foreign)),
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
        "foreign": list(report.foreign),
        "warnings": list(report.warnings),
    }
