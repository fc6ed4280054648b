"""Project Wycheproof's vectors for JSON Web Signatures and key sets, against what checks our tokens."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, Final

import pytest

from elf_sdk.errors import BadInput, Unauthenticated
from elf_sdk.server.auth.keys import KeySet, read_key_set
from elf_sdk.server.auth.signature import ALGORITHMS, Key, parse
from tests.suites.support import suite

SUITE = "wycheproof"
SOURCE = "https://github.com/C2SP/wycheproof"

VECTORS = suite(SUITE, SOURCE) / "testvectors_v1"
ALGORITHM_OF: Final = {"oct": "HS256", "RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}

VALID: Final = 357
SAME_AS_VALID: Final = (367, 370)
NOT_BASE64: Final = (372, 373)
"""Numbers of vectors of signatures. The suite says of two that their padding is wrong, but they have none and are
the very token that it calls valid; and of two that they are valid, with a character that base64url does not have
(RFC 7515, section 2). `test_what_is_wrong_with_the_suite` shows both, and fails once the suite is mended."""


def vectors(name: str) -> list[Any]:
    """Each test of a file: its number, the key of its group, the token and what is expected."""
    document = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    return [
        pytest.param(
            test["tcId"],
            group.get("public") or group["private"],
            test["jws"],
            test["result"] == "valid",
            id=f"{test['tcId']}-{group['comment']}-{test['comment']}".replace(" ", "_"),
        )
        for group in document["testGroups"]
        for test in group["tests"]
    ]


def trusted(jwks: list[Mapping[str, Any]]) -> KeySet:
    """What is trusted by somebody who trusts these keys: keys of one algorithm.

    Raises:
        LookupError: nobody can be trusted by such keys here; the text says why.
    """
    algorithm = jwks[0].get("alg", ALGORITHM_OF[jwks[0]["kty"]])
    if algorithm not in ALGORITHMS:
        raise LookupError(f"{algorithm} is not among {', '.join(ALGORITHMS)}")
    if algorithm != "HS256":
        return read_key_set(json.dumps({"keys": jwks}).encode(), algorithm)
    if len(jwks) > 1:
        raise LookupError("a shared secret is alone, and not in a set")
    try:
        return KeySet((Key.shared(base64.urlsafe_b64decode(jwks[0]["k"] + "==")),))
    except BadInput as error:
        raise LookupError(str(error)) from None


def accepted(keys: KeySet, token: str) -> bool:
    """Whether the token is let through."""
    try:
        compact = parse(token)
        # A shared secret has no name.
        key = keys.find(None if keys.keys and keys.keys[0].algorithm == "HS256" else compact.kid)
        if key is None:
            return False
        compact.check(key)
    except Unauthenticated:
        return False
    return True


@pytest.mark.parametrize(("number", "jwk", "token", "valid"), vectors("json_web_signature_test"))
def test_a_signature(number: int, jwk: Mapping[str, Any], token: str, valid: bool) -> None:
    if number in (*SAME_AS_VALID, *NOT_BASE64):
        pytest.skip("the vector is wrong, which another test shows")
    try:
        keys = trusted([jwk])
    except LookupError as reason:
        if valid:
            pytest.skip(f"refused, because {reason}")
        return
    assert accepted(keys, token) == valid


@pytest.mark.parametrize(("number", "jwk", "token", "valid"), vectors("json_web_key_test"))
def test_a_key_set(number: int, jwk: Mapping[str, Any], token: str, valid: bool) -> None:
    try:
        keys = trusted(jwk["keys"])
    except LookupError as reason:
        if valid:
            pytest.skip(f"refused, because {reason}")
        return
    assert accepted(keys, token) == valid


def test_what_is_wrong_with_the_suite() -> None:
    tokens = {vector.values[0]: vector.values[2:] for vector in vectors("json_web_signature_test")}
    for number in SAME_AS_VALID:
        assert tokens[number] == (tokens[VALID][0], not tokens[VALID][1])
    for number in NOT_BASE64:
        assert "?" in tokens[number][0]
        assert tokens[number][1] is True
