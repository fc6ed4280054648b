"""`elf talk`."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from elf_sdk.cli.output import counted
from elf_sdk.errors import BadInput, Failure
from elf_sdk.server.auth import is_name
from elf_sdk.server.chat.terminal import WIDTH, Conversation
from elf_sdk.server.dev import dev_issuer, team_path
from elf_sdk.settings import load_settings
from elf_sdk.team.project import find_project

__all__ = ["talk"]

_COLOURS: Final[Mapping[str, Mapping[str, Any]]] = {
    "title": {"bold": True},
    "you": {"fg": "cyan", "bold": True},
    "team": {},
    "quiet": {"dim": True},
    "good": {"fg": "green"},
    "bad": {"fg": "red"},
    "box": {"fg": "magenta"},
}

_YOU: Final = "you > "


@click.command()
@click.argument("team")
@click.option("--url", help="Address of the team.  [default: the one of `elf dev`]")
@click.option(
    "--token", "token", envvar="ELF_TOKEN", help="A token for the team.  [default: a new one, as `elf token` gives]"
)
@click.option("--user", default="you", show_default=True, help="Who talks, where no token is given.")
@click.option("--say", multiple=True, help="Say this instead of asking; may be given more than once.")
@click.option("--confirm/--reject", default=None, help="Decide every delegation so, instead of asking.")
def talk(team: str, url: str | None, token: str | None, user: str, say: tuple[str, ...], confirm: bool | None) -> None:
    """Talk to TEAM in the terminal. Ctrl-D ends the session.

    Example: elf talk executive-team --say "Plan the launch" --confirm
    """
    settings = load_settings()
    address = url or f"http://{settings.host}:{settings.port}{team_path(team)}"
    if token is None:
        project = find_project(Path.cwd())
        project.select([team])
        if not is_name(user):
            raise BadInput(f"--user {user!r} is no name; write 1 to 255 characters that can be printed")
        token = dev_issuer(project, settings).user_token(user, team)
    messages = iter(say)

    async def next_message() -> str | None:
        if say:
            message = next(messages, None)
            if message is not None:
                click.echo(f"\n{_said(message)}\n")
            return message
        click.echo()
        return await asyncio.to_thread(_prompt)

    async def decide(preview: Mapping[str, Any]) -> bool:
        if confirm is not None:
            answer = confirm
        elif not sys.stdin.isatty():
            answer = False
        else:
            answer = await asyncio.to_thread(click.confirm, "  Let this happen?")
        click.echo(style(f"  {'confirmed' if answer else 'rejected'} by {user}\n", "good" if answer else "bad"))
        return answer

    def write(text: str) -> None:
        click.echo(text, nl=False)

    conversation = Conversation(
        address.replace("http", "ws", 1).rstrip("/") + "/chat", token, write=write, style=style, decide=decide
    )
    failed = asyncio.run(conversation.run(next_message))
    if say and failed:
        last = json.dumps(failed[-1], ensure_ascii=False)
        raise Failure(f"the conversation had {counted(len(failed), 'error')}; the last: {last}")


def style(text: str, role: str) -> str:
    """`text` in the colours of its role; click drops them where there is no terminal."""
    return click.style(text, **_COLOURS[role])


def _said(message: str) -> str:
    lines = textwrap.wrap(message, min(WIDTH, shutil.get_terminal_size().columns) - len(_YOU)) or [""]
    return style(_YOU, "you") + f"\n{' ' * len(_YOU)}".join(lines)


def _prompt() -> str | None:
    while True:
        try:
            message = input(style(_YOU, "you")).strip()
        except EOFError:
            return None
        if message:
            click.echo()
            return message
