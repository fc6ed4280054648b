"""Key sets: which keys count, where they are read, and what happens while they cannot be."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from elf_sdk.errors import BadInput, Retryable, Unauthenticated
from elf_sdk.server.auth import Verifier, audience
from elf_sdk.server.auth.anchors import ElfIssuer
from elf_sdk.server.auth.keys import read_key_set
from elf_sdk.server.auth.signature import Algorithm
from elf_sdk.server.auth.sources import Discovery, FetchedKeys, KeyFile, KeyUrl, Origin
from tests.server.signing import Publisher, SigningKey, certificate, claims, key_set, publishing

ISSUER = "https://issuer.example"
ALGORITHMS: list[Algorithm] = ["EdDSA", "ES256", "RS256"]


@pytest.fixture
def publisher() -> Generator[Publisher, None, None]:
    with publishing() as server:
        yield server


def token(key: SigningKey, **changes: Any) -> str:
    return key.sign(claims(ISSUER, audience("acme", "dev", "brand"), "user:ada", **changes))


def verifier(keys: FetchedKeys) -> Verifier:
    return Verifier("", "acme", "dev", "brand", [ElfIssuer(ISSUER, keys)])


@asynccontextmanager
async def kept(keys: FetchedKeys) -> AsyncGenerator[None, None]:
    task = asyncio.create_task(keys.keep())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await keys.close()


async def eventually(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the keys tell nobody when they change
            await asyncio.sleep(0.01)


# Which keys count.


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_is_for_one_algorithm(algorithm: Algorithm) -> None:
    every = [SigningKey(name, name) for name in ALGORITHMS]
    found = read_key_set(key_set(*every), algorithm)
    assert [key.kid for key in found.keys] == [algorithm]
    assert found.skipped == 2


ED25519, EC, RSA = SigningKey("EdDSA"), SigningKey("ES256"), SigningKey("RS256")
SKIPPED: dict[str, tuple[SigningKey, dict[str, Any]]] = {
    "for encryption": (EC, {"use": "enc"}),
    "only for signing": (EC, {"key_ops": ["sign"]}),
    "operations that are no list": (EC, {"key_ops": "verify"}),
    "another algorithm": (EC, {"alg": "ES384"}),
    "an algorithm of a shared secret": (EC, {"alg": "HS256"}),
    "another type": (EC, {"kty": "oct", "k": "c2VjcmV0"}),
    "another curve": (EC, {"crv": "P-384"}),
    "Ed448": (ED25519, {"crv": "Ed448"}),
    "X25519": (ED25519, {"crv": "X25519"}),
    "a point beside the curve": (EC, {"y": EC.jwk()["x"]}),
    "a coordinate that is too short": (EC, {"x": "AQAB"}),
    "a coordinate with a foreign character": (EC, {"x": EC.jwk()["x"][:-1] + "!"}),
    "no coordinate": (EC, {"x": None}),
    "a private half": (EC, {"d": EC.jwk()["x"]}),
    "a name that is a number": (EC, {"kid": 1}),
    "an exponent of one": (RSA, {"e": "AQ"}),
    "a short modulus": (RSA, {"n": RSA.jwk()["n"][:171]}),
}


@pytest.mark.parametrize("case", SKIPPED)
def test_what_does_not_fit_is_skipped_and_the_rest_is_not(case: str) -> None:
    key, changes = SKIPPED[case]
    good = SigningKey(key.algorithm, "good")
    found = read_key_set(key_set(key.jwk(**changes), good), key.algorithm)  # type: ignore[arg-type]
    assert [one.kid for one in found.keys] == ["good"]


def test_of_two_keys_with_one_name_neither_counts() -> None:
    first, second, other = SigningKey(kid="same"), SigningKey(kid="same"), SigningKey(kid="other")
    assert [key.kid for key in read_key_set(key_set(first, second, other), "EdDSA").keys] == ["other"]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"1", b"{}", b'{"keys": 1}', b'{"keys": {}}', b"\xff"])
def test_what_is_no_key_set(data: bytes) -> None:
    with pytest.raises(BadInput):
        read_key_set(data, "EdDSA")


@pytest.mark.parametrize("junk", [1, None, "key", [], {}, {"kty": 1}, {"kty": "OKP", "crv": "Ed25519", "x": 1}])
def test_junk_in_a_set_is_skipped(junk: Any) -> None:
    assert read_key_set(json.dumps({"keys": [junk]}).encode(), "EdDSA").keys == ()


def test_a_token_without_a_key_s_name_is_checked_by_the_only_key() -> None:
    one, other = SigningKey(kid=None), SigningKey(kid="b")
    assert read_key_set(key_set(one), "EdDSA").find(None) is not None
    assert read_key_set(key_set(one, other), "EdDSA").find(None) is None


# Files.


def mounted(directory: Path, data: bytes) -> Path:
    """A file as a kubelet mounts it: through two links, the first of which is exchanged."""
    version = directory / f"..{time.monotonic_ns()}"
    version.mkdir(parents=True)
    (version / "jwks.json").write_bytes(data)
    link = directory / "..new"
    link.symlink_to(version.name)
    link.rename(directory / "..data")
    path = directory / "jwks.json"
    if not path.is_symlink():
        path.symlink_to("..data/jwks.json")
    return path


async def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    old, new = SigningKey(kid="old"), SigningKey(kid="new")
    keys = FetchedKeys(ISSUER, KeyFile(str(mounted(tmp_path, key_set(old))), period=0.05), "EdDSA")
    team = verifier(keys)
    async with kept(keys):
        taken = token(old)
        assert (await team.identify(taken)).name == "ada"
        mounted(tmp_path, key_set(new))
        await eventually(lambda: keys.find("new"))
        assert (await team.identify(token(new))).name == "ada"
        # A token by a key that was taken away is refused, also where it was verified before.
        with pytest.raises(Unauthenticated, match="a key that its issuer does not have"):
            await team.identify(taken)


async def test_a_file_that_is_broken_or_gone_changes_nothing(tmp_path: Path) -> None:
    key = SigningKey()
    path = tmp_path / "jwks.json"
    path.write_bytes(key_set(key))
    keys = FetchedKeys(ISSUER, KeyFile(str(path)), "EdDSA")
    await keys.read()
    for damage in (b"", b'{"keys": [', b"x" * 300_000):
        path.write_bytes(damage)
        await keys.read()
        assert keys.problem
        assert (await verifier(keys).identify(token(key))).name == "ada"
    path.unlink()
    await keys.read()
    assert "No such file" in keys.problem
    assert (await verifier(keys).identify(token(key))).name == "ada"
    path.write_bytes(key_set(key))
    await keys.read()
    assert keys.problem == ""


# Addresses.


async def test_an_unknown_key_is_fetched_once_however_many_ask(publisher: Publisher) -> None:
    key, stranger = SigningKey(kid="known"), SigningKey(kid="stranger")
    publisher.answers["/jwks"] = key_set(key)
    publisher.delay = 0.2
    keys = FetchedKeys(ISSUER, KeyUrl(f"{publisher.address}/jwks"), "EdDSA")
    team = verifier(keys)
    # Before the first reading every key is unknown: all wait for the same one.
    principals = await asyncio.gather(*(team.identify(token(key)) for _ in range(50)))
    assert {principal.name for principal in principals} == {"ada"}
    assert publisher.asked == ["/jwks"]
    flood = [SigningKey(kid=f"flood-{number}") for number in range(50)]
    refused = await asyncio.gather(
        *(team.identify(token(one)) for one in [stranger, *flood] * 4), return_exceptions=True
    )
    assert {type(error) for error in refused} == {Unauthenticated}
    assert publisher.asked == ["/jwks"]


async def test_a_new_key_is_known_at_once_if_nobody_asked_lately(publisher: Publisher) -> None:
    old, new = SigningKey(kid="old"), SigningKey(kid="new")
    now = [1000.0]
    publisher.answers["/jwks"] = key_set(old)
    keys = FetchedKeys(ISSUER, KeyUrl(f"{publisher.address}/jwks"), "EdDSA", clock=lambda: now[0])
    team = verifier(keys)
    assert await team.identify(token(old))
    publisher.answers["/jwks"] = key_set(old, new)
    now[0] += 29.9
    with pytest.raises(Unauthenticated):
        await team.identify(token(new))
    now[0] += 0.1
    assert await team.identify(token(new))
    assert len(publisher.asked) == 2


async def test_the_last_good_keys_serve_for_24_hours(publisher: Publisher) -> None:
    key = SigningKey()
    now = [1000.0]
    publisher.answers["/jwks"] = key_set(key)
    keys = FetchedKeys(ISSUER, KeyUrl(f"{publisher.address}/jwks"), "EdDSA", clock=lambda: now[0])
    team = verifier(keys)
    remembered = token(key)
    assert await team.identify(remembered)
    publisher.status = 500
    now[0] += 24 * 3600
    await keys.read()
    assert keys.problem == "it answered with HTTP 500"
    assert await team.identify(remembered)
    assert await team.identify(token(key))
    now[0] += 1
    await keys.read()
    for late in (remembered, token(key)):
        # Whether the token is good cannot be told, which is not the caller's fault.
        with pytest.raises(Retryable, match="the keys of the token's issuer cannot be read now"):
            await team.identify(late)
    publisher.status = 200
    now[0] += 30
    assert await team.identify(remembered)


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        (500, b"{}", "it answered with HTTP 500"),
        (302, b"{}", "it answered with HTTP 302"),
        (200, b"<html>", "it is not JSON"),
        (200, b'{"keys": [' + b" " * 300_000 + b"]}", "it has more than 262144 bytes"),
    ],
)
async def test_an_address_that_gives_no_keys(publisher: Publisher, status: int, body: bytes, problem: str) -> None:
    publisher.status = status
    publisher.answers |= {"/jwks": body, "/elsewhere": key_set(SigningKey())}
    keys = FetchedKeys(ISSUER, KeyUrl(f"{publisher.address}/jwks"), "EdDSA")
    await keys.read()
    assert (keys.problem, keys.keys.keys, publisher.asked) == (problem, (), ["/jwks"])


async def test_an_address_that_is_slow_or_away_holds_nobody_else_up(publisher: Publisher) -> None:
    publisher.answers["/jwks"] = key_set(SigningKey())
    publisher.delay = 7
    keys = FetchedKeys(ISSUER, KeyUrl(f"{publisher.address}/jwks"), "EdDSA")
    reading = asyncio.create_task(keys.read())
    turns = 0
    while not reading.done():
        await asyncio.sleep(0.01)
        turns += 1
    assert keys.problem == "it did not answer within 5 s"
    assert turns > 20, "everybody else waited too"
    publisher.delay = 0


async def test_who_goes_away_does_not_stop_the_reading_of_others(publisher: Publisher) -> None:
    key = SigningKey()
    publisher.answers["/jwks"] = key_set(key)
    publisher.delay = 0.3
    team = verifier(FetchedKeys(ISSUER, KeyUrl(f"{publisher.address}/jwks"), "EdDSA"))
    first, second = (asyncio.create_task(team.identify(token(key))) for _ in range(2))
    await asyncio.sleep(0.1)
    first.cancel()
    assert (await second).name == "ada"
    assert publisher.asked == ["/jwks"]


async def test_an_api_server_is_asked_with_a_token_and_trusted_by_its_own_certificates(tmp_path: Path) -> None:
    key = SigningKey("RS256")
    pem = certificate(tmp_path / "server.pem")
    projected = tmp_path / "token"
    with publishing(pem) as server:
        server.answers["/openid/v1/jwks"] = key_set(key)
        url = f"{server.address}/openid/v1/jwks"
        keys = FetchedKeys(ISSUER, KeyUrl(url, str(projected), str(pem)), "RS256")
        await keys.read()
        assert "No such file" in keys.problem
        for written in ("first", "renewed"):
            projected.write_text(f"{written}\n")
            await keys.read()
            assert (keys.problem, server.tokens[-1]) == ("", f"Bearer {written}")
        assert keys.find("k1") is not None
        stranger = FetchedKeys(ISSUER, KeyUrl(url, str(projected)), "RS256")
        await stranger.read()
        assert stranger.problem == "it cannot be fetched (ConnectError)"


# The issuer's own word.


async def test_an_issuer_says_itself_where_its_keys_are(publisher: Publisher) -> None:
    issuer = publisher.address
    configuration = {"issuer": issuer, "jwks_uri": f"{issuer}/keys"}
    publisher.answers |= {
        "/.well-known/openid-configuration": json.dumps(configuration).encode(),
        "/keys": key_set(SigningKey("RS256")),
    }
    keys = FetchedKeys(issuer, Discovery(issuer), "RS256")
    await keys.read()
    assert (keys.problem, len(keys.keys.keys)) == ("", 1)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"issuer": "https://other.example"}, "it is not the OpenID configuration of "),
        ({"jwks_uri": None}, "its jwks_uri is no https address"),
        ({"jwks_uri": "http://issuer.example/keys"}, "its jwks_uri is no https address"),
        ({"jwks_uri": "file:///etc/passwd"}, "its jwks_uri is no https address"),
    ],
)
async def test_an_issuer_that_says_something_else(publisher: Publisher, changes: dict[str, Any], problem: str) -> None:
    issuer = publisher.address
    configuration = {"issuer": issuer, "jwks_uri": f"{issuer}/keys", **changes}
    publisher.answers["/.well-known/openid-configuration"] = json.dumps(configuration).encode()
    keys = FetchedKeys(issuer, Discovery(issuer), "RS256")
    await keys.read()
    assert keys.problem.startswith(problem)
    assert publisher.asked == ["/.well-known/openid-configuration"]


def test_origins_name_themselves_for_the_log() -> None:
    origins: list[Origin] = [
        KeyFile("/keys/jwks.json"),
        KeyUrl("https://a.example/jwks"),
        Discovery("https://a.example/"),
    ]
    assert [str(origin) for origin in origins] == [
        "/keys/jwks.json",
        "https://a.example/jwks",
        "https://a.example/.well-known/openid-configuration",
    ]
