"""`elf org`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from elf_sdk.cli import options
from elf_sdk.cli.check import report
from elf_sdk.cli.group import Group
from elf_sdk.cli.output import counted, print_json, print_warning
from elf_sdk.team.callers import Access, call_matrix, environment_named, who_may_call
from elf_sdk.team.org import Org
from elf_sdk.team.project import find_project, survey

__all__ = ["org"]

_RELATION: Final = re.compile(r"^(name|reports_to|manages|peers)\b|\.manages\[|\.target$")


@click.group(cls=Group)
def org() -> None:
    """Show the organisation: who reports to whom, and who may call whom.

    Example: elf org tree
    """


@org.command()
@options.path
@options.as_json
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
@options.path
@options.as_json
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


@org.command("who-may-call")
@options.teams
@click.option("--env", "environment", help="The environment.  [default: the first one in elf.yaml]")
@click.option("--matrix", is_flag=True, help="Show every pair of teams, allowed or refused.")
@options.as_json
def who_may_call_command(teams: tuple[str, ...], environment: str | None, matrix: bool, as_json: bool) -> None:
    """Show who may call each TEAM, by default all, and what lets it in.

    The callee's policy lets in the caller's pods, its server takes the caller's token for this audience, and the caller
    finds it at this address. Everybody else is refused by each of them.

    Example: elf org who-may-call brand-team --env prod
    """
    project = find_project(Path.cwd())
    place = environment_named(project.organisation, environment)
    if matrix:
        pairs = call_matrix(project, place)
        if as_json:
            print_json({"environment": place.name, "allowed": pairs})
        else:
            for line in _matrix(pairs):
                click.echo(line)
        return
    found = who_may_call(project, place, teams)
    if as_json:
        print_json({"environment": place.name, "teams": [_access(each) for each in found]})
        return
    for each in found:
        click.echo(f"{click.style(each.team, bold=True)} in {place.name}")
        click.echo(click.style(f"  address   {each.url}\n  audience  {each.audience}", dim=True))
        for line in _who(each):
            click.echo(f"  {line}")
        for absent in each.absent:
            print_warning(f"{each.team} in {place.name}: {absent.team} {absent.reason}, so neither can call the other")


def _who(found: Access) -> Iterator[str]:
    """The lines for those who may call."""
    above = {"manages": "manages it", "peers": "peer"}
    rows = [(each.team, above[each.relation], f"app={each.team}", each.namespace) for each in found.callers]
    for what, pods in found.clients:
        labels = ",".join(f"{key}={value}" for key, value in sorted(pods.labels.items())) or "all"
        rows.append((what, "brings people", labels, pods.namespace))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for who, why, labels, namespace in rows:
        yield f"{who:<{widths[0]}}  {why:<{widths[1]}}  pods {labels:<{widths[2]}}  in {namespace}"


def _access(found: Access) -> dict[str, Any]:
    clients = [{"what": what, "namespace": pods.namespace, "labels": pods.labels} for what, pods in found.clients]
    return {
        **asdict(found),
        "callers": [{**asdict(each), "labels": {"app": each.team}} for each in found.callers],
        "clients": clients,
    }


def _matrix(pairs: Mapping[str, Mapping[str, bool]]) -> Iterator[str]:
    """Callers line by line, callees by the numbers of their lines."""
    digits, longest = len(str(len(pairs))), max(map(len, pairs))
    heads = " ".join(f"{number:>{digits}}" for number in range(1, len(pairs) + 1))
    yield click.style(f"{'':>{digits}} {'may call':<{longest}}  {heads}", dim=True)
    for number, (caller, allowed) in enumerate(pairs.items(), start=1):
        marks = (" " if callee == caller else "✓" if allowed[callee] else "·" for callee in pairs)
        yield f"{number:>{digits}} {caller:<{longest}}  {' '.join(f'{mark:>{digits}}' for mark in marks)}"


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
