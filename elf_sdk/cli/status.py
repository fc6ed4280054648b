"""`elf status`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from elf_sdk.cli import options
from elf_sdk.cli.output import print_json
from elf_sdk.errors import Failure
from elf_sdk.team.project import find_project

if TYPE_CHECKING:
    from elf_sdk.deploy.status import EnvironmentStatus, Status, TeamStatus

__all__ = ["status"]

_COLUMNS: Final = ("team", "environment", "sync", "health", "replicas", "version", "digest")
_COLOURS: Final = {
    "Healthy": "green",
    "Synced": "green",
    "Progressing": "yellow",
    "OutOfSync": "yellow",
    "Suspended": "yellow",
    "Degraded": "red",
    "Missing": "red",
}
_SHORT: Final = 12
"""Digits of a digest that a person compares."""


@click.command()
@options.teams
@click.option("--env", "environments", multiple=True, metavar="ENV", help="Only this environment; may be repeated.")
@options.project
@options.as_json
def status(teams: tuple[str, ...], environments: tuple[str, ...], path: Path, as_json: bool) -> None:
    """Show what runs: sync, health, replicas, version and digest of each TEAM in each environment.

    Sync and health are Argo CD's where it has an Application for the team; else health is the Deployment's. A digest
    that is not the one of images.lock.yaml is marked. Exit code 1 if a cluster could not be asked.

    Example: elf status --env dev
    """
    from elf_sdk.deploy.cluster.kubeconfig import read_kubeconfig
    from elf_sdk.deploy.status import read_status

    project = find_project(path)
    organisation = project.organisation
    chosen = tuple(map(organisation.environment, environments)) or organisation.environments
    found = read_status(project, project.select(teams), chosen, read_kubeconfig())
    if as_json:
        print_json(_as_json(found))
    else:
        _tell(found)
    if not found.complete:
        raise Failure("not everything could be asked, so this is not all")


def _tell(found: Status) -> None:
    rows = [_row(team, environment) for environment in found.environments for team in environment.teams]
    rows.sort(key=lambda row: row[0])
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *rows, strict=True)]
    click.echo(click.style(_line(_COLUMNS, widths), bold=True))
    for row in rows:
        click.echo(_line(row, widths, _COLOURS))
    for sentence in dict.fromkeys(_remarks(found)):
        click.echo(sentence, err=True)


def _row(team: TeamStatus, environment: EnvironmentStatus) -> tuple[str, ...]:
    unknown = "?" if not environment.reached else "-"
    sync = team.sync or ("?" if environment.argo_cd == "unknown" else "-")
    replicas = unknown if team.wanted is None else f"{team.ready}/{team.wanted}"
    digest = team.digest.removeprefix("sha256:")[:_SHORT]
    if team.drifted:
        digest = f"{digest or 'by tag'} ≠ {team.locked.removeprefix('sha256:')[:_SHORT]}"
    return (
        team.team,
        team.environment,
        sync,
        team.health or unknown,
        replicas,
        team.version or unknown,
        digest or unknown,
    )


def _line(cells: Sequence[str], widths: Sequence[int], colours: dict[str, str] | None = None) -> str:
    parts: list[str] = []
    for cell, width in zip(cells, widths, strict=True):
        padded = f"{cell:{width}}"
        colour = (colours or {}).get(cell) or ("yellow" if colours and " ≠ " in cell else None)
        parts.append(click.style(padded, fg=colour) if colour else padded)
    return "  ".join(parts).rstrip()


def _remarks(found: Status) -> Iterator[str]:
    for environment in found.environments:
        for problem in environment.problems:
            yield f"{click.style('?', fg='yellow')} {environment.environment}: {problem}"
        for team in environment.teams:
            if team.drifted:
                yield (
                    f"{click.style('≠', fg='yellow')} {team.team} in {team.environment}: images.lock.yaml names "
                    f"{team.locked}, and {team.digest or 'an image by its tag'} runs"
                )
            if team.note and team.health != "Healthy":
                yield f"{click.style('!', fg='yellow')} {team.team} in {team.environment}: {team.note}"


def _as_json(found: Status) -> dict[str, Any]:
    return {
        "complete": found.complete,
        "environments": [
            {
                **asdict(environment),
                "problems": list(environment.problems),
                "teams": [{**asdict(team), "drifted": team.drifted} for team in environment.teams],
            }
            for environment in found.environments
        ],
    }
