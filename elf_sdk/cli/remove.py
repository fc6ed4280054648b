"""`elf remove`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from elf_sdk.cli import options
from elf_sdk.cli.output import print_done, print_json
from elf_sdk.deploy.gitops.clone import open_repository
from elf_sdk.deploy.gitops.removal import remove as remove_team
from elf_sdk.deploy.helm import Choice
from elf_sdk.settings import load_settings
from elf_sdk.team.project import find_project

__all__ = ["remove"]


@click.command()
@click.argument("team")
@options.path
@click.option("--env", "environment", required=True, help="The environment that it leaves.")
@click.option(
    "--allow-remove", type=click.IntRange(0), default=0, metavar="N", help="1 for a team that is not archived."
)
@options.branch
@options.clone
@options.helm
@options.as_json
def remove(
    team: str,
    path: Path,
    environment: str,
    allow_remove: int,
    branch: str | None,
    clone: Path | None,
    choice: Choice,
    as_json: bool,
) -> None:
    """Take a team out of an environment, as a commit in the GitOps repository.

    In prod it takes two: after the first the chart renders only volumes and Secrets, after the second it is gone. What
    is left to do is printed.

    Example: elf remove brand-team --env prod
    """
    project = find_project(path)
    repository = open_repository(project, load_settings().gitops_repo_url, clone)
    done = remove_team(team, environment, project, repository, allowed=allow_remove, branch=branch, helm=choice)
    if as_json:
        print_json(asdict(done))
        return
    what = "is gone" if done.last else "renders only what outlives it"
    print_done(f"{done.commit[:10]}: {team} {what} in {environment}")
    if done.kept:
        click.echo(f"kept: {', '.join(done.kept)}")
    for number, each in enumerate(done.next, start=1):
        click.echo(f"{number}. {each}")
