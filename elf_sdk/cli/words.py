"""What was typed, where several commands read it alike: names of teams with their project, a duration, a user."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from elf_sdk.errors import BadInput
from elf_sdk.team.kinds import duration_seconds
from elf_sdk.team.load import ORGANISATION_FILE, TEAM_FILE

__all__ = ["check_user", "seconds_of", "split_words"]


def split_words(words: Sequence[str]) -> tuple[list[str], Path]:
    """Names of teams, and the one path among them; by default this directory.

    Raises:
        BadInput: there are two paths.
    """
    paths = [word for word in words if _is_path(word)]
    if len(paths) > 1:
        raise BadInput(f"{paths[0]} and {paths[1]} are two places; name one project at a time")
    return [word for word in words if word not in paths], Path(paths[0] if paths else ".")


def seconds_of(option: str, text: str) -> float:
    """The seconds of a duration such as `5m`, typed for `option`.

    Raises:
        BadInput: it is none.
    """
    try:
        return duration_seconds(text)
    except ValueError:
        raise BadInput(f"{option} {text!r} is no duration; write one such as 90s or 5m") from None


def check_user(name: str) -> None:
    """Let pass a name that a token may be made for.

    Raises:
        BadInput: it is none.
    """
    from elf_sdk.server.auth import is_name  # not for the commands that only package

    if not is_name(name):
        raise BadInput(f"--user {name!r} is no name; write 1 to 255 characters that can be printed")


def _is_path(word: str) -> bool:
    path = Path(word)
    return (
        os.sep in word
        or word in (".", "..", TEAM_FILE, ORGANISATION_FILE)
        or any((path / name).exists() for name in (TEAM_FILE, ORGANISATION_FILE, "teams"))
    )
