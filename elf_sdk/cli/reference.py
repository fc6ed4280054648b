"""The page of all commands, from their own help. `docs/reference/commands.md` is what this returns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import click

from elf_sdk.cli import elf

__all__ = ["commands_markdown"]

_WIDTH: Final = 100
_INTRODUCTION: Final = (
    "Every command takes `--help`. Exit codes: 0, 1 when it failed, 2 when what was typed or written cannot be\n"
    "used. An error is one sentence; `elf --debug …` shows the traceback."
)


def commands_markdown() -> str:
    """Every command with its help as it is printed, as Markdown."""
    parts = ["# Commands", _INTRODUCTION]
    for path, command in _walk("elf", elf):
        context = click.Context(command, info_name=path, max_content_width=_WIDTH, terminal_width=_WIDTH)
        parts.append(f"## {path}\n\n```text\n{command.get_help(context)}\n```")
    return "\n\n".join(parts) + "\n"


def _walk(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                yield from _walk(f"{path} {name}", child)
