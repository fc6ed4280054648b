"""`elf ask`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from elf_sdk.cli import options
from elf_sdk.errors import BadInput
from elf_sdk.settings import Settings, load_settings, variable

__all__ = ["ask"]


@click.command()
@click.argument("team")
@click.argument("text")
@options.url
@click.option("--token", help="A token for the team.  [default: ELF_TOKEN, or a new one that JWT_SECRET_KEY signs]")
@click.option(
    "--within", type=click.IntRange(1, 86_400), default=300, show_default=True, help="Seconds for the answer."
)
def ask(team: str, text: str, url: str | None, token: str | None, within: int) -> None:
    """Ask TEAM one thing by A2A, as other programs do, and print the answer.

    The exit code is 0 when the team answers, or asks something before it goes on. ELF_TOKEN_FILE names a file with the
    token. This is how `helm test` asks a team that was just installed.

    Example: elf ask marketing-team "Who are you?" --url http://marketing-team.elf-teams.svc:8000
    """
    from elf_sdk.server.a2a.asking import ask as asked
    from elf_sdk.server.local import team_path

    settings = load_settings()
    token = token or variable("ELF_TOKEN") or _signed(team, settings)
    address = url or f"http://{settings.host}:{settings.port}{team_path(team)}"

    def write(piece: str) -> None:
        click.echo(piece, nl=False)

    answered = asyncio.run(asked(address, token, text, team=team, within=within, write=write))
    click.echo("" if answered else f"\n({team} waits for an answer to this)")


def _signed(team: str, settings: Settings) -> str:
    """A token of a person's, signed with the secret that the team has: the environment's, or that of `elf dev`."""
    from elf_sdk.server.auth import Issuer
    from elf_sdk.server.local import dev_issuer, local_settings
    from elf_sdk.team.project import find_project

    if settings.jwt_secret:
        issuer = Issuer(settings.jwt_secret, settings.organisation, settings.environment)
    elif settings.environment == "dev":
        project = find_project(Path.cwd())
        project.select([team])
        issuer = dev_issuer(project, local_settings(project))
    else:
        raise BadInput(f"there is no token for {team}; set ELF_TOKEN, ELF_TOKEN_FILE or JWT_SECRET_KEY")
    return issuer.user_token("elf-ask", team)
