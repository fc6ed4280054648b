"""Reading one `team.yaml` or `elf.yaml`, with everything that is wrong in it at once."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from elf_sdk.cache import Cache
from elf_sdk.errors import BadSpec, Problem
from elf_sdk.team.base import FIELDS_ONLY, FileModel, Location
from elf_sdk.team.document import Document, read
from elf_sdk.team.explain import MOST, explain
from elf_sdk.team.organisation import Organisation
from elf_sdk.team.spec import TeamSpec

__all__ = ["ORGANISATION_FILE", "TEAM_FILE", "in_order", "load_team", "read_model", "read_organisation"]

TEAM_FILE: Final = "team.yaml"
ORGANISATION_FILE: Final = "elf.yaml"

_Model = TypeVar("_Model", bound=FileModel)


def load_team(path: Path) -> TeamSpec:
    """The team in the file `path`, or in the team.yaml of the directory `path`.

    Reads this one file only: that the directory has the team's name, and which environments there are, is the
    project's matter, and a container holds no project.

    Raises:
        BadSpec: with everything that is wrong in the file.
    """
    file = path / TEAM_FILE if path.is_dir() else path
    _, spec, problems = read_model(file, str(file), TeamSpec)
    if spec is None or problems:
        raise BadSpec(in_order(problems))
    return spec


def read_organisation(path: Path, file: str) -> tuple[Organisation | None, list[Problem]]:
    """The organisation in the file `path`, called `file` in messages; its defaults where there is none.

    Returns:
        None where a field of it is wrong, and everything that is wrong.
    """
    if not os.path.lexists(path):
        return Organisation(), []
    _, organisation, problems = read_model(path, file, Organisation)
    return organisation, in_order(problems)


def read_model(
    path: Path, file: str, model: type[_Model], known: Cache | None = None
) -> tuple[Document | None, _Model | None, list[Problem]]:
    """The document in the file `path`, called `file` in messages; its value if every field is right; what is wrong."""
    try:
        document = read(path, file, known)
    except BadSpec as error:
        return None, None, list(error.problems)
    problems = list(document.problems)
    try:
        value = model.model_validate(document.data, context=FIELDS_ONLY, by_alias=True, by_name=False)
    except ValidationError as error:
        found = explain(error, model, document)
        problems += [document.problem(*each) for each in found]
        rest = _without(model, document.data, [where for where, _ in found])
        if rest is not None:
            broken = [where for where, _ in found]
            problems += [
                document.problem(*each)
                for each in rest.problems()
                if not any(_overlap(each[0], where) for where in broken)
            ]
        return document, None, problems
    problems += [document.problem(*each) for each in value.problems()]
    return document, value, problems


def _overlap(one: Location, other: Location) -> bool:
    length = min(len(one), len(other))
    return one[:length] == other[:length]


def _without(model: type[_Model], data: Mapping[str, Any], broken: Sequence[Location]) -> _Model | None:
    """What is left of `data` without its `broken` fields, so that the rest can be checked in the same go."""
    finely: dict[str, Any] = copy.deepcopy(dict(data))
    for where in broken:
        _remove(finely, where)
    coarsely: dict[str, Any] = copy.deepcopy(dict(data))
    for where in broken:
        _remove(coarsely, where[: 2 if where[:1] == ("environments",) else 1])
    if model is TeamSpec:
        # A stand-in for what has to be there; what is found about it overlaps with what is known to be broken.
        coarsely.setdefault("name", "unnamed")
        coarsely.setdefault("members", [{"role": "unnamed", "is_manager": True}])
    for rest in (finely, coarsely):
        with suppress(ValidationError):
            return model.model_validate(rest, context=FIELDS_ONLY, by_alias=True, by_name=False)
    return None


def _remove(data: Any, where: Location) -> None:
    """Take one field away; an item of a list stays, so that the others keep their places."""
    for part in where[:-1]:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return
    if isinstance(data, dict):
        data.pop(where[-1] if where else None, None)


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Sorted by line, only the first problem of a field, and no more than somebody reads."""
    first: dict[tuple[int, str], Problem] = {}
    for problem in problems:
        first.setdefault((problem.line, problem.field), problem)
    ordered = sorted(first.values(), key=lambda problem: problem.line)
    if len(ordered) > MOST:
        rest = Problem(ordered[0].file, 0, "", f"there are more than {MOST} problems; mend these first")
        ordered = [*ordered[:MOST], rest]
    return ordered
