"""`elf check`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import click

from elf_sdk.adapters.registry import adapter_names
from elf_sdk.cli import EXIT_USAGE, options
from elf_sdk.cli.output import counted, print_done, print_json
from elf_sdk.errors import Problem
from elf_sdk.evals.load import survey_conversations
from elf_sdk.team.project import LoadedTeam, survey

__all__ = ["check", "report"]


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH]…")
@options.as_json
def check(paths: tuple[Path, ...], as_json: bool) -> None:
    """Check team.yaml and elf.yaml files, the organisation they form, and the teams' evals.

    A PATH is a project, a directory of teams, or a team; by default this directory. Nothing is asked of any network.
    Exit code 2 if something is wrong; warnings alone are no failure.

    Example: elf check teams
    """
    problems: dict[Problem, None] = {}
    teams: set[Path] = set()
    for path in paths or (Path(),):
        found = survey(path)
        problems |= dict.fromkeys(found.problems)
        problems |= dict.fromkeys(_without_adapter(found.project.teams))
        for team in found.project.teams:
            problems |= dict.fromkeys(survey_conversations(team)[1])
        teams |= {team.path for team in found.project.teams}
    report(list(problems), as_json, f"{counted(len(teams), 'team')}, and nothing wrong")


def _without_adapter(teams: Iterable[LoadedTeam]) -> Iterator[Problem]:
    """Warnings, because the package may be in the team's container and not here."""
    names = adapter_names()
    for team in teams:
        if team.spec.framework not in names:
            near = difflib.get_close_matches(team.spec.framework, names, 1)
            remedy = f"did you mean {near[0]!r}?" if near else f"write one of: {', '.join(names)}"
            message = f"no adapter {team.spec.framework!r} is installed here; {remedy}"
            yield Problem(team.file, team.line(("framework",)), "framework", message, "warning")


def report(problems: list[Problem], as_json: bool, all_well: str) -> None:
    """Print `problems` and leave with exit code 2 if one of them is an error."""
    errors = sum(problem.severity == "error" for problem in problems)
    if as_json:
        body = {"ok": not errors, "problems": [asdict(problem) for problem in problems]}
        print_json(body)
    else:
        for problem in problems:
            warning = click.style(" (warning)", fg="yellow") if problem.severity == "warning" else ""
            click.echo(f"{problem}{warning}")
        warnings = len(problems) - errors
        if errors:
            also = f" and {counted(warnings, 'warning')}" if warnings else ""
            click.echo(click.style(f"{counted(errors, 'problem')}{also}", fg="red"), err=True)
        elif warnings:
            click.echo(f"{counted(warnings, 'warning')}, and nothing that stops you")
        else:
            print_done(all_well)
    if errors:
        raise click.exceptions.Exit(EXIT_USAGE)
