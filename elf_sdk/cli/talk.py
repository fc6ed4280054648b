"""`elf talk`."""

from __future__ import annotations

import asyncio
import shutil
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import click

from elf_sdk.cli import options
from elf_sdk.cli.output import counted
from elf_sdk.cli.words import check_user
from elf_sdk.errors import Failure
from elf_sdk.server.chat.terminal import WIDTH, Conversation
from elf_sdk.server.local import dev_issuer, local_settings, team_path
from elf_sdk.settings import load_settings
from elf_sdk.team.project import find_project

__all__ = ["talk"]

_Answer = TypeVar("_Answer")

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
_ANSWER: Final = "answer > "


@click.command()
@click.argument("team")
@options.url
@click.option(
    "--token", "token", envvar="ELF_TOKEN", help="A token for the team.  [default: a new one, as `elf token` gives]"
)
@click.option("--user", default="you", show_default=True, help="Who talks, where no token is given.")
@click.option("--say", multiple=True, help="Say this, or answer so, instead of asking; may be given more than once.")
@click.option("--confirm/--reject", default=None, help="Decide every delegation so, instead of asking.")
def talk(team: str, url: str | None, token: str | None, user: str, say: tuple[str, ...], confirm: bool | None) -> None:
    """Talk to TEAM in the terminal. Ctrl-D ends the session.

    Example: elf talk executive-team --say "Plan the launch" --confirm
    """
    if token is None:
        project = find_project(Path.cwd())
        project.select([team])
        check_user(user)
        settings = local_settings(project)
        token = dev_issuer(project, settings).user_token(user, team)
    else:
        settings = load_settings()
    address = url or f"http://{settings.host}:{settings.port}{team_path(team)}"
    messages = iter(say)

    async def next_said(prompt: str) -> str | None:
        if say:
            message = next(messages, None)
            if message is not None:
                click.echo(f"\n{_said(message, prompt)}\n")
            return message
        click.echo()
        return await _asked(lambda: _prompt(prompt, colour))

    async def decide(preview: Mapping[str, Any]) -> bool:
        if confirm is not None:
            answer = confirm
        elif not sys.stdin.isatty():
            answer = False
        else:
            answer = await _asked(lambda: click.confirm("  Let this happen?"))
        click.echo(style(f"  {'confirmed' if answer else 'rejected'} by {user}\n", "good" if answer else "bad"))
        return answer

    def write(text: str) -> None:
        click.echo(text, nl=False)

    colour = sys.stdout.isatty() and click.get_current_context().color is not False
    conversation = Conversation(
        address.replace("http", "ws", 1).rstrip("/") + "/chat",
        token,
        write=write,
        style=style,
        decide=decide,
        answer=lambda: next_said(_ANSWER),
    )
    with _terminal_kept():
        failed = asyncio.run(conversation.run(lambda: next_said(_YOU)))
    if say and failed:
        # Each was shown where it happened; what is left to say is that the command failed.
        raise Failure(f"{team} reported {counted(len(failed), 'error')}, shown above")


def style(text: str, role: str) -> str:
    """`text` in the colours of its role; click drops them where there is no terminal."""
    return click.style(text, **_COLOURS[role])


def _said(message: str, prompt: str) -> str:
    lines = textwrap.wrap(message, min(WIDTH, shutil.get_terminal_size().columns) - len(prompt)) or [""]
    return style(prompt, "you") + f"\n{' ' * len(prompt)}".join(lines)


async def _asked(question: Callable[[], _Answer]) -> _Answer:
    """What `question` returns. It is asked in a thread that keeps nobody from leaving, as asyncio's own would."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[_Answer] = loop.create_future()

    def settle(result: _Answer | None, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(cast("_Answer", result))

    def ask() -> None:
        try:
            outcome: tuple[_Answer | None, BaseException | None] = (question(), None)
        except (Exception, click.Abort) as error:  # noqa: BLE001 - raised again where it is awaited
            outcome = (None, error)
        with suppress(RuntimeError):  # the loop is closed: the person has left
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=ask, name="elf-talk-prompt", daemon=True).start()
    return await answer


@contextmanager
def _terminal_kept() -> Iterator[None]:
    """Leave the terminal as it was, also where a prompt is left without an answer."""
    try:
        import readline  # noqa: F401 - gives input() arrow keys and a history
        import termios
    except ImportError:
        yield
        return
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _prompt(prompt: str, colour: bool) -> str | None:
    if colour:
        # Between \x01 and \x02 stands what takes no room on the line.
        start, end = style("|", "you").split("|")
        prompt = f"\x01{start}\x02{prompt}\x01{end}\x02"
    while True:
        try:
            message = input(prompt).strip()
        except EOFError:
            click.echo()
            return None
        if message:
            click.echo()
            return message
