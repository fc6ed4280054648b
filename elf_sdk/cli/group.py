"""A command that has commands of its own."""

from __future__ import annotations

import difflib
from typing import Final

import click

__all__ = ["Group"]

_WHOLE: Final = 1000
"""More letters than a first sentence has; click cuts at 45 where it is told nothing."""


class Group(click.Group):
    """A click group whose help shows the whole first sentence of each command, and that tells what was meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command, or name the one that is written almost like it."""
        names = self.list_commands(ctx)
        if args and args[0] not in names and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], names, 1)
            remedy = f"did you mean {near[0]!r}?" if near else f"{ctx.command_path} --help lists them"
            raise click.UsageError(f"there is no command {args[0]!r}; {remedy}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands, each with its summary."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, command.get_short_help_str(_WHOLE)) for name, command in sorted(self.commands.items())]
            )
