"""What several commands print in the same way."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from elf_sdk.deploy.gitops.repository import Repository

__all__ = [
    "counted",
    "harmless",
    "nearest",
    "print_commit",
    "print_done",
    "print_json",
    "print_lines",
    "print_warning",
]

_LINES: Final = 40
"""Of a list that a person reads; --json has all."""


def counted(number: int, noun: str) -> str:
    """`1 team`, `2 teams`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def harmless(text: str) -> str:
    """Text that somebody's process wrote, without what steers a terminal."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def nearest(path: Path) -> str:
    """`path` as a person would type it here: relative where it is below this directory."""
    near = os.path.relpath(path)
    return str(path) if near.startswith("..") else near


def print_commit(repository: Repository, commit: str, where: str = "") -> None:
    """Say that a commit was made, with its title; `where` follows its name, such as ` on main`."""
    title = repository.git("show", "-s", "--format=%s", commit).strip()
    print_done(f"{commit[:10]}{where}: {title}")


def print_done(text: str) -> None:
    """Print that something went well."""
    click.echo(f"{click.style('✓', fg='green')} {text}")


def print_json(data: object) -> None:
    """Print `data` for machines, and readable for people."""
    click.echo(json.dumps(data, ensure_ascii=False, indent=2))


def print_lines(lines: Sequence[str]) -> None:
    """Print the first lines of a list, and how many more there are."""
    for line in lines[:_LINES]:
        click.echo(line)
    if len(lines) > _LINES:
        click.echo(f"… and {len(lines) - _LINES} more")


def print_warning(text: object) -> None:
    """Print a warning to the standard error stream."""
    click.echo(f"{click.style('warning:', fg='yellow')} {text}", err=True)
