"""One team's directory in one environment: the chart that `elf package` proves, with the values of that environment.

`values.yaml` says what is the same wherever the team runs, and depends on nothing but team.yaml and elf.yaml, so that
it is the same file in every environment that has this version. What an environment adds, its image and its edges among
it, stands in `values-<env>.yaml`. The library is one archive: one file, and in git one blob for all teams.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from elf_sdk.deploy.chart import Templates, chart_tree
from elf_sdk.deploy.encode import to_yaml
from elf_sdk.deploy.gitops.app import App
from elf_sdk.deploy.gitops.layout import APP_FILE, GENERATED, MANIFESTS, Tree
from elf_sdk.deploy.proofs import proof_keys
from elf_sdk.deploy.team_chart import TeamChart
from elf_sdk.deploy.values import differing, shortcomings, team_values
from elf_sdk.team.edges import Edges
from elf_sdk.team.organisation import Environment, Organisation
from elf_sdk.team.spec import TeamSpec

__all__ = ["Directories", "Directory", "is_ours"]

_VALUES: Final = "values.yaml"
_COMMON: Final = frozenset({"Chart.yaml", "values.schema.json"})
_COMMON_BELOW: Final = ("charts/", "templates/")


@dataclass(frozen=True, slots=True)
class Directory:
    """A team's directory in an environment.

    Attributes:
        app: what runs there.
        files: everything, `app.yaml` included.
        warnings: what will not work although the chart is right, one sentence each.
        proof: the key of its proof, where `elf package` gives the same chart; empty where it does not.
    """

    app: App
    files: Tree
    warnings: tuple[str, ...] = ()
    proof: str = ""


class Directories:
    """Makes directories. What all environments of a team have in common is made once.

    Args:
        organisation: to which the teams belong.
        templates: from `load_templates`.
    """

    def __init__(self, organisation: Organisation, templates: Templates) -> None:
        self._organisation = organisation
        self._templates = templates
        self._servers = {cluster.name: cluster.server for cluster in organisation.clusters}
        # Of the team that was made last: its other environments come next.
        self._common: tuple[TeamSpec, Sequence[Mapping[str, Any]], Tree] | None = None

    def make(
        self,
        spec: TeamSpec,
        environment: Environment,
        edges: Edges,
        digest: str = "",
        packaged: TeamChart | None = None,
    ) -> Directory:
        """The directory of a team in `environment`.

        Args:
            spec: the team, with all of its environments.
            environment: one of the organisation's.
            edges: the team's neighbours there, from `compile_edges`.
            digest: `sha256:…` of the image there; empty for the image by its tag.
            packaged: the chart that `elf package` makes of it, where that is known.

        Raises:
            BadInput: what the team says cannot be a chart; the message names team, environment and field.
        """
        everywhere, shared = self._shared(spec, packaged)
        known = packaged.values[environment.name] if packaged else {}
        if packaged and packaged.edges[environment.name] == edges and known["image"]["digest"] == digest:
            values = known
        else:
            values = team_values(spec, self._organisation, environment, edges, digest)
        own = GENERATED + to_yaml(differing(values, everywhere))
        app = App(
            team=spec.name,
            version=spec.version,
            library=self._templates.library_version,
            digest=digest,
            server=self._servers[spec.cluster_in(environment)],
            namespace=spec.namespace_in(environment),
            sync=sync_of(spec, environment),
        )
        files = {**shared, APP_FILE: app.encode(), f"values-{environment.name}.yaml": own.encode()}
        proof = ""
        if packaged is not None and known == values:
            # The same templates with the same values, whatever file they stand in.
            proof = proof_keys(spec.name, packaged.tree, {environment.name: app.namespace})[environment.name]
        warnings = tuple(shortcomings(spec, self._organisation, environment, edges, digest))
        return Directory(app, dict(sorted(files.items())), warnings, proof)

    def _shared(self, spec: TeamSpec, packaged: TeamChart | None) -> tuple[Sequence[Mapping[str, Any]], Tree]:
        """The values of every environment as far as they depend on no neighbour and no image, and the common files."""
        if self._common is None or self._common[0] is not spec:
            values = {
                each.name: team_values(spec, self._organisation, each, Edges(spec.name))
                for each in self._organisation.environments
            }
            chart = packaged.tree if packaged else chart_tree(spec, values, self._templates)
            files = {
                name: content for name, content in chart.items() if name in _COMMON or name.startswith(_COMMON_BELOW)
            }
            first, *_ = values.values()
            files[_VALUES] = (GENERATED + to_yaml(first)).encode()
            self._common = (spec, list(values.values()), files)
        return self._common[1], self._common[2]


def is_ours(place: str, path: str) -> bool:
    """Whether a file of that name in a team's directory is one that `elf gitops` writes."""
    if place.startswith(f"{MANIFESTS}/"):
        return "/" not in path and path.endswith(".yaml")
    head, _, rest = path.partition("/")
    if rest:
        return f"{head}/" in _COMMON_BELOW
    return head in (APP_FILE, _VALUES, *_COMMON) or (head.startswith("values-") and head.endswith(".yaml"))


def sync_of(spec: TeamSpec, environment: Environment) -> Any:
    """Whether Argo CD applies the team's changes in `environment` by itself, defaults applied."""
    override = spec.environments.get(environment.name)
    default = "manual" if environment.name == "prod" else "auto"
    chosen = (override and override.sync) or environment.sync or default
    # A rolling environment moves its Applications itself, and does so only with those that do not.
    return "auto" if chosen == "auto" and environment.sync != "rolling" else "manual"
