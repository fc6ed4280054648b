"""Charts as they stand in a GitOps repository, proven, or only rendered to be looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from elf_sdk.deploy.gitops.layout import APP_FILE, Tree
from elf_sdk.deploy.helm import Choice, Helm
from elf_sdk.deploy.prove import Proof, Prover
from elf_sdk.errors import Failure

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
    """

    environment: str
    team: str
    namespace: str
    files: Tree


def render(
    charts: Iterable[Chart],
    helm: Choice | Callable[[], Helm] = "auto",
    *,
    manifests: bool = False,
    progress: Progress = lambda done, total, about: None,
) -> tuple[str, Mapping[tuple[str, str], str]]:
    """Lint and render charts, and check what they render to against the schemas.

    Args:
        charts: to be proven.
        helm: which Helm, or what gives it; asked for only when there is something to prove.
        manifests: whether what is rendered is wanted, and not only proven.
        progress: told about every chart.

    Returns:
        Which Helm it was, empty where there was nothing to prove; and by environment and team the manifests.

    Raises:
        Failure: some are wrong; the message names up to ten.
        Missing: Helm or the Kubernetes schemas have to be installed.
    """
    groups = list(_together(charts))
    if not groups:
        return "", {}
    proofs: list[Proof] = []
    with Prover(helm, charts=len(groups), manifests=manifests) as prover:
        for done, proof in enumerate(prover.prove_trees(groups), start=1):
            progress(done, len(groups), proof.team)
            proofs.append(proof)
    wrong = [f"{proof.team} in {name}: {why}" for proof in proofs for name, why in proof.wrong.items()]
    if wrong:
        more = [f"and {len(wrong) - 10} more"] if len(wrong) > 10 else []
        raise Failure("\n".join(["nothing was replaced, because of:", *wrong[:10], *more]))
    rendered = {(name, proof.team): each.manifests for proof in proofs for name, each in proof.rendered.items()}
    return prover.helm, rendered if manifests else {}


def _together(charts: Iterable[Chart]) -> Iterator[tuple[str, Tree, Mapping[str, str]]]:
    """Directories that are one chart with the values of several environments: that chart once."""
    found: dict[tuple[str, tuple[tuple[str, bytes], ...]], tuple[dict[str, bytes], dict[str, str]]] = {}
    for chart in charts:
        values = f"values-{chart.environment}.yaml"
        common = {name: content for name, content in chart.files.items() if name not in (APP_FILE, values)}
        tree, namespaces = found.setdefault((chart.team, tuple(sorted(common.items()))), (common, {}))
        tree[values] = chart.files[values]
        namespaces[chart.environment] = chart.namespace
    for (team, _), (tree, namespaces) in found.items():
        yield team, tree, namespaces
