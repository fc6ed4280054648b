"""`elf promote`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from elf_sdk.cli import options
from elf_sdk.cli.eval import tell
from elf_sdk.cli.gate import SKIPPED, gate
from elf_sdk.cli.output import print_commit, print_done, print_json, print_warning
from elf_sdk.cli.progress import Progress
from elf_sdk.deploy.gitops import promote as promoting
from elf_sdk.deploy.gitops.clone import open_repository
from elf_sdk.deploy.gitops.deployed import Deployed
from elf_sdk.deploy.gitops.repository import Repository
from elf_sdk.deploy.gitops.rollback import rollback as roll_back
from elf_sdk.deploy.gitops.write import push as push_commits
from elf_sdk.deploy.helm import Choice
from elf_sdk.errors import BadInput
from elf_sdk.evals.result import ConversationResult
from elf_sdk.server.local import local_settings
from elf_sdk.settings import load_image_settings
from elf_sdk.team.project import find_project

__all__ = ["promote"]


@click.command()
@click.argument("teams", nargs=-1, metavar="TEAM…")
@click.option("--to", metavar="ENVIRONMENT", help="Where to; copied is the environment before it in elf.yaml.")
@click.option("--all", "everyone", is_flag=True, help="All teams of the environment that is copied.")
@click.option("--url", help="Where the teams are there, with {team} in it.  [default: the host of gateway or ingress]")
@click.option("--token", envvar="ELF_TOKEN", help="A token for the team there.")
@click.option("--skip-evals", is_flag=True, help="Ask the teams nothing; the commit says so.")
@click.option("--by-tag", is_flag=True, help="Also promote what runs by the tag of its image.")
@click.option("--rollback", is_flag=True, help="Return TEAM in --env to what ran there before.")
@click.option("--env", metavar="ENVIRONMENT", help="The environment of a rollback.")
@options.branch
@options.push
@click.option("--check", is_flag=True, help="Change nothing; say what would be promoted.")
@click.option("--offline", is_flag=True, help="Ask neither the remote what is new nor the registry for the images.")
@options.clone
@options.helm
@options.as_json
def promote(
    teams: tuple[str, ...],
    to: str | None,
    everyone: bool,
    url: str | None,
    token: str | None,
    skip_evals: bool,
    by_tag: bool,
    rollback: bool,
    env: str | None,
    branch: str | None,
    push: bool,
    check: bool,
    offline: bool,
    clone: Path | None,
    choice: Choice,
    as_json: bool,
) -> None:
    """Bring TEAM from one environment to the next: the same chart and the same image, in one commit.

    Chart, image, values and edges are fixed when it begins. Then the team's evals talk to what runs there, and only if
    all of them are right it is committed. It is taken back by git revert, or by --rollback.

    Example: elf promote marketing-team --to staging --url https://dev.example.com/teams/{team}
    """
    _check_words(teams, to, env, everyone=everyone, rollback=rollback)
    project = find_project(Path.cwd())
    settings = local_settings(project)
    repository = open_repository(project, settings.gitops_repo_url, clone)
    if not offline:
        with repository.lock():
            repository.refresh()
    if rollback:
        environment = project.organisation.environment(str(env))
        returned = roll_back(project, repository, teams, environment, branch, check=check)
        pairs: list[tuple[Deployed | None, Deployed]] = [(each.before, each.after) for each in returned.returns]
        made = returned.commit
    else:
        planned = promoting.promotion(project, repository.head(), repository.source, teams, str(to), by_tag=by_tag)
        moves = [move for move in planned.moves if move.changes]
        pairs = [(move.before, move.target) for move in moves]
        for warning in planned.warnings:
            print_warning(warning)
        made = None
        if moves and not check:
            with Progress("proving charts") as progress:
                promoting.prove(planned, helm=choice, progress=progress)
            if not offline:
                promoting.refuse_absent(planned, load_image_settings().credentials)

            def told(team: str, result: ConversationResult) -> None:
                if not as_json:
                    tell(result, team)

            evidence = (
                SKIPPED if skip_evals else gate(project, settings, planned, moves, url=url, token=token, progress=told)
            )
            made = promoting.commit(
                project, repository, planned, notes=evidence.notes, verdict=evidence.verdict, branch=branch
            )
    if made and push:
        push_commits(project, repository, branch)
    _say(repository, pairs, made, branch, pushed=push, as_json=as_json)


def _check_words(
    teams: Sequence[str], to: str | None, environment: str | None, *, everyone: bool, rollback: bool
) -> None:
    if rollback:
        if environment is None or to is not None or not teams or everyone:
            raise BadInput("a rollback names its teams and its environment: elf promote TEAM --rollback --env prod")
    elif to is None or environment is not None:
        raise BadInput("say where to: elf promote TEAM --to staging")
    elif bool(teams) == everyone:
        raise BadInput("name the teams to promote, or give --all for all of the environment below")


def _say(
    repository: Repository,
    pairs: Sequence[tuple[Deployed | None, Deployed]],
    made: str | None,
    branch: str | None,
    *,
    pushed: bool,
    as_json: bool,
) -> None:
    if as_json:
        print_json(
            {
                "commit": made,
                "branch": branch or repository.branch(),
                "pushed": bool(made and pushed),
                "teams": [_as_data(before, after) for before, after in pairs],
            }
        )
        return
    for before, after in pairs:
        app = after.app
        version = f"{before.app.version} → {app.version}" if before and before.app != app else app.version
        click.echo(f"  {after.environment}: {app.team} {version}, image {app.digest or 'by its tag'}")
    if made is None:
        if pairs:
            click.echo("nothing was changed")
        else:
            print_done("all of it is there already")
        return
    print_commit(repository, made, f" on {branch or repository.branch()}")
    if any(after.app.digest for _, after in pairs):
        click.echo("The teams' images.lock.yaml name these images now; commit them where the teams are.")
    if not pushed:
        click.echo(f"Push it with: elf gitops push{f' --branch {branch}' if branch else ''}")


def _as_data(before: Deployed | None, after: Deployed) -> dict[str, object]:
    return {
        "team": after.app.team,
        "environment": after.environment,
        "before": before
        and {"version": before.app.version, "digest": before.app.digest, "library": before.app.library},
        "after": {"version": after.app.version, "digest": after.app.digest, "library": after.app.library},
    }
