"""`elf schema`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import click

from elf_sdk.evals.recorded import conversation_schema
from elf_sdk.team.schema import organisation_schema, team_schema

__all__ = ["schema"]

_SCHEMAS: Final[Mapping[str, Callable[[], dict[str, Any]]]] = {
    "team": team_schema,
    "organisation": organisation_schema,
    "eval": conversation_schema,
}


@click.command()
@click.argument("kind", type=click.Choice([*_SCHEMAS]), default="team")
@click.option("--json", "as_json", is_flag=True, help="On one line, for machines.")
def schema(kind: str, as_json: bool) -> None:
    """Print the JSON Schema of team.yaml, elf.yaml or an eval.

    Example: elf schema team > team.schema.json
    """
    body = _SCHEMAS[kind]()
    click.echo(json.dumps(body, ensure_ascii=False, indent=None if as_json else 2))
