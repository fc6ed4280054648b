"""`elf deploy`."""

from __future__ import annotations

import functools
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import click

from elf_sdk.cli import options
from elf_sdk.cli.output import counted, harmless, print_done, print_json
from elf_sdk.cli.words import seconds_of
from elf_sdk.errors import Failure
from elf_sdk.team.project import find_project

__all__ = ["deploy"]


@click.command()
@click.argument("environment", metavar="ENV")
@options.teams
@click.option("--context", default="", help="The context of the kubeconfig to use, whichever is the current one.")
@click.option(
    "--timeout", default="5m", show_default=True, metavar="DURATION", help="How long to wait; 0s does not wait."
)
@click.option("--remove", "removing", is_flag=True, help="Take the teams out instead. Namespaces and Secrets stay.")
@click.option("--yes", is_flag=True, help="Remove without asking.")
@click.option(
    "--helm",
    "choice",
    type=click.Choice(["auto", "embedded", "cli"]),
    default="auto",
    show_default=True,
    help="Which Helm installs; auto is the one on the PATH where there is a fit one.",
)
@options.project
@options.as_json
def deploy(
    environment: str,
    teams: tuple[str, ...],
    context: str,
    timeout: str,
    removing: bool,
    yes: bool,
    choice: Literal["auto", "embedded", "cli"],
    path: Path,
    as_json: bool,
) -> None:
    """Install each TEAM, by default all, into ENV in the current cluster, and wait until they are ready.

    For clusters without Argo CD. What is installed is what `elf package` would write, proven in the same way. The
    namespace is made where it is absent, with the restricted Pod Security Standard. A team that is not ready in time
    is told with its reasons, and the exit code is 1.

    Example: elf deploy dev executive-team
    """
    from elf_sdk.deploy.cluster.kubeconfig import read_kubeconfig
    from elf_sdk.deploy.install import deploy as install
    from elf_sdk.deploy.install import remove
    from elf_sdk.deploy.release import choose_releases

    project = find_project(path)
    chosen, where = project.select(teams), project.organisation.environment(environment)
    seconds = seconds_of("--timeout", timeout)
    releases = functools.partial(choose_releases, choice=choice)
    lock = threading.Lock()

    def say(sentence: str) -> None:
        with lock:
            click.echo(sentence, err=as_json)

    if removing:
        names = ", ".join(team.spec.name for team in chosen)
        if not yes and not click.confirm(f"Remove {names} from {environment}?"):
            raise click.Abort
        outcomes = remove(
            project, where, chosen, read_kubeconfig(), context=context, releases=releases, timeout=seconds, say=say
        )
    else:
        outcomes = install(
            project,
            where,
            chosen,
            read_kubeconfig(),
            context=context,
            releases=releases,
            timeout=seconds,
            say=say,
        )
    late = [outcome for outcome in outcomes if not outcome.ready]
    if as_json:
        print_json({"ok": not late, "environment": environment, "teams": [asdict(outcome) for outcome in outcomes]})
    else:
        for outcome in late:
            click.echo(f"{click.style('✗', fg='red')} {outcome.team} in {outcome.namespace}")
            for problem in outcome.problems:
                click.echo(f"    {problem}")
            for line in outcome.log:
                click.echo(click.style(f"    | {harmless(line)}", dim=True))
        if not late:
            done = "removed from" if removing else "ready in" if seconds else "installed in"
            print_done(f"{counted(len(outcomes), 'team')} {done} {environment}")
    if late:
        raise Failure(
            f"{len(late)} of {counted(len(outcomes), 'team')} {'not removed' if removing else 'not ready'} in {timeout}"
        )
