"""Signs tokens (RFC 7519) with a shared secret: for `elf dev`, `elf token`, and a single team.

A token names its audience as `elf:<organisation>:<environment>:<team>`, so that none of them works anywhere else. The
subject says what the caller is: `user:<id>` for a person, `team:<name>` for another team.
"""

from __future__ import annotations

import time
import uuid
from typing import Any

from elf_sdk.settings import audience

__all__ = ["Issuer", "issuer_name"]


def issuer_name(organisation: str, environment: str) -> str:
    """Who issues the tokens of an environment, as in their `iss`, unless told otherwise."""
    return f"elf:{organisation}:{environment}"


class Issuer:
    """Signs tokens with the shared secret.

    Args:
        secret: at least 32 bytes.
        organisation: named in the audience.
        environment: named in the audience.
    """

    def __init__(self, secret: str, organisation: str, environment: str) -> None:
        self._secret = secret
        self._organisation = organisation
        self._environment = environment
        self.name = issuer_name(organisation, environment)

    def user_token(self, user: str, team: str, roles: tuple[str, ...] = ("user",), lifetime: int = 3600) -> str:
        """A token with which `user` may talk to `team`, for `lifetime` seconds."""
        return self._sign(team, lifetime, {"sub": f"user:{user}", "user_id": user, "roles": list(roles)})

    def team_token(self, caller: str, team: str, lifetime: int = 300) -> str:
        """A token with which the team `caller` may call `team`, for `lifetime` seconds."""
        return self._sign(team, lifetime, {"sub": f"team:{caller}"})

    def _sign(self, team: str, lifetime: int, claims: dict[str, Any]) -> str:
        import jwt  # with cryptography

        now = int(time.time())
        standard = {
            "iss": self.name,
            "aud": audience(self._organisation, self._environment, team),
            "team_id": team,
            "iat": now,
            "exp": now + lifetime,
            "jti": uuid.uuid4().hex,
        }
        return jwt.encode({**standard, **claims}, self._secret, algorithm="HS256")
