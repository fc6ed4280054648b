"""The tokens with which a team calls others: one for each, so that none of them is of use to anybody else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from elf_sdk.errors import BadInput, Retryable
from elf_sdk.server.auth.issuer import Issuer

__all__ = ["TeamTokens", "read_team_token"]

_TEAM: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_LARGEST: Final = 16 * 1024
"""Bytes of a file; a token has about 1,000."""


class TeamTokens:
    """Finds the token for a call.

    Args:
        directory: holds a file for each team that is called, named as the team; empty: there is none.
        issuer: signs a token where no file is; None: nobody does.
    """

    def __init__(self, directory: str, issuer: Issuer | None) -> None:
        self._directory = directory
        self._issuer = issuer

    def token(self, caller: str, team: str) -> str:
        """The token with which `caller` calls `team` now. A file is read each time, because a kubelet replaces it.

        Raises:
            Retryable: the file is there and cannot be read, or is empty.
            BadInput: there is no file, and nobody signs.
        """
        if token := read_team_token(self._directory, team):
            return token
        if self._issuer is not None:
            return self._issuer.team_token(caller, team)
        where = f"put one into {Path(self._directory) / team}" if self._directory else "set ELF_TEAM_TOKENS"
        raise BadInput(f"{caller} has no token to call {team} with; {where}, or set JWT_SECRET_KEY")


def read_team_token(directory: str, team: str) -> str:
    """The token for `team` in a directory with a file for each; empty where there is none.

    Raises:
        Retryable: the file is there and cannot be read, or is empty.
    """
    if not directory or not _TEAM.fullmatch(team):
        return ""
    path = Path(directory) / team
    try:
        with path.open("rb") as file:
            token = file.read(_LARGEST).decode("ascii").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise Retryable(f"the token {path} cannot be read: {error}") from None
    if not token:
        raise Retryable(f"the token {path} is empty; it is written again, perhaps")
    return token
