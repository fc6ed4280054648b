"""Verifies the tokens of one team's callers against whom it trusts."""

from __future__ import annotations

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from elf_sdk.errors import Forbidden, Retryable, Unauthenticated
from elf_sdk.server.auth.anchors import Anchor, ElfIssuer
from elf_sdk.server.auth.issuer import issuer_name
from elf_sdk.server.auth.keys import KeySet, KeySource, SharedKey
from elf_sdk.server.auth.principals import Principal
from elf_sdk.server.auth.signature import Compact, json_object, parse
from elf_sdk.settings import audience

__all__ = ["LEEWAY", "Verifier"]

LEEWAY: Final = 30
"""Seconds by which clocks may differ."""
_CACHE: Final = 10_000
_LONGEST: Final = 8192
"""Characters of a token. A service account's has about 1,000."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A token that was verified, and the keys that it was verified with."""

    principal: Principal
    source: KeySource
    keys: KeySet


class _UnknownKeyError(Unauthenticated):
    """The token names a key that is not in the issuer's set as far as it is known."""

    def __init__(self, source: KeySource) -> None:
        super().__init__("the token is signed with a key that its issuer does not have")
        self.source = source


class Verifier:
    """Verifies tokens for one team. A verified token is remembered until it expires, or its issuer's keys change.

    Args:
        secret: the shared secret, for tokens of `elf dev` and of a single team; empty: there is none.
        organisation: that the audience must name.
        environment: that the audience must name.
        team: that the audience must name.
        anchors: who else is trusted; no two with the same issuer.
        clock: Unix time in seconds.

    Raises:
        BadInput: the secret has less than 32 bytes.
    """

    def __init__(
        self,
        secret: str,
        organisation: str,
        environment: str,
        team: str,
        anchors: Sequence[Anchor] = (),
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._team = team
        self._audience = audience(organisation, environment, team)
        self._anchors = {anchor.issuer: anchor for anchor in anchors}
        if secret:
            own = issuer_name(organisation, environment)
            self._anchors.setdefault(own, ElfIssuer(own, SharedKey(secret)))
        self._clock = clock
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    async def identify(self, token: str) -> Principal:
        """The caller that the token proves, like `verify`; keys that are not at hand are fetched.

        Raises:
            Unauthenticated: the token proves nothing here.
            Forbidden: the token is genuine, and gives no right here.
            Retryable: whether it proves something cannot be told now, because the issuer's keys cannot be read.
        """
        try:
            return self.verify(token)
        except _UnknownKeyError as unknown:
            source = unknown.source
        await source.ask()
        try:
            return self.verify(token)
        except _UnknownKeyError as unknown:
            if not source.problem:
                raise Unauthenticated(str(unknown)) from None
            # Not the caller's fault, perhaps, and nothing that another token would change.
            raise Retryable("the keys of the token's issuer cannot be read now; send it again later") from None

    def verify(self, token: str) -> Principal:
        """The caller that the token proves, by the keys at hand.

        Raises:
            Unauthenticated: the token is malformed, expired, signed by somebody else or by another algorithm.
            Forbidden: the token is genuine, and for another team, or of somebody who cannot call.
        """
        if len(token) > _LONGEST or not token.isascii():
            raise Unauthenticated(f"the token cannot be read: it has at most {_LONGEST} characters, of ASCII")
        digest = hashlib.sha256(token.encode()).digest()
        known = self._known.get(digest)
        if (
            known is not None
            and known.keys is known.source.keys
            and known.principal.expires_at + LEEWAY > self._clock()
        ):
            return known.principal
        principal, source = self._verified(parse(token))
        self._known[digest] = _Known(principal, source, source.keys)
        if len(self._known) > _CACHE:
            self._known.popitem(last=False)
        return principal

    def _verified(self, token: Compact) -> tuple[Principal, KeySource]:
        if not self._anchors:
            raise Unauthenticated(
                "this team trusts nobody who issues tokens, so it can accept none; set JWT_SECRET_KEY, of at least 32 "
                "bytes, or ELF_JWKS_FILE or ELF_JWKS_URL"
            )
        claims = json_object(token.payload)
        # Not proven yet. It only chooses by whose keys, and by which algorithm, the token is checked.
        issuer = claims.get("iss")
        if issuer is None:
            raise Unauthenticated("the token lacks the claim 'iss'")
        anchor = self._anchors.get(issuer) if isinstance(issuer, str) else None
        if anchor is None:
            raise Unauthenticated("the token was issued by somebody else")
        self._check_signature(token, anchor)
        for name in anchor.required:
            if claims.get(name) is None:
                raise Unauthenticated(f"the token lacks the claim {name!r}")
        self._check_time(claims)
        for name in ("sub", "jti"):
            if not isinstance(claims.get(name, ""), str):
                raise Unauthenticated(f"the token cannot be read: its {name} is no text")
        if not anchor.is_for(claims["aud"], self._audience):
            raise Forbidden(f"the token is not for the team {self._team!r} in this environment")
        return anchor.principal(claims, int(claims["exp"])), anchor.source

    def _check_signature(self, token: Compact, anchor: Anchor) -> None:
        kind = token.header.get("typ", "")
        if not isinstance(kind, str) or kind.lower() not in anchor.types:
            raise Unauthenticated("the token is of a type that is not for calling")
        key = anchor.source.find(token.kid)
        if key is None:
            raise _UnknownKeyError(anchor.source)
        token.check(key)

    def _check_time(self, claims: dict[str, Any]) -> None:
        now = self._clock()
        if _seconds(claims, "exp") + LEEWAY <= now:
            raise Unauthenticated("the token has expired; get a new one")
        if max(_seconds(claims, "iat"), _seconds(claims, "nbf")) - LEEWAY > now:
            raise Unauthenticated("the token is not valid yet; compare the clocks of its issuer and of this team")


def _seconds(claims: dict[str, Any], name: str) -> float:
    """A NumericDate (RFC 7519, section 2); 0 where it is absent."""
    value = claims.get(name)
    if value is None:
        return 0.0
    if type(value) not in (int, float) or not math.isfinite(value) or not 0 <= value < 2**53:
        raise Unauthenticated(f"the token cannot be read: its {name} is no time")
    return float(value)
