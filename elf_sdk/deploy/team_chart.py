"""Every team's chart in memory: what it is made from, and what it comes to in each environment.

charts = TeamCharts(project)
charts.key(team)        # changes when anything changes that the chart depends on; cheap
charts.chart(team)      # the chart's files, values and edges
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pydantic

from elf_sdk.cache import code_digest, digest_of
from elf_sdk.deploy.archive import archive
from elf_sdk.deploy.chart import Templates, chart_tree, load_templates
from elf_sdk.deploy.images import IMAGES_FILE, read_digests
from elf_sdk.deploy.values import shortcomings, team_values
from elf_sdk.errors import Failure
from elf_sdk.team.edges import Edges, compile_edges
from elf_sdk.team.project import LoadedTeam, Project

__all__ = ["TeamChart", "TeamCharts"]


@dataclass(frozen=True)
class TeamChart:
    """The chart of one team, for all of its environments.

    Attributes:
        team: its name, which is the chart's and the release's.
        version: of team and chart.
        tree: every file, by path in the chart.
        values: complete values by environment, in the order of promotion.
        edges: the team's neighbours by environment.
        warnings: what will not work although the chart is right.
    """

    team: str
    version: str
    tree: Mapping[str, bytes]
    values: Mapping[str, Mapping[str, Any]]
    edges: Mapping[str, Edges]
    warnings: tuple[str, ...]

    @property
    def namespaces(self) -> Mapping[str, str]:
        """By environment."""
        return {name: str(values["namespace"]) for name, values in self.values.items()}

    @cached_property
    def files(self) -> Mapping[str, bytes]:
        """The chart as a directory and as an archive, by path in the directory of all charts."""
        files = {f"{self.team}/{path}": content for path, content in self.tree.items()}
        files[f"{self.team}-{self.version}.tgz"] = archive(self.team, self.tree)
        return files

    @cached_property
    def sha256(self) -> str:
        """Over `files`, in their order."""
        digest = hashlib.sha256()
        for path, content in self.files.items():
            digest.update(f"{path}\0{len(content)}\0".encode())
            digest.update(content)
        return digest.hexdigest()


class TeamCharts:
    """The charts of a project's teams, each made when it is asked for.

    Args:
        project: the organisation and its teams.
        templates: from `load_templates`.

    Raises:
        Missing: the chart templates are not installed.
    """

    def __init__(self, project: Project, templates: Templates | None = None) -> None:
        self._project = project
        self._templates = templates or load_templates()

    def key(self, team: LoadedTeam) -> str:
        """A digest of everything that `chart(team)` depends on: the same key, the same chart, byte for byte.

        Raises:
            Failure: the team's images.lock.yaml cannot be read.
        """
        # Of the spec what was written: a field that an environment sets to its default is not one that it leaves alone.
        written = team.spec.model_dump_json(exclude_unset=True)
        return digest_of(self._common, written, repr(self._edges(team)), _images(team))

    def chart(self, team: LoadedTeam) -> TeamChart:
        """The chart of `team`.

        Raises:
            BadInput: what the team says cannot be a chart, or (BadSpec) its images.lock.yaml is wrong.
        """
        # Of the project it may use what `key` has in it, and nothing else.
        spec, organisation = team.spec, self._project.organisation
        digests, edges = read_digests(team.directory, organisation), self._edges(team)
        values: dict[str, dict[str, Any]] = {}
        warnings: list[str] = []
        for environment in organisation.environments:
            name = environment.name
            digest = digests.get(name, "")
            values[name] = team_values(spec, organisation, environment, edges[name], digest)
            warnings += shortcomings(spec, organisation, environment, edges[name], digest)
        tree = chart_tree(spec, values, self._templates)
        return TeamChart(spec.name, spec.version, tree, values, edges, tuple(warnings))

    @cached_property
    def _common(self) -> str:
        """What all charts depend on."""
        organisation = self._project.organisation.model_dump_json(exclude_unset=True)
        return digest_of(code_digest(), pydantic.VERSION, organisation, *_parts(self._templates))

    def _edges(self, team: LoadedTeam) -> Mapping[str, Edges]:
        org, organisation = self._project.org, self._project.organisation
        return {
            environment.name: compile_edges(org, organisation, environment, team.spec.name)
            for environment in organisation.environments
        }


def _parts(templates: Templates) -> Iterable[bytes | str]:
    for files in (templates.thin, templates.library):
        yield str(len(files))
        for path, content in sorted(files.items()):
            yield path
            yield content


def _images(team: LoadedTeam) -> bytes:
    path = team.directory / IMAGES_FILE
    try:
        return b"+" + path.read_bytes()
    except FileNotFoundError:
        return b"-"
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}") from None
