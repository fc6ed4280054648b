"""`elf dev`."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import click
from dotenv import load_dotenv

from elf_sdk import __version__
from elf_sdk.server.dev import dev_app, dev_issuer, dev_settings, team_path
from elf_sdk.server.listen import bind
from elf_sdk.server.listen import serve as serve_app
from elf_sdk.server.reload import snapshot, supervise
from elf_sdk.settings import load_settings
from elf_sdk.team.load import Project, find_project

__all__ = ["dev"]


@click.command(epilog="Example: elf dev marketing-team --port 8010")
@click.argument("teams", nargs=-1)
@click.option("--host", help="Address to listen on.  [default: ELF_HOST, or 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 takes a free one.  [default: ELF_PORT, or 8000]")
@click.option("--reload/--no-reload", default=True, help="Serve again when a file changes.  [default: reload]")
@click.option("--socket", "descriptor", type=int, hidden=True)
def dev(teams: tuple[str, ...], host: str | None, port: int | None, reload: bool, descriptor: int | None) -> None:
    """Serve TEAMS of this project, or all of them, with a token and a command to try.

    Reads .env beside elf.yaml, keeps its database in .elf/, and lets teams reach each other.
    """
    if descriptor is not None:
        _serve(find_project(Path.cwd(), teams), teams, socket.socket(fileno=descriptor))
        return
    project = find_project(Path.cwd(), teams)
    load_dotenv(project.root / ".env", override=False)
    settings = load_settings()
    sock = bind(host or settings.host, settings.port if port is None else port)
    if not reload:
        _serve(project, teams, sock)
        return
    sock.set_inheritable(True)
    command = [sys.executable, "-m", "elf_sdk", "dev", *teams, "--socket"]
    code = supervise(
        command, sock, lambda: snapshot(project.root), lambda text: click.echo(click.style(text, dim=True))
    )
    if code:
        sys.exit(code)


def _serve(project: Project, teams: tuple[str, ...], sock: socket.socket) -> None:
    load_dotenv(project.root / ".env", override=False)
    address = "http://{}:{}".format(*sock.getsockname()[:2])
    settings = dev_settings(project, load_settings(), address)
    names = teams or tuple(team.spec.name for team in project.teams)
    issuer = dev_issuer(project, settings)
    first = _first_to_talk_to(project, names)

    def announce() -> None:
        _announce(project, names, address, first, issuer.user_token("you", first))

    serve_app(dev_app(project, names, settings, announce), sock)


def _first_to_talk_to(project: Project, names: tuple[str, ...]) -> str:
    specs = [team.spec for team in project.teams if team.spec.name in names]
    return next((spec.name for spec in specs if spec.chat.top_level), specs[0].name)


def _announce(project: Project, names: tuple[str, ...], address: str, first: str, token: str) -> None:
    title = project.organisation.display_name or project.organisation.name
    click.echo(f"{click.style(f'ELF {__version__}', bold=True)} serves {title} on {address}\n")
    width = max(len(name) for name in names)
    for team in project.teams:
        if (spec := team.spec).name in names:
            chat = "chat" if spec.chat.enabled else "    "
            model = click.style("offline model", fg="yellow") if spec.llm.provider == "offline" else spec.llm.model
            click.echo(f"  {spec.name:<{width}}  {spec.framework:<9}  {chat}  {address}{team_path(spec.name)}  {model}")
    chat_url = address.replace("http", "ws", 1) + team_path(first) + "/chat"
    option = "" if address.endswith(":8000") else f" --url {address}{team_path(first)}"
    click.echo(f"\nA token for {first}, valid for an hour (another: elf token TEAM):\n\n  {token}\n")
    click.echo("Try, in a second terminal:\n")
    click.echo(f"  elf talk {first}{option}")
    click.echo(f"  curl {address}{team_path(first)}/health")
    click.echo(f'  wscat -c "{chat_url}?token=$(elf token {first})"')
    click.echo("\nCtrl-C stops.")
