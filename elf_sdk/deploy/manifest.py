"""`.elf-package.json`: what `elf package` wrote into a directory, so that it never takes away what it did not."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from elf_sdk.deploy.encode import to_json
from elf_sdk.errors import BadInput
from elf_sdk.team.kinds import TeamName, Version

__all__ = ["MANIFEST", "Charted", "Manifest", "read_manifest"]

MANIFEST: Final = ".elf-package.json"
_FORMAT: Final = "elf-package/v1"


@dataclass(frozen=True, slots=True)
class Charted:
    """One chart as it was written.

    Attributes:
        version: of the chart.
        sha256: over all of its files.
        files: their paths in the output.
    """

    version: str
    sha256: str
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """Every chart in a directory, by team."""

    charts: Mapping[str, Charted] = field(default_factory=dict)

    def encode(self) -> bytes:
        """As JSON."""
        charts = {
            team: {"version": chart.version, "sha256": chart.sha256, "files": list(chart.files)}
            for team, chart in self.charts.items()
        }
        return to_json({"format": _FORMAT, "charts": charts}).encode()


_Path = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$", max_length=400)]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    class Chart(BaseModel):
        model_config = ConfigDict(extra="forbid", strict=True)

        version: Version
        sha256: str
        files: list[_Path]

    format: Literal["elf-package/v1"]
    charts: dict[TeamName, Chart]


def read_manifest(output: Path, there: Collection[str], *, strict: bool = True) -> Manifest:
    """What `elf package` wrote into `output`; nothing where it is absent or empty.

    Args:
        output: the directory.
        there: the paths in it, as `list_tree` gives them.
        strict: refuse single files, too, that `elf package` did not write.

    Raises:
        BadInput: it is no directory, or holds something that `elf package` did not write.
    """
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise BadInput(f"{output} is {'a link' if output.is_symlink() else 'no directory'}; name a directory")
    if not there:
        return Manifest()
    if MANIFEST not in there:
        raise BadInput(f"{output} holds something else ({min(there)}); choose an empty directory with --output")
    manifest = _read(output / MANIFEST)
    known = {MANIFEST, *(path for chart in manifest.charts.values() for path in chart.files)}
    foreign = sorted(path for path in there if path not in known) if strict else []
    if foreign:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise BadInput(f"{output} holds {foreign[0]}{more}, which elf package did not write; move it elsewhere")
    return manifest


def _read(file: Path) -> Manifest:
    try:
        content = _File.model_validate(json.loads(file.read_bytes()))
        for team, chart in content.charts.items():
            if not all(path.startswith(f"{team}/") or path == f"{team}-{chart.version}.tgz" for path in chart.files):
                raise ValueError(team)
            if any(part in (".", "..") for path in chart.files for part in path.split("/")):
                raise ValueError(team)
    except (OSError, ValueError, ValidationError):
        raise BadInput(f"{file} is no list that elf package wrote; remove {file.parent} and package again") from None
    return Manifest({team: Charted(c.version, c.sha256, tuple(c.files)) for team, c in content.charts.items()})
