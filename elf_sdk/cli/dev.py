"""`elf dev`."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from dotenv import load_dotenv

from elf_sdk import __version__
from elf_sdk.errors import BadInput
from elf_sdk.server.dev import dev_issuer, dev_settings, mounted, team_path
from elf_sdk.server.listen import bind
from elf_sdk.server.listen import serve as serve_app
from elf_sdk.server.loading import load_server
from elf_sdk.server.reload import end_with_parent, snapshot, supervise
from elf_sdk.settings import load_settings
from elf_sdk.team.project import LoadedTeam, Project, find_project
from elf_sdk.team.spec import TeamSpec

__all__ = ["dev"]


@click.command()
@click.argument("teams", nargs=-1)
@click.option("--host", help="Address to listen on.  [default: ELF_HOST, or 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 takes a free one.  [default: ELF_PORT, or 8000]")
@click.option("--reload/--no-reload", default=True, help="Serve again when a file changes.  [default: reload]")
@click.option("--socket", "descriptor", type=int, hidden=True)
def dev(teams: tuple[str, ...], host: str | None, port: int | None, reload: bool, descriptor: int | None) -> None:
    """Serve TEAMS of this project, or all of them, with a token and a command to try.

    Reads .env beside elf.yaml, keeps its database in .elf/, and lets teams reach each other.

    Example: elf dev marketing-team --port 8010
    """
    project = find_project(Path.cwd())
    chosen = project.select(teams)
    try:
        load_dotenv(project.root / ".env", override=False)
    except (OSError, ValueError) as error:
        raise BadInput(f"{project.root / '.env'} cannot be read: {error}; write NAME=value lines in UTF-8") from None
    if descriptor is not None:
        end_with_parent()
        _serve(project, chosen, socket.socket(fileno=descriptor))
        return
    settings = load_settings()
    sock = bind(host or settings.host, settings.port if port is None else port)
    if not reload:
        _serve(project, chosen, sock)
        return
    sock.set_inheritable(True)
    command = [sys.executable, "-m", "elf_sdk", "dev", *teams, "--socket"]
    sys.exit(supervise(command, sock, lambda: snapshot(project.root), _say))


def _say(text: str) -> None:
    click.echo(click.style(text, dim=True))


def _serve(project: Project, teams: tuple[LoadedTeam, ...], sock: socket.socket) -> None:
    address = "http://{}:{}".format(*sock.getsockname()[:2])
    settings = dev_settings(project, load_settings(), address)
    specs = [team.spec.for_environment(settings.environment) for team in teams]
    first = next((spec for spec in specs if spec.chat.top_level), specs[0]).name
    token = dev_issuer(project, settings).user_token("you", first)
    servers = [load_server(team.directory) for team in teams]
    app = mounted(servers, settings, project.org, lambda: _announce(project, specs, address, first, token))
    serve_app(app, sock, log_level="warning" if settings.log_level == "info" else settings.log_level)


def _announce(project: Project, specs: Sequence[TeamSpec], address: str, first: str, token: str) -> None:
    click.echo(f"{click.style(f'ELF {__version__}', bold=True)} serves {project.organisation.title} on {address}\n")
    width = max(len(spec.name) for spec in specs)
    for spec in specs:
        chat = "chat" if spec.chat.enabled else "    "
        model = click.style("offline model", fg="yellow") if spec.llm.provider == "offline" else spec.llm.model
        click.echo(f"  {spec.name:<{width}}  {spec.framework:<9}  {chat}  {address}{team_path(spec.name)}  {model}")
    base = address + team_path(first)
    option = "" if address == "http://127.0.0.1:8000" else f" --url {base}"
    click.echo(f"\nA token for {first}, valid for an hour (another: elf token TEAM):\n\n  {token}\n")
    click.echo("Try, in a second terminal:\n")
    click.echo(f"  elf talk {first}{option}")
    click.echo(f"  curl {base}/health")
    click.echo(f'  wscat -c "{base.replace("http", "ws", 1)}/chat?token=$(elf token {first})"')
    click.echo("\nCtrl-C stops.")
