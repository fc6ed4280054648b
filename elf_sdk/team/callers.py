"""Who may call whom in one environment, and by what that is enforced: the organisation's edges, by the callee."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from elf_sdk.settings import audience
from elf_sdk.team.clashes import MAIN_PORT
from elf_sdk.team.edges import Absent, Caller, compile_edges
from elf_sdk.team.organisation import Environment, Organisation, Pods
from elf_sdk.team.project import Project

__all__ = ["Access", "call_matrix", "environment_named", "who_may_call"]


@dataclass(frozen=True, slots=True)
class Access:
    """A team, and who may call it.

    Attributes:
        team: its name.
        namespace: in which it runs.
        url: where it answers inside the cluster.
        audience: which a token for it names.
        callers: teams, sorted; the callee's policy lets in the pods with the label `app` of each.
        clients: pods that are no team, by what they are; they bring people's tokens.
        absent: relationships that lead nowhere in this environment.
    """

    team: str
    namespace: str
    url: str
    audience: str
    callers: tuple[Caller, ...]
    clients: tuple[tuple[str, Pods], ...]
    absent: tuple[Absent, ...]


def environment_named(organisation: Organisation, name: str | None) -> Environment:
    """The environment of that name; without a name the first one.

    Raises:
        BadInput: there is none; the message lists those that there are.
    """
    return organisation.environments[0] if name is None else organisation.environment(name)


def who_may_call(project: Project, environment: Environment, names: Iterable[str] = ()) -> tuple[Access, ...]:
    """Of each team, who may call it in `environment`.

    Args:
        project: the organisation and its teams.
        environment: one of the organisation's.
        names: of teams; none means those of the project's path.

    Raises:
        BadInput: there is no such team.
    """
    org, organisation = project.org, project.organisation
    found: list[Access] = []
    for team in project.select(names):
        name, namespace = team.spec.name, team.spec.namespace_in(environment)
        edges = compile_edges(org, organisation, environment, name)
        found.append(
            Access(
                name,
                namespace,
                f"http://{name}.{namespace}.svc:{MAIN_PORT}",
                audience(organisation.name, environment.name, name),
                edges.callers,
                organisation.clients,
                edges.absent,
            )
        )
    return tuple(found)


def call_matrix(project: Project, environment: Environment) -> Mapping[str, Mapping[str, bool]]:
    """Of each caller and each callee, whether the call is allowed in `environment`; a team itself is left out."""
    names = sorted(project.org.teams)
    callees = {
        name: {each.team for each in compile_edges(project.org, project.organisation, environment, name).callees}
        for name in names
    }
    return {caller: {callee: callee in callees[caller] for callee in names if callee != caller} for caller in names}
