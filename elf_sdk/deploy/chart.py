"""One team's chart as a tree of bytes.

No template engine ever sees what people wrote: the chart's own templates are copied as they are, and everything
else is encoded data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final

import yaml

from elf_sdk.deploy.archive import archive
from elf_sdk.deploy.encode import inline_markdown, to_json, to_yaml
from elf_sdk.deploy.values import layered
from elf_sdk.deploy.values_model import describe_values, values_schema
from elf_sdk.errors import Missing
from elf_sdk.team.spec import TeamSpec

__all__ = ["LIBRARY", "Templates", "chart_tree", "load_templates", "templates_directory"]

LIBRARY: Final = "elf-team"
"""The chart that holds all templates."""

_GENERATED: Final = "# Written by elf package; changes belong in team.yaml or elf.yaml.\n"


@dataclass(frozen=True)
class Templates:
    """What every chart has in common, read once.

    Attributes:
        thin: files of a team's chart, by path.
        library: files of the library chart, by path.
        library_version: of the library's Chart.yaml.
    """

    thin: Mapping[str, bytes]
    library: Mapping[str, bytes]
    library_version: str

    @property
    def vendored(self) -> str:
        """Where the library stands in a team's chart."""
        return f"charts/{LIBRARY}-{self.library_version}.tgz"

    @cached_property
    def archive(self) -> bytes:
        """The library as it stands there: one file with the same bytes in every chart."""
        return archive(LIBRARY, self.library)


def templates_directory() -> Path:
    """Where the chart templates are: inside the installed package, or beside it in a checkout.

    Raises:
        Missing: they are in neither place.
    """
    package = Path(__file__).resolve().parents[1]
    for place in (package / "chart-templates", package.parent / "chart-templates"):
        if (place / LIBRARY / "Chart.yaml").is_file():
            return place
    raise Missing(f"the chart templates are not in {package}; install elf-sdk again")


def load_templates(directory: Path | None = None) -> Templates:
    """The templates in `directory`, by default those that came with this package."""
    root = directory or templates_directory()
    library = _read(root / LIBRARY)
    metadata = yaml.safe_load(library["Chart.yaml"])
    return Templates(_read(root / "team"), library, str(metadata["version"]))


def _read(root: Path) -> dict[str, bytes]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def chart_tree(spec: TeamSpec, values: Mapping[str, Mapping[str, Any]], templates: Templates) -> dict[str, bytes]:
    """Every file of a team's chart, by path in the chart, sorted.

    Args:
        spec: the team.
        values: complete values by environment, in the order of promotion.
        templates: from `load_templates`.
    """
    common, different = layered(values)
    tree: dict[str, bytes] = {
        "Chart.yaml": _text(_GENERATED + to_yaml(_metadata(spec, templates))),
        "README.md": _text("\n".join(_readme(spec, values)) + "\n"),
        "values.schema.json": _schema(),
        "values.yaml": _text(_GENERATED + to_yaml(common)),
        **templates.thin,
    }
    for environment, own in different.items():
        tree[f"values-{environment}.yaml"] = _text(_GENERATED + to_yaml(own))
    tree[templates.vendored] = templates.archive
    return dict(sorted(tree.items()))


def _text(text: str) -> bytes:
    return text.encode("utf-8")


@cache
def _schema() -> bytes:
    return _text(to_json(values_schema()))


def _metadata(spec: TeamSpec, templates: Templates) -> dict[str, object]:
    return {
        "apiVersion": "v2",
        "name": spec.name,
        "description": f"{spec.title}: {spec.purpose}" if spec.purpose else spec.title,
        "type": "application",
        "version": spec.version,
        "appVersion": spec.version,
        # No kubeVersion: Helm compares it with whatever version it was built for when it has no cluster to ask.
        # Without a repository Helm takes what is in charts/ and fetches nothing.
        "dependencies": [{"name": LIBRARY, "version": templates.library_version, "repository": ""}],
    }


def _readme(spec: TeamSpec, values: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield f"# {inline_markdown(spec.title)}"
    yield ""
    if spec.purpose:
        yield inline_markdown(spec.purpose)
        yield ""
    yield f"The Helm chart of the team `{spec.name}`, written by `elf package`:"
    yield "changes belong in `team.yaml` or `elf.yaml`. It needs Kubernetes 1.31 or later."
    yield ""
    yield "| environment | namespace | replicas | image | install |"
    yield "|---|---|---|---|---|"
    for name, own in values.items():
        image = own["image"]
        reference = image["repository"] + (f"@{image['digest']}" if image["digest"] else f":{image['tag']}")
        command = f"helm upgrade --install {spec.name} . -n {own['namespace']} -f values-{name}.yaml"
        yield f"| {name} | `{own['namespace']}` | {own['replicas']} | `{reference}` | `{command}` |"
    yield ""
    yield from _values_table()


@cache
def _values_table() -> tuple[str, ...]:
    lines = ["## Values", "", "| value | type | meaning |", "|---|---|---|"]
    for path, kind, meaning in describe_values():
        lines.append(f"| `{path}` | {kind} | {meaning.replace('|', chr(92) + '|')} |")
    return tuple(lines)
