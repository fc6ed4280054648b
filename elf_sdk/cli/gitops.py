"""`elf gitops`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from elf_sdk.cli import options
from elf_sdk.cli.group import Group
from elf_sdk.cli.output import counted, nearest, print_commit, print_done, print_json, print_lines, print_warning
from elf_sdk.cli.progress import Progress
from elf_sdk.cli.words import split_words
from elf_sdk.deploy.gitops.choice import Asked, Format
from elf_sdk.deploy.gitops.clone import open_repository
from elf_sdk.deploy.gitops.diff import ObjectDiff
from elf_sdk.deploy.gitops.diff import diff as diff_objects
from elf_sdk.deploy.gitops.repository import Repository
from elf_sdk.deploy.gitops.write import Written, unwritten
from elf_sdk.deploy.gitops.write import push as push_commits
from elf_sdk.deploy.gitops.write import write as write_places
from elf_sdk.deploy.helm import Choice
from elf_sdk.errors import Failure
from elf_sdk.settings import load_settings
from elf_sdk.team.project import Project, ProjectRoot, find_project, find_root

__all__ = ["gitops"]

_format = click.option(
    "--format",
    "how",
    type=click.Choice(["argocd", "manifests"]),
    default="argocd",
    show_default=True,
    help="Charts with ApplicationSets, or plain rendered YAML with Kustomize.",
)


@click.group(cls=Group)
def gitops() -> None:
    """Write, commit and push the repository that Argo CD watches.

    Its address is GITOPS_REPO_URL, or gitops.url in elf.yaml; without one it is the directory gitops of the repository
    that the project is in.

    Example: elf gitops write, then elf gitops diff, elf gitops commit and elf gitops push
    """


@gitops.command()
@click.argument("teams", nargs=-1, metavar="[TEAM]… [PATH]")
@click.option("--all-environments", is_flag=True, help="Not only the first environment; for the very start.")
@_format
@click.option("--allow-remove", type=click.IntRange(0), default=0, metavar="N", help="Let up to N teams be removed.")
@click.option("--check", is_flag=True, help="Change nothing; exit code 1 if the checked-out commit is not up to date.")
@options.clone
@options.helm
@options.as_json
def write(
    teams: tuple[str, ...],
    all_environments: bool,
    how: Format,
    allow_remove: int,
    check: bool,
    clone: Path | None,
    choice: Choice,
    as_json: bool,
) -> None:
    """Write the teams into the first environment, proven before anything is replaced.

    TEAM is the name of a team; by default all. PATH is the project, by default this directory. The other environments
    change by promotion. A team that is archived leaves the environments that sync themselves.

    Example: elf gitops write --all-environments
    """
    names, path = split_words(teams)
    project = find_project(path)
    repository = _open(project, clone)
    asked = Asked(tuple(names), all_environments, allow_remove, how)
    with Progress("proving charts") as progress:
        done = write_places(project, repository, asked, helm=choice, check=check, progress=progress)
    if as_json:
        print_json(_as_data(done, repository, check))
    else:
        _tell(done, repository, check)
    if check and done.places:
        raise Failure(
            f"{counted(len(done.places), 'place')} in {nearest(repository.root)} not up to date; run elf gitops write"
        )


@gitops.command()
@click.argument("teams", nargs=-1, metavar="[TEAM]… [PATH]")
@click.option("--unwritten", "planned", is_flag=True, help="What elf gitops write would write, without writing it.")
@click.option("--all-environments", is_flag=True, help="As of write, with --unwritten.")
@_format
@options.clone
@options.helm
@options.as_json
def diff(
    teams: tuple[str, ...],
    planned: bool,
    all_environments: bool,
    how: Format,
    clone: Path | None,
    choice: Choice,
    as_json: bool,
) -> None:
    """Show the change as Kubernetes objects, beside the checked-out commit; exit code 1 if there is any.

    Both sides are rendered by real Helm. What a Secret holds is not shown.

    Example: elf gitops diff
    """
    names, path = split_words(teams)
    project = find_project(path)
    repository = _open(project, clone)
    with repository.lock():
        base = repository.head()
        asked = Asked(tuple(names), all_environments, format=how)
        change = unwritten(project, repository, asked) if planned else repository.changed()
        with Progress("rendering charts") as progress:
            found = diff_objects(change, base, choice, progress)
    if as_json:
        print_json({"ok": not found, "objects": [{**asdict(each), "lines": list(each.lines)} for each in found]})
    else:
        for each in found:
            _draw(each)
    if found:
        raise Failure(f"{counted(len(found), 'object')} would change")
    if not as_json:
        print_done("no object would change")


_COLOURS: Final = {"+": "green", "-": "red", "@": "cyan"}


def _draw(each: ObjectDiff) -> None:
    where = f"{each.environment}: {each.team}: " if each.team else ""
    click.echo(click.style(f"{where}{each.kind}/{each.name} {each.status}", bold=True))
    for line in each.lines:
        click.echo(click.style(line, fg=_COLOURS.get(line[:1])))
    click.echo()


@gitops.command()
@options.path
@options.branch
@options.clone
@options.as_json
def commit(path: Path, branch: str | None, clone: Path | None, as_json: bool) -> None:
    """Commit what `elf gitops write` has written, and nothing else.

    Example: elf gitops commit --branch new-brand-team
    """
    repository = _open(find_root(path), clone)
    with repository.lock():
        made = repository.commit_written(branch)
    if as_json:
        print_json({"commit": made, "branch": branch or repository.branch()})
    elif made is None:
        click.echo("there is nothing to commit; elf gitops write makes it")
    else:
        print_commit(repository, made, f" on {branch or repository.branch()}")


@gitops.command()
@options.path
@options.branch
@options.clone
@options.helm
@options.as_json
def push(
    path: Path,
    branch: str | None,
    clone: Path | None,
    choice: Choice,
    as_json: bool,
) -> None:
    """Push what was committed. Where others were faster it is made anew on theirs, and never forced.

    Example: elf gitops push
    """
    project = find_project(path)
    repository = _open(project, clone)
    done = push_commits(project, repository, branch, helm=choice)
    if as_json:
        print_json(
            {"branch": done.branch, "commits": list(done.commits), "attempts": done.attempts, "behind": done.behind}
        )
        return
    if not done.commits:
        click.echo(f"{repository.source.url} has everything already")
        return
    tries = f", after {done.attempts} attempts" if done.attempts > 1 else ""
    how_many = counted(len(done.commits), "commit")
    print_done(f"{how_many} on {done.branch} of {repository.source.url}{tries}")
    if done.behind:
        print_warning(
            f"{nearest(repository.top)} has changes in the way of what was pushed; commit them, then git pull --rebase"
        )


def _open(project: Project | ProjectRoot, clone: Path | None) -> Repository:
    return open_repository(project, load_settings().gitops_repo_url, clone)


def _tell(done: Written, repository: Repository, check: bool) -> None:
    for warning in done.warnings:
        print_warning(warning)
    print_lines([str(step) for step in done.steps])
    if check and done.places:
        return
    where = nearest(repository.root)
    if not done.places:
        print_done(f"{where} is up to date")
        return
    proof = f", proven by {done.helm}" if done.helm else ""
    print_done(f"{counted(len(done.places), 'place')} written in {where}{proof}")


def _as_data(done: Written, repository: Repository, check: bool) -> dict[str, Any]:
    return {
        "ok": not (check and done.places),
        "root": str(repository.root),
        "helm": done.helm or None,
        "teams": [
            {
                "environment": step.environment,
                "team": step.team,
                "before": step.before and {"version": step.before.version, "digest": step.before.digest},
                "after": step.after and {"version": step.after.version, "digest": step.after.digest},
            }
            for step in done.steps
        ],
        "places": list(done.places),
        "warnings": list(done.warnings),
    }
