"""What `elf gitops write` has left in a work tree, so that `elf gitops commit` takes that and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from elf_sdk.deploy.gitops.change import Change
from elf_sdk.deploy.gitops.layout import Tree

__all__ = ["PENDING_FILE", "Pending"]

PENDING_FILE: Final = "elf-gitops.json"
"""In the directory that git keeps for itself."""


class Pending(BaseModel):
    """What was written since the last commit: why, and the git id of every place, null for one that went."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    operation: str = "write"
    scope: str = ""
    title: str = ""
    notes: tuple[str, ...] = ()
    trailers: dict[str, str] = Field(default_factory=dict)
    places: dict[str, str | None] = Field(default_factory=dict)

    @classmethod
    def of(cls, change: Change, places: Mapping[str, str | None]) -> Self:
        """The record of a change, with the ids of the places that differ from the commit."""
        return cls(
            operation=change.operation,
            scope=change.scope,
            title=change.title,
            notes=change.notes,
            trailers=dict(change.trailers),
            places=dict(places),
        )

    @classmethod
    def read(cls, file: Path) -> Self:
        """What is recorded; nothing where there is no record that can be read."""
        try:
            return cls.model_validate_json(file.read_bytes())
        except (OSError, ValidationError):
            return cls()

    def save(self, file: Path) -> None:
        """Record it."""
        file.write_text(self.model_dump_json(), encoding="utf-8")

    def change(self, places: Mapping[str, Tree | None]) -> Change:
        """The change that was written, with the files as they are."""
        return Change(dict(places), self.operation, self.scope, self.title, self.notes, self.trailers)
