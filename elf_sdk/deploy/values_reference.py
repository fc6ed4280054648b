"""The page docs/reference/chart-values.md: every value of a team's chart, and what it is by default."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from elf_sdk.deploy.values import team_values
from elf_sdk.deploy.values_model import describe_values
from elf_sdk.team.edges import Edges
from elf_sdk.team.organisation import Organisation
from elf_sdk.team.spec import TeamSpec
from elf_sdk.team.work import Member

__all__ = ["values_markdown"]

_TEAM: Final = "brand-team"


def values_markdown() -> str:
    """The page; the defaults are those of a team that says nothing but its name and its manager."""
    team = TeamSpec(name=_TEAM, members=(Member(role="Lead", is_manager=True),))
    organisation = Organisation()
    every = [
        team_values(team, organisation, environment, Edges(team.name)) for environment in organisation.environments
    ]
    return "\n".join(_page([environment.name for environment in organisation.environments], every))


def _page(names: Sequence[str], every: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "# Values of a chart"
    yield ""
    yield "Generated from the models by `elf_sdk.deploy.values_reference.values_markdown`; a test says when it is not"
    yield "what they say."
    yield ""
    yield "`elf package` writes every value from `team.yaml` and `elf.yaml`, so there is seldom one to set by hand."
    yield "Where there is, put it into a values file that comes after the environment's. Unknown keys are refused, and"
    yield "a list is replaced whole. The defaults are those of a team that says nothing but its name and manager; where"
    yield f"environments differ, they stand in the order {', '.join(names)}."
    yield ""
    yield "| value | type | default | meaning |"
    yield "|---|---|---|---|"
    described = list(describe_values())
    groups = {path.rpartition(".")[0] for path, _, _ in described}
    for path, kind, meaning in described:
        found = [None if path in groups else _at(values, path.split(".")) for values in every]
        yield f"| `{path}` | {_cell(kind)} | {_default(found)} | {_cell(meaning)} |"
    yield ""


def _at(values: Any, path: Sequence[str]) -> Any:
    """What is at `path`; None in a list, whose items have no default."""
    for part in path:
        if part.endswith("[]"):
            return None
        values = values[part]
    return values


def _default(found: Sequence[Any]) -> str:
    texts = ["" if value is None or value == "" else f"`{_written(value)}`" for value in found]
    return texts[0] if len(set(texts)) == 1 else ", ".join(texts)


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
