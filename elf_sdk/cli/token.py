"""`elf token`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from elf_sdk.cli import options
from elf_sdk.cli.words import check_user
from elf_sdk.server.local import dev_issuer, local_settings
from elf_sdk.team.project import find_project

__all__ = ["token"]


@click.command()
@click.argument("team")
@click.option("--user", default="you", show_default=True, help="Who will talk to the team.")
@click.option(
    "--role", "roles", multiple=True, default=("user",), show_default=True, help="May be given more than once."
)
@click.option("--minutes", default=60, show_default=True, type=click.IntRange(1, 60 * 24), help="How long it is valid.")
@options.as_json
def token(team: str, user: str, roles: tuple[str, ...], minutes: int, as_json: bool) -> None:
    """Print a token with which a person may talk to TEAM, served by `elf dev` from this project.

    Example: elf token executive-team --user ada
    """
    project = find_project(Path.cwd())
    project.select([team])
    check_user(user)
    signed = dev_issuer(project, local_settings(project)).user_token(user, team, roles, lifetime=minutes * 60)
    click.echo(json.dumps({"token": signed, "expires_in": minutes * 60}) if as_json else signed)
