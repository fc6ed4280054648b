"""What a team's relationships compile to in one environment: who may call it, and whom it may call where.

One value for every layer: from it the chart's network policy, projected tokens and addresses are written, and the
server reads the same value back for its allow-list. Only whole edges count, between teams that are both there.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, cast

from elf_sdk.errors import BadInput
from elf_sdk.settings import audience
from elf_sdk.team.clashes import MAIN_PORT
from elf_sdk.team.org import Org
from elf_sdk.team.organisation import Environment, Organisation

__all__ = ["Absent", "Callee", "Caller", "Edges", "Relation", "compile_edges", "read_edges"]

Relation: TypeAlias = Literal["manages", "peers"]
"""`manages`: the caller is the team above. `peers`: both work side by side."""

_LARGEST: Final = 8 * 1024 * 1024
"""Bytes of a file; a ConfigMap has at most one million."""


@dataclass(frozen=True, slots=True, order=True)
class Caller:
    """A team that may call.

    Attributes:
        team: its name, which is that of its service account and the label `app` of its pods.
        namespace: in which it runs.
        relation: why it may.
    """

    team: str
    namespace: str
    relation: Relation


@dataclass(frozen=True, slots=True, order=True)
class Callee:
    """A team that may be called.

    Attributes:
        team: its name.
        namespace: in which it runs.
        relation: why it may be called.
        url: where it answers inside the cluster, without a slash at the end.
        audience: which the token for it names.
        title: of a team below, for the models that hand work to it.
        purpose: the same.
    """

    team: str
    namespace: str
    relation: Relation
    url: str
    audience: str
    title: str
    purpose: str


@dataclass(frozen=True, slots=True, order=True)
class Absent:
    """A relationship that both sides name, and that leads nowhere in this environment.

    Attributes:
        team: the other side.
        reason: why, as the end of a sentence that begins with the team.
    """

    team: str
    reason: str


@dataclass(frozen=True, slots=True)
class Edges:
    """The relationships of one team in one environment, sorted by name.

    Attributes:
        team: whose they are.
        callers: who may call it.
        callees: whom it may call.
        absent: what does not compile; never written anywhere.
    """

    team: str
    callers: tuple[Caller, ...] = ()
    callees: tuple[Callee, ...] = ()
    absent: tuple[Absent, ...] = ()


def compile_edges(
    org: Org, organisation: Organisation, environment: Environment, team: str, present: Collection[str] | None = None
) -> Edges:
    """The edges of `team` in `environment`.

    Args:
        org: the teams.
        organisation: to which they belong.
        environment: one of the organisation's.
        team: whose edges.
        present: the teams that are in the environment; by default all of them.
    """
    cluster = org.teams[team].cluster_in(environment)
    absent: set[Absent] = set()

    def is_there(other: str) -> bool:
        elsewhere = org.teams[other].cluster_in(environment)
        if present is not None and other not in present:
            absent.add(Absent(other, f"is not in {environment.name}"))
        elif elsewhere != cluster:
            absent.add(Absent(other, f"runs in the cluster {elsewhere!r}, and {team} in {cluster!r}"))
        else:
            return True
        return False

    children = set(org.children(team))
    callers = tuple(
        Caller(name, org.teams[name].namespace_in(environment), _relation(upper=name == org.parent(team)))
        for name in org.callers(team)
        if is_there(name)
    )
    callees = tuple(
        Callee(
            name,
            namespace := org.teams[name].namespace_in(environment),
            _relation(upper=name in children),
            f"http://{name}.{namespace}.svc:{MAIN_PORT}",
            audience(organisation.name, environment.name, name),
            *((org.teams[name].title, org.teams[name].purpose) if name in children else ("", "")),
        )
        for name in org.callees(team)
        if is_there(name)
    )
    return Edges(team, callers, callees, tuple(sorted(absent)))


def _relation(*, upper: bool) -> Relation:
    return "manages" if upper else "peers"


def read_edges(path: Path) -> Edges:
    """The edges in a file, as a chart mounts it: an object with `team`, `callers` and `callees`.

    Fields that are not known are skipped, because a chart may be newer than the image that it runs.

    Raises:
        BadInput: it cannot be read, or is something else.
    """
    try:
        with path.open("rb") as file:
            data = json.loads(file.read(_LARGEST))
    except OSError as error:
        raise BadInput(f"ELF_EDGES_FILE names {str(path)!r}, which cannot be read: {error.strerror}") from None
    except ValueError:
        raise BadInput(f"{path} is no JSON; it is written by the team's chart, so install the chart again") from None
    try:
        callers = [
            Caller(_text(each, "team"), _text(each, "namespace"), _relation_of(each)) for each in data["callers"]
        ]
        callees = [
            Callee(
                _text(each, "team"),
                _text(each, "namespace"),
                _relation_of(each),
                _text(each, "url"),
                _text(each, "audience"),
                _text(each, "title"),
                _text(each, "purpose"),
            )
            for each in data["callees"]
        ]
        return Edges(_text(data, "team"), tuple(sorted(callers)), tuple(sorted(callees)))
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"{path} does not hold the relationships of a team ({error}); it is written by the team's chart, so "
            "install the chart again"
        ) from None


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is no text")
    return value


def _relation_of(data: Mapping[str, Any]) -> Relation:
    # One that is not known yet still is one; only that a team is above or below means something here.
    return cast("Relation", _text(data, "relation"))
