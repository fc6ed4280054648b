"""Keys of an issuer, and sets of public ones (JWK Set, RFC 7517), read for one algorithm. Pure."""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, Protocol

import orjson

from elf_sdk.errors import BadInput
from elf_sdk.server.auth.signature import Algorithm, Key

__all__ = ["KeySet", "KeySource", "SharedKey", "read_key_set"]

_MOST_KEYS: Final = 100
_RSA_BITS: Final = range(2048, 8192 + 1)
"""RFC 7518, section 3.3; and what can be checked in a fraction of a millisecond."""
_KINDS: Final[Mapping[str, tuple[str, str | None, tuple[str, ...]]]] = {
    "EdDSA": ("OKP", "Ed25519", ("x",)),
    "ES256": ("EC", "P-256", ("x", "y")),
    "RS256": ("RSA", None, ("n", "e")),
}
"""By algorithm: kty, crv, and the fields that make the key."""


@dataclass(frozen=True, slots=True)
class KeySet:
    """Keys of one issuer, all of one algorithm.

    Attributes:
        keys: in the order of the set.
        skipped: how many keys of the set are not for this algorithm, or not for signatures.
    """

    keys: tuple[Key, ...] = ()
    skipped: int = field(default=0, compare=False)

    def find(self, kid: str | None) -> Key | None:
        """The key of that name; without a name the only key, where there is just one."""
        if kid is None:
            return self.keys[0] if len(self.keys) == 1 else None
        return next((key for key in self.keys if key.kid == kid), None)


class KeySource(Protocol):
    """Keys of one issuer.

    Attributes:
        keys: those that serve now; another object as soon as they are others.
        problem: why the source could not be read the last time, or empty.
    """

    keys: KeySet
    problem: str

    def find(self, kid: str | None) -> Key | None:
        """The key that a token names, as far as it is known now."""
        ...

    async def ask(self) -> None:
        """Read the source again, where that is not too soon."""
        ...


class SharedKey:
    """The shared secret, which has no name and never changes."""

    def __init__(self, secret: str) -> None:
        self.keys = KeySet((Key.shared(secret),))
        self.problem = ""

    def find(self, kid: str | None) -> Key | None:
        """The secret, whatever the token calls it."""
        return self.keys.keys[0]

    async def ask(self) -> None:
        """Return: there is nothing to ask."""


def read_key_set(data: bytes, algorithm: Algorithm) -> KeySet:
    """The keys of a JWK Set that are for `algorithm`.

    A key of another type or curve, for encryption, with another `alg`, with a private half, that is weak or not on its
    curve is skipped, and so are keys that share a name.

    Raises:
        BadInput: it is no JWK Set.
    """
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise BadInput("it is not JSON") from None
    found = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(found, list) or len(found) > _MOST_KEYS:
        raise BadInput(f"it is no JWK Set: an object with `keys`, a list of at most {_MOST_KEYS}")
    fitting = [key for jwk in found if (key := _key(jwk, algorithm)) is not None]
    names = Counter(key.kid for key in fitting)
    keys = tuple(key for key in fitting if names[key.kid] == 1)
    return KeySet(keys, len(found) - len(keys))


def _key(jwk: Any, algorithm: Algorithm) -> Key | None:
    if not isinstance(jwk, dict) or algorithm not in _KINDS:
        return None
    kty, crv, parts = _KINDS[algorithm]
    kid = jwk.get("kid")
    operations = jwk.get("key_ops", ["verify"])
    if (
        jwk.get("kty") != kty
        or (crv is not None and jwk.get("crv") != crv)
        or jwk.get("use", "sig") != "sig"
        or jwk.get("alg", algorithm) != algorithm
        or not isinstance(operations, list)
        or "verify" not in operations
        or not isinstance(kid, str | None)
        or "d" in jwk
        or not all(_is_base64url(jwk.get(part)) for part in parts)
    ):
        return None
    import jwt  # with cryptography, which a team with a shared secret does without

    try:
        material: Any = jwt.PyJWK({"kty": kty, "crv": crv, **{part: jwk[part] for part in parts}}, algorithm).key
    except (jwt.PyJWTError, ValueError):  # such as a point that is not on its curve
        return None
    if algorithm == "RS256" and (material.key_size not in _RSA_BITS or _is_roca(material.public_numbers().n)):
        return None
    return Key(algorithm, material, kid)


def _is_base64url(value: Any) -> bool:
    if not isinstance(value, str) or not value.isascii():
        return False
    encoded = value.encode()
    try:
        decoded = base64.urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4))
    except binascii.Error:
        return False
    return bool(decoded) and base64.urlsafe_b64encode(decoded).rstrip(b"=") == encoded


def _is_roca(modulus: int) -> bool:
    """Whether a modulus has the fingerprint of a generator whose keys can be factored (CVE-2017-15361)."""
    return all(modulus % prime in residues for prime, residues in _roca_residues())


@cache
def _roca_residues() -> tuple[tuple[int, frozenset[int]], ...]:
    primes = [number for number in range(3, 168) if all(number % divisor for divisor in range(2, number))]
    return tuple((prime, frozenset(pow(65537, power, prime) for power in range(prime))) for prime in primes)
