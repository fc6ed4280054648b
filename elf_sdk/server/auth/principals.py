"""Who a token is about, and whom it is for. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from elf_sdk.errors import Unauthenticated
from elf_sdk.runs.adapter import Owner

__all__ = ["Principal", "bearer_token", "is_name"]

_NAME: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,255}")


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller whose token was verified.

    Attributes:
        owner: scope of everything that the caller creates.
        kind: a person, or another team.
        name: the person's id or the team's name.
        roles: of a person; empty for a team.
        expires_at: Unix time in seconds.
    """

    owner: Owner
    kind: Literal["user", "team"]
    name: str
    roles: frozenset[str]
    expires_at: int


def is_name(text: str) -> bool:
    """Whether `text` can be who a token is about: 1 to 255 characters, none of them for control."""
    return _NAME.fullmatch(text) is not None


def bearer_token(header: str | None) -> str:
    """The token of an Authorization header (RFC 6750).

    Raises:
        Unauthenticated: there is no header, or it is of another scheme.
    """
    scheme, _, token = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("a token is needed; send it as `Authorization: Bearer <token>`")
    return token.strip()
