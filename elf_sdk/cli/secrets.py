"""`elf secrets`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from elf_sdk.cli import options
from elf_sdk.cli.group import Group
from elf_sdk.cli.output import counted, print_json
from elf_sdk.errors import BadInput, ElfError, Failure
from elf_sdk.team.organisation import Environment
from elf_sdk.team.project import Project, find_project

__all__ = ["secrets"]

_environment = click.argument("environment", default="", metavar="[ENV]")


@click.group(cls=Group)
def secrets() -> None:
    """Write skeletons of the Secrets that charts name, and ask a cluster for them. Values are never shown.

    Example: elf secrets check dev
    """


@secrets.command()
@_environment
@click.option("--external", "store", default="", metavar="STORE", help="Write ExternalSecrets of this store instead.")
@click.option(
    "--store-kind",
    type=click.Choice(["ClusterSecretStore", "SecretStore"]),
    default="ClusterSecretStore",
    show_default=True,
    help="The kind of the store.",
)
@options.project
def template(environment: str, store: str, store_kind: str, path: Path) -> None:
    """Print a Secret without values for each that the charts of ENV name, by default of all environments.

    With --external each is an ExternalSecret (external-secrets.io), which the operator of that name fills from a store;
    its remoteRef says where in the store, and is yours to change.

    Example: elf secrets template dev > secrets-dev.yaml
    """
    from elf_sdk.deploy.secrets import needed_secrets, secret_skeletons
    from elf_sdk.deploy.team_chart import TeamCharts

    project = find_project(path)
    charts = TeamCharts(project)
    needed = [
        secret for each in _chosen(project, environment) for secret in needed_secrets(charts, project.select(), each)
    ]
    if not needed:
        click.echo("the charts name no Secret", err=True)
        return
    click.echo(secret_skeletons(needed, store=store, store_kind=store_kind), nl=False)


@secrets.command()
@_environment
@options.context
@options.project
@options.as_json
def check(environment: str, context: str, path: Path, as_json: bool) -> None:
    """Ask the cluster of ENV, by default of every environment, for the Secrets and keys that its charts name.

    Exit code 1 if one is missing or empty, or if a cluster could not be asked. Keys are named, values never.

    Example: elf secrets check dev
    """
    from elf_sdk.deploy.cluster.kubeconfig import read_kubeconfig
    from elf_sdk.deploy.cluster.places import Clusters, places
    from elf_sdk.deploy.secrets import Finding, check_secrets, needed_secrets
    from elf_sdk.deploy.team_chart import TeamCharts

    project = find_project(path)
    if context and not environment:
        raise BadInput("--context is for one environment; name it")
    organisation, charts = project.organisation, TeamCharts(project)
    wanted = places(project.select(), _chosen(project, environment), organisation)
    with Clusters(organisation, read_kubeconfig(), context) as clusters:
        answers = clusters.ask(
            wanted,
            lambda place, api: tuple(check_secrets(needed_secrets(charts, place.teams, place.environment), api)),
        )
    findings: list[Finding] = []
    unasked: list[tuple[str, ElfError]] = []
    for place, answer in answers:
        if isinstance(answer, ElfError):
            unasked.append((place.environment.name, answer))
        else:
            findings += answer
    if as_json:
        print_json(
            {
                "secrets": [_as_json(finding) for finding in findings],
                "problems": [{"environment": name, "problem": str(error)} for name, error in unasked],
            }
        )
    else:
        for finding in findings:
            mark, colour = (
                ("✗", "red") if finding.wrong else ("✓", "green") if finding.state == "present" else ("-", None)
            )
            click.echo(f"{click.style(mark, fg=colour)} {finding.secret.environment:8} {finding}")
        for name, error in unasked:
            click.echo(f"{click.style('?', fg='yellow')} {name:8} {error}")
    wrong = sum(finding.wrong for finding in findings)
    if unasked:
        raise Failure(f"{counted(len(unasked), 'environment')} could not be asked")
    if wrong:
        keys = counted(len(findings), "key")
        raise Failure(f"{wrong} of {keys} missing or empty; elf secrets template writes Secrets without values")


def _chosen(project: Project, environment: str) -> tuple[Environment, ...]:
    organisation = project.organisation
    return (organisation.environment(environment),) if environment else organisation.environments


def _as_json(finding: Any) -> dict[str, Any]:
    return {
        "environment": finding.secret.environment,
        "namespace": finding.secret.namespace,
        "secret": finding.secret.name,
        "key": finding.key or None,
        "state": finding.state,
        "teams": list(finding.teams),
    }
