"""`elf logs`."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from elf_sdk.cli import options
from elf_sdk.cli.output import harmless
from elf_sdk.cli.words import seconds_of
from elf_sdk.errors import BadInput
from elf_sdk.team.project import find_project

if TYPE_CHECKING:
    from elf_sdk.deploy.logs import LogLine

__all__ = ["logs"]

_COLOURS: Final = {"debug": "bright_black", "warning": "yellow", "error": "red", "critical": "red"}
_PODS: Final = ("cyan", "magenta", "green", "blue", "yellow")
_SHORT: Final = 5
"""Characters at the end of a pod's name, which tell the replicas of a team apart."""


@click.command()
@click.argument("team")
@click.option("--env", "environment", default="", metavar="ENV", help="The environment.  [default: the first one]")
@click.option("--follow", "-f", is_flag=True, help="Go on with what is written from now on, until Ctrl-C.")
@click.option("--since", default="", metavar="DURATION", help="Only what was written within this time, such as 10m.")
@click.option(
    "--lines",
    default=1000,
    show_default=True,
    type=click.IntRange(1, 1_000_000),
    help="Of each replica, the last ones.",
)
@click.option("--previous", is_flag=True, help="Of the containers before those that run now: why one ended.")
@click.option("--raw/--pretty", default=None, help="As it is written, or for people.  [default: pretty for a terminal]")
@options.context
@options.project
def logs(
    team: str,
    environment: str,
    follow: bool,
    since: str,
    lines: int,
    previous: bool,
    raw: bool | None,
    context: str,
    path: Path,
) -> None:
    """Show what all replicas of TEAM write, merged in the order of time.

    On a terminal each line is shown for people, with the end of the pod's name; into a pipe goes what the replicas
    wrote, unchanged.

    Example: elf logs executive-team --env dev --follow
    """
    from elf_sdk.deploy.cluster.contexts import cluster_of
    from elf_sdk.deploy.cluster.kubeconfig import read_kubeconfig
    from elf_sdk.deploy.cluster.places import Clusters
    from elf_sdk.deploy.logs import follow_logs, read_logs

    if follow and previous:
        raise BadInput("--follow and --previous do not go together: a container that ended writes nothing more")
    project = find_project(path)
    (loaded,) = project.select([team])
    organisation = project.organisation
    where = organisation.environment(environment) if environment else organisation.environments[0]
    seconds = seconds_of("--since", since) if since else 0
    namespace = loaded.spec.namespace_in(where)
    with Clusters(organisation, read_kubeconfig(), context) as clusters:
        api = clusters.api(cluster_of(loaded.spec, where, organisation))
        if follow:
            found = follow_logs(api, namespace, team, lines=lines, since=seconds, note=_note)
        else:
            found = read_logs(api, namespace, team, lines=lines, since=seconds, previous=previous, note=_note)
        show = _raw if (not sys.stdout.isatty() if raw is None else raw) else _pretty
        with closing(found) as stream:
            for line in stream:
                show(line)


def _note(sentence: str) -> None:
    click.echo(f"{click.style('-', fg='yellow')} {sentence}", err=True)


def _raw(line: LogLine) -> None:
    click.echo(line.text)


def _pretty(line: LogLine) -> None:
    from elf_sdk.deploy.logs import entry_of

    pod = line.pod[-_SHORT:]
    mark = click.style(pod, fg=_PODS[sum(pod.encode()) % len(_PODS)])
    entry = entry_of(line.text)
    if entry is None:
        click.echo(f"{mark} {harmless(line.text)}")
        return
    clock = entry.time.partition("T")[2].removesuffix("Z")
    about = " ".join(f"{name}={value}" for name, value in entry.about.items())
    first, *more = entry.message.splitlines() or [""]
    level = click.style(f"{harmless(entry.level.upper()):8}", fg=_COLOURS.get(entry.level))
    said = f"{harmless(clock)} {level}{harmless(entry.logger)}: {harmless(first)}"
    click.echo(f"{mark} {said}{click.style(f'  {harmless(about)}', dim=True) if about else ''}")
    for text in (*more, *entry.exception):
        click.echo(f"{mark}     {harmless(text)}")
