"""Who is calling: JSON Web Tokens (RFC 7519), issued for one team and verified by it.

HS256 with a shared secret is for `elf dev` and for a single team. A token names its audience as
`elf:<organisation>:<environment>:<team>`, so that none of them works anywhere else. The subject says what the caller
is: `user:<id>` for a person, `team:<name>` for another team.
"""

from __future__ import annotations

import hashlib
import re
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final, Literal

import jwt

from elf_sdk.errors import Forbidden, Unauthenticated
from elf_sdk.runs.adapter import Owner

__all__ = ["LEEWAY", "Issuer", "Principal", "Verifier", "audience", "bearer_token", "is_name"]

ALGORITHM: Final = "HS256"
LEEWAY: Final = 30
"""Seconds by which clocks may differ."""
_CACHE: Final = 10_000
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,255}")
_REQUIRED: Final = ["iss", "aud", "sub", "iat", "exp", "jti"]


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


def audience(organisation: str, environment: str, team: str) -> str:
    """Whom a token is for."""
    return f"elf:{organisation}:{environment}:{team}"


def bearer_token(header: str | None) -> str:
    """The token of an Authorization header (RFC 6750).

    Raises:
        Unauthenticated: there is no header, or it is of another scheme.
    """
    scheme, _, token = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("a token is needed; send it as `Authorization: Bearer <token>`")
    return token.strip()


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
        self.name = f"elf:{organisation}:{environment}"

    def user_token(self, user: str, team: str, roles: tuple[str, ...] = ("user",), lifetime: int = 3600) -> str:
        """A token with which `user` may talk to `team`, for `lifetime` seconds."""
        return self._sign(team, lifetime, {"sub": f"user:{user}", "user_id": user, "roles": list(roles)})

    def team_token(self, caller: str, team: str, lifetime: int = 300) -> str:
        """A token with which the team `caller` may call `team`, for `lifetime` seconds."""
        return self._sign(team, lifetime, {"sub": f"team:{caller}"})

    def _sign(self, team: str, lifetime: int, claims: dict[str, Any]) -> str:
        now = int(time.time())
        standard = {
            "iss": self.name,
            "aud": audience(self._organisation, self._environment, team),
            "team_id": team,
            "iat": now,
            "exp": now + lifetime,
            "jti": uuid.uuid4().hex,
        }
        return jwt.encode({**standard, **claims}, self._secret, algorithm=ALGORITHM)


class Verifier:
    """Verifies tokens for one team. A verified token is remembered until it expires.

    Args:
        secret: the shared secret; empty refuses every token.
        organisation: that the audience must name.
        environment: that the audience must name.
        team: that the audience must name.
    """

    def __init__(self, secret: str, organisation: str, environment: str, team: str) -> None:
        self._secret = secret
        self._team = team
        self._audience = audience(organisation, environment, team)
        self._issuer = f"elf:{organisation}:{environment}"
        self._known: OrderedDict[bytes, Principal] = OrderedDict()

    def verify(self, token: str) -> Principal:
        """The caller that the token proves.

        Raises:
            Unauthenticated: the token is malformed, expired, signed by somebody else or by another algorithm.
            Forbidden: the token is genuine, and for another team.
        """
        if not token.isascii():
            raise Unauthenticated("the token cannot be read")
        digest = hashlib.sha256(token.encode()).digest()
        known = self._known.get(digest)
        if known is not None and known.expires_at + LEEWAY > time.time():
            return known
        principal = self._principal(self._claims(token))
        self._known[digest] = principal
        if len(self._known) > _CACHE:
            self._known.popitem(last=False)
        return principal

    def _claims(self, token: str) -> dict[str, Any]:
        if not self._secret:
            raise Unauthenticated(
                "this team has no JWT_SECRET_KEY, so it can accept no token; set one of at least 32 bytes"
            )
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._secret,
                algorithms=[ALGORITHM],
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY,
                options={"require": _REQUIRED, "strict_aud": True},
            )
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("the token has expired; get a new one") from None
        except jwt.InvalidAudienceError:
            raise Forbidden(f"the token is not for the team {self._team!r} in this environment") from None
        except jwt.InvalidIssuerError:
            raise Unauthenticated("the token was issued by somebody else") from None
        except jwt.InvalidAlgorithmError:
            raise Unauthenticated(f"the token is not signed with {ALGORITHM}") from None
        except jwt.MissingRequiredClaimError as error:
            raise Unauthenticated(f"the token lacks the claim {error.claim!r}") from None
        except jwt.InvalidSignatureError:
            raise Unauthenticated("the token's signature is not valid here") from None
        except jwt.InvalidTokenError:
            raise Unauthenticated("the token cannot be read") from None
        return claims

    def _principal(self, claims: dict[str, Any]) -> Principal:
        subject = claims["sub"]
        kind, _, name = subject.partition(":")
        roles = claims.get("roles", [])
        if kind not in ("user", "team") or not is_name(name) or not isinstance(roles, list):
            raise Unauthenticated("the token does not say who the caller is")
        return Principal(
            owner=Owner(claims["iss"], subject),
            kind=kind,
            name=name,
            roles=frozenset(str(role) for role in roles) if kind == "user" else frozenset(),
            expires_at=int(claims["exp"]),
        )
