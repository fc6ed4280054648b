"""`elf org`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from elf_sdk.cli.check import report
from elf_sdk.cli.output import counted, print_json, print_warning
from elf_sdk.team.org import Org
from elf_sdk.team.project import find_project, survey

__all__ = ["org"]

_RELATION: Final = re.compile(r"^(name|reports_to|manages|peers)\b|\.manages\[|\.target$")

_path = click.argument("path", type=click.Path(path_type=Path), default=Path())
_as_json = click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")


@click.group()
def org() -> None:
    """Show the organisation: who reports to whom.

    Example: elf org tree
    """


@org.command()
@_path
@_as_json
def tree(path: Path, as_json: bool) -> None:
    """Draw the teams below those that they report to.

    Only relationships that both teams name are drawn.

    Example: elf org tree
    """
    project = find_project(path)
    if as_json:
        body = {
            "organisation": project.organisation.name,
            "teams": [_branch(project.org, n) for n in project.org.roots],
        }
        print_json(body)
        return
    click.echo(click.style(project.organisation.title, bold=True))
    for line in _draw(project.org, project.org.roots, ""):
        click.echo(line)
    for warning in project.warnings:
        print_warning(warning)


@org.command()
@_path
@_as_json
def check(path: Path, as_json: bool) -> None:
    """Check the relationships between teams: the part of `elf check` about them.

    Example: elf org check
    """
    found = survey(path)
    # A file that cannot be read leaves holes in the organisation, so its errors belong here too.
    readable = {team.file for team in found.project.teams}
    problems = [p for p in found.problems if p.file not in readable or _RELATION.search(p.field)]
    edges = counted(len(found.project.org.edges()), "relationship")
    teams = counted(len(found.project.teams), "team")
    report(problems, as_json, f"{teams} and {edges}, and both sides name each")


def _branch(org: Org, name: str) -> dict[str, Any]:
    spec = org.teams[name]
    return {
        "name": name,
        "display_name": spec.title,
        "placement": spec.placement,
        "framework": spec.framework,
        "top_level": spec.chat.top_level,
        "peers": list(org.peers(name)),
        "manages": [_branch(org, child) for child in org.children(name)],
    }


def _draw(org: Org, names: tuple[str, ...], indent: str) -> Iterator[str]:
    for name in names:
        last = name == names[-1]
        spec = org.teams[name]
        peers = f", peers: {', '.join(org.peers(name))}" if org.peers(name) else ""
        marks = click.style(f"  {spec.framework}{', top level' if spec.chat.top_level else ''}{peers}", dim=True)
        yield f"{indent}{'└── ' if last else '├── '}{name}{marks}"
        yield from _draw(org, org.children(name), indent + ("    " if last else "│   "))
