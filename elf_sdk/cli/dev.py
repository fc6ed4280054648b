"""`elf dev`."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from elf_sdk import __version__
from elf_sdk.cli import options
from elf_sdk.cli.output import counted
from elf_sdk.errors import BadInput
from elf_sdk.server.listen import bind
from elf_sdk.server.local import dev_issuer, dev_settings, local_settings, team_path
from elf_sdk.server.reload import end_with_parent, snapshot, supervise
from elf_sdk.settings import Settings
from elf_sdk.team.project import LoadedTeam, Project, find_project
from elf_sdk.team.spec import TeamSpec

__all__ = ["dev"]


@click.command()
@options.teams
@click.option("--host", help="Address to listen on.  [default: ELF_HOST, or 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 takes a free one.  [default: ELF_PORT, or 8000]")
@click.option("--reload/--no-reload", default=True, help="Serve again when a file changes.  [default: reload]")
@click.option("--watch", is_flag=True, help="Write the charts too, as elf package does, after each change.")
@click.option("--socket", "descriptor", type=int, hidden=True)
def dev(
    teams: tuple[str, ...], host: str | None, port: int | None, reload: bool, watch: bool, descriptor: int | None
) -> None:
    """Serve each TEAM of this project, by default all, with a token and a command to try.

    Reads .env beside elf.yaml, keeps its database in .elf/, and lets teams reach each other.

    Example: elf dev marketing-team --port 8010
    """
    project = find_project(Path.cwd())
    chosen = project.select(teams)
    settings = local_settings(project)
    if descriptor is not None:
        end_with_parent()
        _serve(project, chosen, socket.socket(fileno=descriptor), settings)
        return
    if watch and not reload:
        raise BadInput("--watch writes the charts when a file changes, and --no-reload looks for none; leave one out")
    sock = bind(host or settings.host, settings.port if port is None else port)
    if not reload:
        _serve(project, chosen, sock, settings)
        return
    sock.set_inheritable(True)
    # -P: this ELF, and not one that lies in the directory.
    ours = [sys.executable, "-P", "-m", "elf_sdk"]
    charts = [*ours, "package", *teams] if watch else []
    code = supervise([*ours, "dev", *teams, "--socket"], sock, lambda: snapshot(project.root), _say, charts)
    if sys.stdout.isatty():
        click.echo()  # after ^C
    sys.exit(code)


def _say(text: str) -> None:
    click.echo(click.style(text, dim=True))


def _serve(project: Project, teams: tuple[LoadedTeam, ...], sock: socket.socket, settings: Settings) -> None:
    # Only here: the supervisor serves nothing, and starts sooner without them.
    from elf_sdk.server.dev import mounted
    from elf_sdk.server.listen import serve as serve_app
    from elf_sdk.server.loading import load_server

    if sys.stdout.isatty():
        _say(f"loading {counted(len(teams), 'team')} …")
    address = "http://{}:{}".format(*sock.getsockname()[:2])
    settings = dev_settings(project, settings, address)
    specs = [team.spec.for_environment(settings.environment) for team in teams]
    first = next((spec for spec in specs if spec.chat.top_level), specs[0]).name
    token = dev_issuer(project, settings).user_token("you", first)
    servers = [load_server(team.directory) for team in teams]
    app = mounted(servers, settings, project.org, lambda: _announce(project, specs, address, first, token))
    log_level = "warning" if settings.log_level == "info" else settings.log_level
    serve_app(app, sock, log_level=log_level, log_format=settings.log_format)


def _announce(project: Project, specs: Sequence[TeamSpec], address: str, first: str, token: str) -> None:
    click.echo(f"{click.style(f'ELF {__version__}', bold=True)} serves {project.organisation.title} on {address}\n")
    # The address first, so that what stands behind it is aligned, and a line fits into 80 columns.
    places = [address + team_path(spec.name) for spec in specs]
    for spec, place in zip(specs, places, strict=True):
        model = "offline model" if spec.llm.provider == "offline" else spec.llm.model
        chat = "" if spec.chat.enabled else ", no chat"
        click.echo(f"  {place:<{max(map(len, places))}}  {spec.framework:<9}  {model}{chat}")
    base = address + team_path(first)
    option = "" if address == "http://127.0.0.1:8000" else f" --url {base}"
    elf = _typed()
    click.echo(f"\nA token for {first}, valid for an hour:\n\n  {token}\n")
    click.echo("Try, in a second terminal, in this directory:\n")
    click.echo(f"  {elf} talk {first}{option}")
    click.echo(f"  curl {base}/health")
    click.echo(f'  wscat -c "{base.replace("http", "ws", 1)}/chat?token=$({elf} token {first})"')
    click.echo("\nCtrl-C stops.")


def _typed() -> str:
    """What to type for this `elf` in another terminal, where no environment is activated."""
    ours = Path(sys.executable).with_name("elf")
    # An activated environment is a matter of this terminal alone.
    path = os.pathsep.join(
        place for place in os.get_exec_path() if Path(place) != ours.parent or "VIRTUAL_ENV" not in os.environ
    )
    found = shutil.which("elf", path=path)
    if (found and Path(found).samefile(ours)) or not ours.is_file():
        return "elf"
    here = Path.cwd()
    return shlex.quote(str(ours.relative_to(here) if ours.is_relative_to(here) else ours))
