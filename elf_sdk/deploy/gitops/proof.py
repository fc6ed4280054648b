"""Charts as they stand in a GitOps repository, proven, or only rendered to be looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from elf_sdk.deploy.gitops.layout import APP_FILE, Tree
from elf_sdk.deploy.helm import Choice, Helm
from elf_sdk.deploy.proofs import Proofs, proof_keys, refuse_wrong
from elf_sdk.deploy.prove import Proof, Provable, Prover

__all__ = ["Chart", "Progress", "render"]

Progress = Callable[[int, int, str], None]
"""Called with what is done, how much there is, and what it is about."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A team's directory in an environment.

    Attributes:
        environment: its name.
        team: its name, which is the release's.
        namespace: where it goes.
        files: the directory.
        key: of its proof, where another chart with the same templates and values has one too; empty for its own.
    """

    environment: str
    team: str
    namespace: str
    files: Tree
    key: str = ""


def render(
    charts: Iterable[Chart],
    helm: Choice | Callable[[], Helm] = "auto",
    *,
    manifests: bool = False,
    proofs: Proofs | None = None,
    progress: Progress = lambda done, total, about: None,
) -> tuple[str, Mapping[tuple[str, str], str]]:
    """Lint and render charts, and check what they render to against the schemas.

    Args:
        charts: to be proven.
        helm: which Helm, or what gives it; asked for only when there is something to prove.
        manifests: whether what is rendered is wanted, and not only proven.
        proofs: what was proven before, by `elf package` too.
        progress: told about every chart.

    Returns:
        Which Helm it was, empty where there was nothing to prove; and by environment and team the manifests.

    Raises:
        Failure: some are wrong; the message names up to ten.
        Missing: Helm or the Kubernetes schemas have to be installed.
    """
    groups = list(_together(charts))
    found: list[Proof] = []
    with (
        TemporaryDirectory(prefix="elf-gitops-") as place,
        Prover(helm, charts=len(groups), manifests=manifests, proofs=proofs) as prover,
    ):
        provables = (each.provable(Path(place, str(number))) for number, each in enumerate(groups))
        for done, proof in enumerate(prover.prove(provables), start=1):
            progress(done, len(groups), proof.team)
            found.append(proof)
    refuse_wrong((proof.team, proof.wrong) for proof in found)
    rendered = {(name, proof.team): each.manifests for proof in found for name, each in proof.rendered.items()}
    return prover.helm, rendered if manifests else {}


@dataclass(frozen=True, slots=True)
class _Together:
    """Directories that are one chart with the values of several environments."""

    team: str
    tree: dict[str, bytes]
    namespaces: dict[str, str]
    keys: dict[str, str]

    def provable(self, directory: Path) -> Provable:
        own = proof_keys(self.team, self.tree, self.namespaces) if not all(self.keys.values()) else {}
        keys = {environment: key or own[environment] for environment, key in self.keys.items()}
        return Provable(self.team, directory / self.team, self.namespaces, keys, self.tree)


def _together(charts: Iterable[Chart]) -> Iterable[_Together]:
    found: dict[tuple[str, tuple[tuple[str, bytes], ...]], _Together] = {}
    for chart in charts:
        values = f"values-{chart.environment}.yaml"
        common = {name: content for name, content in chart.files.items() if name not in (APP_FILE, values)}
        one = found.setdefault((chart.team, tuple(sorted(common.items()))), _Together(chart.team, common, {}, {}))
        one.tree[values] = chart.files[values]
        one.namespaces[chart.environment] = chart.namespace
        one.keys[chart.environment] = chart.key
    return found.values()
