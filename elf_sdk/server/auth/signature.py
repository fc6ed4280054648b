"""Compact JSON Web Signatures (RFC 7515, section 7.1), checked with a key that was chosen beforehand. Pure.

The algorithm is the key's. What a token says of its own algorithm has to be the same, and chooses nothing (RFC 8725,
section 3.1). Whatever else a header says of keys (`jwk`, `jku`, `x5c`, `x5u`) is not read.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from dataclasses import dataclass
from typing import Any, Final, Literal, cast, get_args

from elf_sdk.errors import BadInput, Unauthenticated

__all__ = ["ALGORITHMS", "Algorithm", "Compact", "Key", "json_object", "parse"]

Algorithm = Literal["EdDSA", "ES256", "RS256", "HS256"]
"""What a signature is checked by (RFC 7518, section 3.1; RFC 8037): EdDSA is Ed25519, ES256 is on P-256."""

ALGORITHMS: Final[tuple[Algorithm, ...]] = get_args(Algorithm)

_SHORTEST_SECRET: Final = 32


@dataclass(frozen=True, slots=True)
class Key:
    """What checks a signature, and how.

    Attributes:
        algorithm: the only one that it is used with.
        material: of PyJWT: bytes for HS256, else a public key.
        kid: its name in its key set (RFC 7517, section 4.5), where it has one.
    """

    algorithm: Algorithm
    material: Any
    kid: str | None = None

    @classmethod
    def shared(cls, secret: str | bytes) -> Key:
        """A shared secret, for HS256.

        Raises:
            BadInput: it has less than 32 bytes (RFC 7518, section 3.2).
        """
        material = secret.encode() if isinstance(secret, str) else secret
        if len(material) < _SHORTEST_SECRET:
            raise BadInput(f"the shared secret has {len(material)} bytes; HS256 needs at least {_SHORTEST_SECRET}")
        return cls("HS256", material)


@dataclass(frozen=True, slots=True)
class Compact:
    """A token in its parts. Nothing of it is proven before `check`.

    Attributes:
        header: the protected header.
        payload: what was signed, decoded.
        signed: what the signature is about.
        signature: decoded.
    """

    header: dict[str, Any]
    payload: bytes
    signed: bytes
    signature: bytes

    @property
    def kid(self) -> str | None:
        """Name of the key that the token says it was signed with; only ever looked up in a set.

        Raises:
            Unauthenticated: it is no text.
        """
        kid = self.header.get("kid")
        if kid is not None and not isinstance(kid, str):
            raise Unauthenticated("the token cannot be read: its kid is no text")
        return kid

    def check(self, key: Key) -> None:
        """Return if the signature is the key's.

        Raises:
            Unauthenticated: it is not, or the token names another algorithm.
        """
        if self.header.get("alg") != key.algorithm:
            raise Unauthenticated(f"the token is not signed with {key.algorithm}")
        if not self._is_genuine(key):
            raise Unauthenticated("the token's signature is not valid here")

    def _is_genuine(self, key: Key) -> bool:
        if key.algorithm == "HS256":
            return hmac.compare_digest(hmac.digest(key.material, self.signed, "sha256"), self.signature)
        import jwt  # with cryptography, which a team with a shared secret does without

        try:
            return jwt.get_algorithm_by_name(key.algorithm).verify(self.signed, key.material, self.signature)
        except (ValueError, TypeError):  # an impossible signature, such as an integer that is out of range
            return False


def parse(token: str) -> Compact:
    """Take a token apart. Every part has exactly one spelling, so no two texts are the same token.

    Raises:
        Unauthenticated: it is no compact JWS, or has an extension that must be understood and is not.
    """
    parts = token.split(".")
    if len(parts) != 3:
        raise Unauthenticated("the token cannot be read: it has not three parts")
    raw = [_decoded(part) for part in parts]
    header = json_object(raw[0])
    # None is understood, and `b64` would change what was signed (RFC 7797).
    if "crit" in header or "b64" in header:
        raise Unauthenticated("the token has an extension that is not understood here")
    signed, _, _ = token.rpartition(".")
    return Compact(header, raw[1], signed.encode(), raw[2])


def json_object(data: bytes) -> dict[str, Any]:
    """The JSON object in a part of a token.

    Raises:
        Unauthenticated: it is none, or names something twice, which readers understand differently.
    """
    try:
        value = json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Unauthenticated("the token cannot be read: it holds no JSON object") from None
    if not isinstance(value, dict):
        raise Unauthenticated("the token cannot be read: it holds no JSON object")
    return cast("dict[str, Any]", value)


def _decoded(part: str) -> bytes:
    try:
        encoded = part.encode("ascii")
        decoded = base64.urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4))
    except (UnicodeEncodeError, binascii.Error):
        raise Unauthenticated("the token cannot be read: it is not base64url") from None
    # The decoder is lenient: it skips what is not in the alphabet, and ignores bits that are left over.
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != encoded:
        raise Unauthenticated("the token cannot be read: it is not base64url")
    return decoded


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name is there twice")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
