"""`elf ci`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from elf_sdk.cli import options
from elf_sdk.cli.group import Group
from elf_sdk.cli.output import counted
from elf_sdk.errors import BadInput, Failure
from elf_sdk.team.project import find_project

__all__ = ["ci"]


@click.group(cls=Group)
def ci() -> None:
    """Write the pipeline of the repository that the teams are in.

    Example: elf ci init --github
    """


@ci.command()
@click.option("--github", "for_github", is_flag=True, help="As GitHub's workflows.")
@click.option("--gitlab", "for_gitlab", is_flag=True, help="As GitLab's pipeline.")
@click.option("--branch", default="main", show_default=True, help="The branch that images are delivered from.")
@click.option("--force", is_flag=True, help="Also replace files that somebody has changed.")
@options.project
def init(for_github: bool, for_gitlab: bool, branch: str, force: bool, path: Path) -> None:
    """Write a pipeline: check, prove, converse, build, push, change the GitOps repository, promote.

    A file that somebody has changed stays as it is, and is named. No secret is in any of them; what has to be set in
    the repository is printed.

    Example: elf ci init --gitlab
    """
    from elf_sdk.deploy.pipeline.github import NEEDS as GITHUB_NEEDS
    from elf_sdk.deploy.pipeline.github import github
    from elf_sdk.deploy.pipeline.gitlab import INCLUDE, gitlab
    from elf_sdk.deploy.pipeline.gitlab import NEEDS as GITLAB_NEEDS
    from elf_sdk.deploy.pipeline.pipeline import pipeline_of
    from elf_sdk.deploy.pipeline.write import repository_of, write_pipeline

    if for_github == for_gitlab:
        raise BadInput("say for which forge, one at a time: --github or --gitlab")
    project = find_project(path)
    repository = repository_of(project.root)
    directory = Path(os.path.relpath(project.root.resolve(), repository)).as_posix()
    pipeline = pipeline_of(project, directory, branch)
    files, needs = (github(pipeline), GITHUB_NEEDS) if for_github else (gitlab(pipeline), GITLAB_NEEDS)
    done = write_pipeline(repository, files, force=force)
    kept = [file for file in done if file.status == "kept"]
    for file in done:
        click.echo(f"{file.status:9}  {file.path}")
    for file in kept:
        if file.path == ".gitlab-ci.yml":
            remedy = f"make sure that it includes {INCLUDE}"
        else:
            remedy = "compare, then --force replaces it"
        click.echo(f"{click.style('!', fg='yellow')} {file.path} was changed by somebody; {remedy}", err=True)
    click.echo("Set in the repository, where they are needed:")
    every = [*needs, *(("secret" if for_github else "variable", key, "key of a model") for key in pipeline.keys)]
    for kind, name, use in every:
        click.echo(f"  {kind:8}  {name}: {use}")
    if [file for file in kept if file.path != ".gitlab-ci.yml"]:
        raise Failure(f"{counted(len(kept), 'file')} was left as it is")
