"""`elf ci init`: pipeline files in a repository, and whose they are.

A file tells by its second line what it was when it was written. As long as it still is that, it is ours and written
anew; once somebody has changed it, it is theirs.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from elf_sdk.errors import BadInput, Failure
from elf_sdk.files import replace_file

__all__ = ["PipelineFile", "repository_of", "write_pipeline"]

_TITLE: Final = "# Written by elf ci init, and yours to change.\n"
_MARK: Final = "# elf-ci sha256:"


@dataclass(frozen=True, slots=True)
class PipelineFile:
    """What became of one file.

    Attributes:
        path: in the repository.
        status: `kept` is a changed one that was left as it is.
    """

    path: str
    status: Literal["added", "updated", "unchanged", "replaced", "kept"]


def repository_of(directory: Path) -> Path:
    """The root of the git repository that `directory` is in; the directory itself where it is in none."""
    start = directory.resolve()
    for place in (start, *start.parents):
        if (place / ".git").exists():
            return place
    return start


def write_pipeline(repository: Path, files: Mapping[str, str], *, force: bool = False) -> tuple[PipelineFile, ...]:
    """Write `files`, text by path in `repository`, except those that somebody has changed.

    Args:
        repository: its root.
        files: without the two lines that say whose they are.
        force: write those as well.

    Raises:
        BadInput: a path leads out of the repository, or is no file; nothing was written.
        Failure: a file cannot be written.
    """
    planned: list[tuple[PipelineFile, Path, bytes]] = []
    for name, text in files.items():
        path = repository / name
        if not Path(os.path.realpath(path)).is_relative_to(repository.resolve()) or path.is_symlink():
            raise BadInput(f"{path} is a link, or leads out of the repository; put the file itself there")
        if path.exists() and not path.is_file():
            raise BadInput(f"{path} is no file; move it away")
        content = _marked(text)
        planned.append((PipelineFile(name, _status(path, content, force=force)), path, content))
    for file, path, content in planned:
        if file.status in ("added", "updated", "replaced"):
            _write(path, content)
    return tuple(file for file, _, _ in planned)


def _marked(text: str) -> bytes:
    body = text.encode()
    return f"{_TITLE}{_MARK}{hashlib.sha256(body).hexdigest()}\n".encode() + body


def _status(path: Path, content: bytes, *, force: bool) -> Literal["added", "updated", "unchanged", "replaced", "kept"]:
    if not path.exists():
        return "added"
    there = path.read_bytes()
    if there == content:
        return "unchanged"
    _, _, rest = there.partition(b"\n")
    mark, _, body = rest.partition(b"\n")
    if mark == f"{_MARK}{hashlib.sha256(body).hexdigest()}".encode():
        return "updated"
    return "replaced" if force else "kept"


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(f"{path.parent} cannot be made: {error.strerror}") from None
    replace_file(path, content)
