"""What several commands print in the same way."""

from __future__ import annotations

import json

import click

__all__ = ["counted", "print_json", "print_warning"]


def counted(number: int, noun: str) -> str:
    """`1 team`, `2 teams`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def print_json(data: object) -> None:
    """Print `data` for machines, and readable for people."""
    click.echo(json.dumps(data, ensure_ascii=False, indent=2))


def print_warning(text: object) -> None:
    """Print a warning to the standard error stream."""
    click.echo(f"{click.style('warning:', fg='yellow')} {text}", err=True)
