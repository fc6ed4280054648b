"""`elf schema`."""

from __future__ import annotations

import json

import click

from elf_sdk.team.schema import organisation_schema, team_schema

__all__ = ["schema"]


@click.command()
@click.argument("kind", type=click.Choice(["team", "organisation"]), default="team")
@click.option("--json", "as_json", is_flag=True, help="On one line, for machines.")
def schema(kind: str, as_json: bool) -> None:
    """Print the JSON Schema of team.yaml or elf.yaml.

    Example: elf schema team > team.schema.json
    """
    body = team_schema() if kind == "team" else organisation_schema()
    click.echo(json.dumps(body, ensure_ascii=False, indent=None if as_json else 2))
