"""The words of a command that takes names of teams, and the project they are in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from elf_sdk.errors import BadInput
from elf_sdk.team.load import ORGANISATION_FILE, TEAM_FILE

__all__ = ["split_words"]


def split_words(words: Sequence[str]) -> tuple[list[str], Path]:
    """Names of teams, and the one path among them; by default this directory.

    Raises:
        BadInput: there are two paths.
    """
    paths = [word for word in words if _is_path(word)]
    if len(paths) > 1:
        raise BadInput(f"{paths[0]} and {paths[1]} are two places; name one project at a time")
    return [word for word in words if word not in paths], Path(paths[0] if paths else ".")


def _is_path(word: str) -> bool:
    path = Path(word)
    return (
        os.sep in word
        or word in (".", "..", TEAM_FILE, ORGANISATION_FILE)
        or any((path / name).exists() for name in (TEAM_FILE, ORGANISATION_FILE, "teams"))
    )
