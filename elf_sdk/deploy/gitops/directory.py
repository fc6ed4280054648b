"""One team's directory in one environment: the chart that `elf package` proves, with the values of that environment.

`values.yaml` says what is the same wherever the team runs, and depends on nothing but team.yaml and elf.yaml, so that
it is the same file in every environment that has this version. What an environment adds, its image and its edges among
it, stands in `values-<env>.yaml`. The library is one archive: one file, and in git one blob for all teams.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from elf_sdk.deploy.archive import archive
from elf_sdk.deploy.chart import LIBRARY, Templates, chart_tree
from elf_sdk.deploy.encode import to_yaml
from elf_sdk.deploy.gitops.app import App
from elf_sdk.deploy.gitops.layout import APP_FILE, GENERATED, MANIFESTS, Tree
from elf_sdk.deploy.values import shortcomings, team_values
from elf_sdk.team.edges import Edges
from elf_sdk.team.organisation import Environment, Organisation
from elf_sdk.team.spec import TeamSpec

__all__ = ["Directories", "Directory", "is_ours"]

_VALUES: Final = "values.yaml"


@dataclass(frozen=True, slots=True)
class Directory:
    """A team's directory in an environment.

    Attributes:
        app: what runs there.
        files: everything, `app.yaml` included.
        warnings: what will not work although the chart is right, one sentence each.
    """

    app: App
    files: Tree
    warnings: tuple[str, ...] = ()


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
        self._library = {f"charts/{LIBRARY}-{templates.library_version}.tgz": archive(LIBRARY, templates.library)}
        self._common: dict[str, tuple[TeamSpec, Sequence[Mapping[str, Any]], Tree]] = {}

    def make(self, spec: TeamSpec, environment: Environment, edges: Edges, digest: str = "") -> Directory:
        """The directory of a team in `environment`.

        Args:
            spec: the team, with all of its environments.
            environment: one of the organisation's.
            edges: the team's neighbours there, from `compile_edges`.
            digest: `sha256:…` of the image there; empty for the image by its tag.

        Raises:
            BadInput: what the team says cannot be a chart; the message names team, environment and field.
        """
        everywhere, shared = self._shared(spec)
        values = team_values(spec, self._organisation, environment, edges, digest)
        own = GENERATED + to_yaml(_over(values, everywhere))
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
        return Directory(
            app, dict(sorted(files.items())), tuple(shortcomings(spec, self._organisation, environment, edges))
        )

    def _shared(self, spec: TeamSpec) -> tuple[Sequence[Mapping[str, Any]], Tree]:
        known = self._common.get(spec.name)
        if known is None or known[0] is not spec:
            values = {
                each.name: team_values(spec, self._organisation, each, Edges(spec.name))
                for each in self._organisation.environments
            }
            chart = chart_tree(spec, values, self._templates)
            kept = {
                path: content
                for path, content in chart.items()
                if not path.startswith(("charts/", "values-", "README"))
            }
            known = (spec, list(values.values()), {**kept, **self._library})
            self._common[spec.name] = known
        return known[1], known[2]


def is_ours(place: str, path: str) -> bool:
    """Whether a file of that name in a team's directory is one that `elf gitops` writes."""
    if place.startswith(f"{MANIFESTS}/"):
        return "/" not in path and path.endswith(".yaml")
    head, _, rest = path.partition("/")
    if rest:
        return head in ("charts", "templates")
    return head in (APP_FILE, "Chart.yaml", _VALUES, "values.schema.json") or (
        head.startswith("values-") and head.endswith(".yaml")
    )


def sync_of(spec: TeamSpec, environment: Environment) -> Any:
    """Whether Argo CD applies the team's changes in `environment` by itself, defaults applied."""
    override = spec.environments.get(environment.name)
    default = "manual" if environment.name == "prod" else "auto"
    chosen = (override and override.sync) or environment.sync or default
    # A rolling environment moves its Applications itself, and does so only with those that do not.
    return "auto" if chosen == "auto" and environment.sync != "rolling" else "manual"


def _over(values: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What has to be said beside the common values so that all together is `values`."""
    different: dict[str, Any] = {}
    for key, value in values.items():
        rest = [other[key] for other in others]
        if all(item == value for item in rest):
            continue
        inner = isinstance(value, Mapping) and all(
            isinstance(item, Mapping) and item.keys() == value.keys() for item in rest
        )
        different[key] = _over(value, rest) if inner else value
    return different
