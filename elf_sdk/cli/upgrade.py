"""`elf upgrade`."""

from __future__ import annotations

from pathlib import Path

import click

from elf_sdk.cli import options
from elf_sdk.cli.output import counted, print_commit, print_done, print_json, print_warning
from elf_sdk.cli.progress import Progress
from elf_sdk.deploy.gitops.clone import open_repository
from elf_sdk.deploy.gitops.upgrade import upgrade as upgrade_environment
from elf_sdk.deploy.gitops.write import push as push_commits
from elf_sdk.deploy.helm import Choice
from elf_sdk.errors import Failure
from elf_sdk.settings import load_settings
from elf_sdk.team.project import find_project

__all__ = ["upgrade"]


@click.command()
@click.option("--env", "environment", required=True, metavar="ENVIRONMENT", help="The environment; one a commit.")
@options.branch
@options.push
@click.option("--check", is_flag=True, help="Change nothing; exit code 1 if a chart has another library.")
@click.option("--offline", is_flag=True, help="Do not ask the remote what is new.")
@options.clone
@options.helm
@options.as_json
def upgrade(
    environment: str,
    branch: str | None,
    push: bool,
    check: bool,
    offline: bool,
    clone: Path | None,
    choice: Choice,
    as_json: bool,
) -> None:
    """Bring the charts of an environment to the library of this elf, and change nothing else, in one commit.

    Versions, images and values stay as they are in the repository. Environments go in their order.

    Example: elf upgrade --env dev, and when that runs well, elf upgrade --env staging
    """
    project = find_project(Path.cwd())
    repository = open_repository(project, load_settings().gitops_repo_url, clone)
    if not offline:
        with repository.lock():
            repository.refresh()
    chosen = project.organisation.environment(environment)
    with Progress("proving charts") as progress:
        done = upgrade_environment(
            project,
            repository,
            chosen,
            branch=branch,
            check=check,
            helm=choice,
            progress=progress,
        )
    if done.commit and push:
        push_commits(project, repository, branch)
    if as_json:
        print_json(
            {
                "environment": environment,
                "library": done.library,
                "commit": done.commit,
                "teams": [
                    {"team": each.after.app.team, "before": each.before.app.library, "after": each.after.app.library}
                    for each in done.teams
                ],
                "warnings": list(done.warnings),
            }
        )
    else:
        for warning in done.warnings:
            print_warning(warning)
        for each in done.teams:
            click.echo(f"  {environment}: {each.after.app.team}, library {each.before.app.library} → {done.library}")
        if not done.teams:
            print_done(f"every chart in {environment} has the library {done.library}")
        elif done.commit:
            print_commit(repository, done.commit)
    if check and done.teams:
        raise Failure(
            f"{counted(len(done.teams), 'chart')} in {environment} not at the library {done.library}; "
            f"run elf upgrade --env {environment}"
        )
