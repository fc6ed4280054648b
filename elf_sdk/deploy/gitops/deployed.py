"""The directory of a team as it stands in a commit, and the same with one part of it changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import yaml

from elf_sdk.deploy.chart import LIBRARY
from elf_sdk.deploy.encode import to_yaml
from elf_sdk.deploy.gitops.app import App
from elf_sdk.deploy.gitops.layout import APP_FILE, MANIFESTS, Tree, team_place
from elf_sdk.deploy.gitops.merge import in_order, refitted, with_difference
from elf_sdk.deploy.gitops.snapshot import Snapshot
from elf_sdk.errors import BadInput

__all__ = ["Deployed", "refuse_manifests"]

_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CHART: Final = "Chart.yaml"
_VALUES: Final = "values.yaml"
_SCHEMA: Final = "values.schema.json"


@dataclass(frozen=True, slots=True)
class Deployed:
    """A team in an environment.

    Attributes:
        environment: its name.
        app: what runs there.
        files: the directory, `app.yaml` included.
    """

    environment: str
    app: App
    files: Tree

    @classmethod
    def read(cls, base: Snapshot, environment: str, team: str) -> Self | None:
        """What a commit holds; None where the team is not in the environment.

        Raises:
            BadInput: the directory is not as `elf gitops` writes it.
        """
        place = team_place(environment, team)
        files = base.read(place)
        if files is None:
            return None
        missing = [name for name in (_CHART, _VALUES, _SCHEMA, own_file(environment)) if name not in files]
        if missing:
            raise BadInput(f"{place} has no {missing[0]}; take it back from an earlier commit")
        return cls(environment, App.decode(files[APP_FILE], f"{place}/{APP_FILE}"), files)

    @property
    def shared(self) -> Tree:
        """The files that are the same in every environment that has this version: the chart."""
        return {name: content for name, content in self.files.items() if not _of_one_environment(name)}

    def moved(self, environment: str, fresh: Self) -> Self:
        """This chart in another environment.

        Args:
            environment: its name.
            fresh: the directory there as it would be made now; what the environment alone says is taken from it.
        """
        app = replace(fresh.app, version=self.app.version, library=self.app.library, digest=self.app.digest)
        own = {own_file(environment): fresh.files[own_file(environment)], APP_FILE: app.encode()}
        return type(self)(environment, app, dict(sorted({**self.shared, **own}.items())))

    def with_edges(self, before: Self, after: Self) -> Self:
        """The same with other neighbours.

        Args:
            before: the directory as it would be made now with the neighbours that it has.
            after: as it would be made with those that it gets.
        """
        name = own_file(self.environment)
        there = _data(self.files, name)
        merged = with_difference(there, _data(before.files, name), _data(after.files, name))
        if merged == there:
            return self
        written = _written(self.files[name], in_order(merged, json.loads(self.files[_SCHEMA])))
        return replace(self, files={**self.files, name: written})

    def with_library(self, fresh: Self) -> Self:
        """The same version, image and values with the library of `fresh`, the directory as it would be made now."""
        name = own_file(self.environment)
        schema = json.loads(fresh.files[_SCHEMA])
        common, own = _data(self.files, _VALUES), _data(self.files, name)
        next_common = refitted(common, _data(fresh.files, _VALUES), common, schema)
        next_own = refitted(own, _data(fresh.files, name), common, schema)
        app = replace(self.app, library=fresh.app.library)
        files = {
            **{path: content for path, content in fresh.shared.items() if path not in (_CHART, _VALUES)},
            _CHART: _written(self.files[_CHART], _depending(_data(self.files, _CHART), app.library)),
            _VALUES: _written(self.files[_VALUES], next_common),
            name: _written(self.files[name], next_own),
            APP_FILE: app.encode(),
        }
        return type(self)(self.environment, app, dict(sorted(files.items())))

    @property
    def repository(self) -> str:
        """Where its image is, such as `registry.example.com/agents/brand-team`."""
        for name in (own_file(self.environment), _VALUES):
            image = _data(self.files, name).get("image", {})
            if repository := image.get("repository"):
                return str(repository)
        return ""


def refuse_manifests(base: Snapshot) -> None:
    """Refuse a repository of plain manifests: there is no chart in it that could be moved, returned or upgraded.

    Raises:
        BadInput: it is one.
    """
    if any(place.startswith(f"{MANIFESTS}/") for place in base.ids):
        raise BadInput(
            f"{base.path} holds plain manifests, and no charts that could be moved; take changes back by git revert, "
            "and make others with elf gitops write --format manifests"
        )


def own_file(environment: str) -> str:
    """The file with what an environment alone says."""
    return f"values-{environment}.yaml"


def _of_one_environment(name: str) -> bool:
    return name == APP_FILE or (name.startswith("values-") and name.endswith(".yaml"))


def _data(files: Tree, name: str) -> dict[str, Any]:
    try:
        data = yaml.load(files[name], Loader=_Loader)  # noqa: S506 - one of the safe loaders
    except yaml.YAMLError:
        data = None
    if data is None and not files[name].strip():
        return {}
    if not isinstance(data, dict):
        raise BadInput(f"{name} of a team is no YAML with fields; take it back from an earlier commit")
    return data


def _depending(chart: Mapping[str, Any], library: str) -> dict[str, Any]:
    dependencies = [
        {**each, "version": library} if each.get("name") == LIBRARY else each for each in chart.get("dependencies", [])
    ]
    return {**chart, "dependencies": dependencies}


def _written(before: bytes, data: Mapping[str, Any]) -> bytes:
    """`data` below the comment with which the file begins."""
    lines = before.decode().splitlines(keepends=True)
    head = lines[: next((place for place, line in enumerate(lines) if not line.startswith("#")), len(lines))]
    return ("".join(head) + to_yaml(data)).encode()
