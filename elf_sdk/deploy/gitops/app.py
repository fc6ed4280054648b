"""`app.yaml`: the file by which Argo CD finds a team's directory, and which says what runs there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import yaml

from elf_sdk.deploy.encode import to_yaml
from elf_sdk.deploy.gitops.layout import GENERATED
from elf_sdk.errors import BadInput

__all__ = ["App"]

_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_KEYS: Final = ("team", "version", "library", "digest", "server", "namespace", "sync", "state")


@dataclass(frozen=True, slots=True)
class App:
    """What runs in one environment.

    Attributes:
        team: its name.
        version: of team and chart.
        library: version of the library chart.
        digest: `sha256:…` of the image; empty where it goes by its tag.
        server: address of the cluster's API server, as Argo CD knows it.
        namespace: in that cluster.
        sync: whether Argo CD applies a change by itself.
        state: `leaving` where the chart renders only what outlives the team.
    """

    team: str
    version: str
    library: str
    digest: str
    server: str
    namespace: str
    sync: Literal["auto", "manual"]
    state: Literal["deployed", "leaving"] = "deployed"

    def encode(self) -> bytes:
        """The file."""
        return (GENERATED + to_yaml({key: getattr(self, key) for key in _KEYS})).encode()

    @classmethod
    def decode(cls, content: bytes, file: str) -> App:
        """What is in the file.

        Args:
            content: of it.
            file: how messages call it.

        Raises:
            BadInput: `elf gitops` did not write it.
        """
        try:
            data = yaml.load(content, Loader=_Loader)  # noqa: S506 - one of the safe loaders
        except yaml.YAMLError:
            data = None
        if (
            not isinstance(data, dict)
            or sorted(data) != sorted(_KEYS)
            or not all(isinstance(value, str) for value in data.values())
            or data["sync"] not in ("auto", "manual")
            or data["state"] not in ("deployed", "leaving")
        ):
            raise BadInput(f"{file} is not as elf gitops writes it; take it back from an earlier commit")
        return cls(**data)
