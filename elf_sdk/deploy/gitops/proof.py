"""Charts as they stand in a GitOps repository, linted and rendered by real Helm and checked against the schemas."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from elf_sdk.deploy.gitops.layout import Tree
from elf_sdk.deploy.helm import Helm, choose_helm
from elf_sdk.deploy.kubernetes import ObjectSchemas, parse_manifests
from elf_sdk.errors import Failure

__all__ = ["Chart", "Objects", "Progress", "render"]

Progress = Callable[[int, int, str], None]
"""Called with what is done, how much there is, and what it is about."""
Objects = Sequence[Mapping[str, Any]]

_WORKERS: Final = 4


@dataclass(frozen=True, slots=True)
class Chart:
    """A team's directory in an environment, to be rendered.

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
    charts: Sequence[Chart],
    *,
    helm: Callable[[], Helm] = choose_helm,
    check: bool = True,
    progress: Progress = lambda done, total, about: None,
) -> tuple[str, list[Objects]]:
    """What each chart renders to.

    Args:
        charts: to be rendered.
        helm: gives the Helm.
        check: the objects against the schemas.
        progress: told about every chart.

    Returns:
        Which Helm it was, empty where there was nothing to render, and the objects of each chart.

    Raises:
        Failure: some are wrong; the message names up to ten.
        Missing: Helm or the Kubernetes schemas have to be installed.
    """
    if not charts:
        return "", []
    engine, schemas = helm(), ObjectSchemas()

    def one(job: tuple[Path, Chart]) -> Objects | Failure:
        directory, chart = job
        values = directory / f"values-{chart.environment}.yaml"
        try:
            objects = parse_manifests(engine.render(directory, values, release=chart.team, namespace=chart.namespace))
            if check:
                schemas.check(objects)
        except Failure as failure:
            return failure
        return objects

    found: list[Objects] = []
    wrong: list[str] = []
    with _on_disk(charts) as directories, ThreadPoolExecutor(min(_WORKERS, os.cpu_count() or 1)) as pool:
        results = pool.map(one, zip(directories, charts, strict=True))
        for done, (chart, result) in enumerate(zip(charts, results, strict=True), start=1):
            where = f"{chart.team} in {chart.environment}"
            progress(done, len(charts), where)
            if isinstance(result, Failure):
                wrong.append(f"{where}: {result}")
            else:
                found.append(result)
    if wrong:
        more = [f"and {len(wrong) - 10} more"] if len(wrong) > 10 else []
        raise Failure("\n".join(["nothing was replaced, because of:", *wrong[:10], *more]))
    return engine.name, found


@contextmanager
def _on_disk(charts: Sequence[Chart]) -> Iterator[list[Path]]:
    """The charts as directories; what is the same in many is one file with many names."""
    with tempfile.TemporaryDirectory(prefix="elf-gitops-") as directory:
        root = Path(directory)
        first: dict[bytes, Path] = {}
        places = []
        for number, chart in enumerate(charts):
            place = root / str(number) / chart.team
            for name, content in chart.files.items():
                file = place / name
                file.parent.mkdir(parents=True, exist_ok=True)
                if content in first:
                    os.link(first[content], file)
                else:
                    file.write_bytes(content)
                    first[content] = file
            places.append(place)
        yield places
