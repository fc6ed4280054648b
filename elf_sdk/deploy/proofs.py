"""What was proven before, by content: the same chart in the same environment need not be proven again.

    with Proofs.of(project.root) as proofs:
        with Prover("auto", charts=len(charts), proofs=proofs) as prover: ...

`elf package` and `elf gitops` share them: a team's directory in a GitOps repository is its chart with the values of one
environment, and so known from when the chart was packaged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Self

from elf_sdk.cache import Cache, digest_of
from elf_sdk.deploy.kubernetes import KUBERNETES_VERSION
from elf_sdk.errors import Failure

__all__ = ["Proofs", "proof_keys", "refuse_wrong"]

_PROVE: Final = ("helm-python-sdk", "jsonschema-rs", "kubernetes-validate", "pyyaml")
_VALUES: Final = re.compile(r"values-.+\.yaml")
_SHOWN: Final = 10
"""Charts that a refusal names; they are often wrong for one and the same reason."""
_NOT_READ: Final = frozenset({"README.md", "app.yaml"})
"""Files beside a chart that neither its templates nor Helm look at."""


def proof_keys(team: str, tree: Mapping[str, bytes], namespaces: Mapping[str, str]) -> dict[str, str]:
    """By environment, a digest of everything that a proof of the chart there depends on.

    Args:
        team: the release.
        tree: the chart's files, by path in it.
        namespaces: by environment.
    """
    common = digest_of(
        *(
            part
            for path in sorted(tree)
            if path not in _NOT_READ and not _VALUES.fullmatch(path)
            for part in (path, tree[path])
        )
    )
    return {
        environment: digest_of(team, environment, namespace, common, tree[f"values-{environment}.yaml"])
        for environment, namespace in namespaces.items()
    }


class Proofs:
    """The proofs of one project.

    Args:
        cache: where they are kept.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    @classmethod
    @contextmanager
    def of(cls, root: Path) -> Iterator[Self]:
        """Those of the project at `root`; new ones are kept at the end, if there is no error."""
        with Cache.opened("proofs", str(root), KUBERNETES_VERSION, *map(_version, _PROVE), keep=True) as cache:
            yield cls(cache)

    def objects(self, key: str) -> int | None:
        """How many objects there are in what was proven under `key`; None if nothing was."""
        known = self._cache.get(key)
        return known if isinstance(known, int) else None

    def add(self, key: str, objects: int) -> None:
        """Keep that what `key` stands for is right."""
        self._cache.put(key, objects)


def refuse_wrong(charts: Iterable[tuple[str, Mapping[str, str]]]) -> None:
    """Let pass charts in which nothing was found wrong.

    Args:
        charts: for each its team, and by environment what is wrong, one sentence.

    Raises:
        Failure: in some there is; the message names up to ten.
    """
    wrong = [f"{team} in {environment}: {why}" for team, found in charts for environment, why in found.items()]
    if wrong:
        more = [f"and {len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else []
        raise Failure("\n".join(["nothing was replaced, because of:", *wrong[:_SHOWN], *more]))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
