"""The command line: one thin module a command, and the one place where errors become exit codes.

A command's module is imported only when that command runs, so `elf --help` costs no more than click.
Exit codes: 0, 1 (it failed), 2 (what was typed or written cannot be used).
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from dataclasses import dataclass
from typing import Final

import click

from elf_sdk import __version__
from elf_sdk.cli.group import Group
from elf_sdk.errors import BadInput, ElfError

__all__ = ["EXIT_FAILURE", "EXIT_USAGE", "elf", "main"]

EXIT_FAILURE: Final = 1
EXIT_USAGE: Final = 2


@dataclass(frozen=True, slots=True)
class _Command:
    module: str
    summary: str


_COMMANDS: Final = {
    "ask": _Command("ask", "Ask a team one thing by A2A, and print the answer."),
    "check": _Command("check", "Check team.yaml and elf.yaml files, and the organisation they form."),
    "ci": _Command("ci", "Write the pipeline of the repository that the teams are in."),
    "db": _Command("db", "Look after the PostgreSQL database of a team."),
    "deploy": _Command("deploy", "Install teams straight into a cluster, for people without Argo CD."),
    "dev": _Command("dev", "Serve teams on this machine, with a token and a command to try."),
    "eval": _Command("eval", "Have a team's recorded conversations, and check what it answers."),
    "gitops": _Command("gitops", "Write, commit and push the repository that Argo CD watches."),
    "image": _Command("image", "Build, push and load the container images of teams."),
    "logs": _Command("logs", "Show what all replicas of a team write."),
    "model": _Command("model", "Run the offline model, an OpenAI-compatible server for demos and tests."),
    "org": _Command("org", "Show the organisation: who reports to whom."),
    "package": _Command("package", "Write a Helm chart for each team, proven for every environment."),
    "promote": _Command("promote", "Bring teams from one environment to the next: the same chart, the same image."),
    "remove": _Command("remove", "Take a team out of an environment."),
    "schema": _Command("schema", "Print the JSON Schema of team.yaml, elf.yaml or an eval."),
    "secrets": _Command("secrets", "Write skeletons of the Secrets that charts name, and look for them in a cluster."),
    "serve": _Command("serve", "Serve one team, as its container does."),
    "status": _Command("status", "Show what runs: sync, health, replicas, version and digest."),
    "talk": _Command("talk", "Talk to a team in the terminal."),
    "token": _Command("token", "Print a token for a team served by `elf dev`."),
    "upgrade": _Command("upgrade", "Bring the charts of an environment to the library of this elf."),
}


class _Elf(Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module = importlib.import_module(f"elf_sdk.cli.{entry.module}")
        command = getattr(module, entry.module)
        assert isinstance(command, click.Command)  # noqa: S101 - a slip in the table above, not a user's error
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # The summaries stand in the table, so that listing them imports no command.
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in sorted(_COMMANDS.items())])


@click.group(cls=_Elf, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="elf")
@click.option("--debug", is_flag=True, help="Show the traceback when something goes wrong.")
def elf(debug: bool) -> None:
    """ELF turns a team of AI agents into a service.

    Example: elf dev, then elf talk executive-team
    """


def main() -> None:
    """Run the command line and exit. Errors that ELF raises on purpose print their message alone."""
    if os.getpid() == 1:
        # The kernel spares a container's first process a signal that it has no handler for. Until the server has one, a
        # pod that is told to go would stay for the whole of its grace period; this does what the kernel does to others.
        signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
    try:
        _main()
    except SystemExit as done:
        if threading.active_count() > 1:
            # Python waits for some of them, also for daemons that belong to an executor.
            from elf_sdk.server.stragglers import end_without_threads

            end_without_threads(done.code if isinstance(done.code, int) else 0)
        raise


def _main() -> None:
    debug = "--debug" in sys.argv[1:2]
    color = False if os.environ.get("NO_COLOR") else None  # no-color.org; otherwise click asks the terminal
    try:
        # Outside of its standalone mode click returns the code that a command left with.
        code = elf.main(prog_name="elf", standalone_mode=False, color=color)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.Abort:
        click.echo("stopped", err=True, color=color)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_USAGE)
    except ElfError as error:
        if debug:
            raise
        click.echo(f"{click.style('error:', fg='red', bold=True)} {error}", err=True, color=color)
        sys.exit(EXIT_USAGE if isinstance(error, BadInput) else EXIT_FAILURE)
    except Exception as error:
        if debug:
            raise
        click.echo(
            f"{click.style('error:', fg='red', bold=True)} unexpected {type(error).__name__}: {error}; "
            "run `elf --debug …` again for the traceback, and report it",
            err=True,
            color=color,
        )
        sys.exit(EXIT_FAILURE)
    sys.exit(code if isinstance(code, int) else 0)
