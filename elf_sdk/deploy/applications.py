"""Argo CD's Applications, as its cluster has them: https://argo-cd.readthedocs.io/en/stable/operator-manual/."""

from __future__ import annotations

from collections.abc import Mapping

from elf_sdk.deploy.cluster.api import APPLICATIONS, KubeApi, Object
from elf_sdk.errors import Forbidden, NotFound

__all__ = ["read_applications"]


def read_applications(api: KubeApi, namespace: str) -> Mapping[str, Object] | None:
    """Every Application in `namespace`, by name; None where the cluster has no Argo CD.

    Raises:
        Forbidden: Argo CD is there, and its Applications may not be read.
        ElfError: the cluster cannot be asked.
    """
    try:
        return {each["metadata"]["name"]: each for each in api.list(APPLICATIONS, namespace)}
    except NotFound:
        return None
    except Forbidden:
        # Whoever has no right to a kind is refused before it is looked up; what kinds there are, everybody may know.
        if not api.serves(APPLICATIONS):
            return None
        raise
