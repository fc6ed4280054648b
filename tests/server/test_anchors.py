"""Attacks on what a token says: of ELF's own issuer, of a cluster, and of a foreign one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest

from elf_sdk.errors import BadInput, Denied, Forbidden, Unauthenticated
from elf_sdk.server.auth import LEEWAY, Issuer, Principal, Verifier, audience
from elf_sdk.server.auth.anchors import Anchor, Cluster, ElfIssuer, ForeignIssuer
from elf_sdk.server.auth.keys import KeySet, read_key_set
from elf_sdk.server.auth.signature import Key
from tests.server.signing import SigningKey, claims, key_set, service_account

OWN = "elf:acme:dev"
BRAND = audience("acme", "dev", "brand")
CLUSTER = "https://kubernetes.default.svc.cluster.local"
FOREIGN = "https://login.example/"
SECRET = "a secret that is only for this test, and long"

ED25519, EC, RSA = SigningKey("EdDSA"), SigningKey("ES256"), SigningKey("RS256")
OTHERS = {key.algorithm: SigningKey(key.algorithm, key.kid) for key in (ED25519, EC, RSA)}
CLUSTER_KEY, FOREIGN_KEY = SigningKey("RS256", "cluster"), SigningKey("RS256", "foreign")


class Keys:
    """Keys that are there."""

    problem = ""

    def __init__(self, key: SigningKey) -> None:
        self.keys: KeySet = read_key_set(key_set(key), key.algorithm)  # type: ignore[arg-type]
        assert self.keys.keys

    def find(self, kid: str | None) -> Key | None:
        return self.keys.find(kid)

    async def ask(self) -> None:
        """There is nothing to ask."""


def verifier(key: SigningKey = ED25519, clock: Any = time.time) -> Verifier:
    """The team `brand` in `elf-teams-dev`, which trusts all three kinds of issuer."""
    anchors: list[Anchor] = [
        ElfIssuer(OWN, Keys(key)),
        Cluster(CLUSTER, Keys(CLUSTER_KEY), "elf-teams-dev"),
        ForeignIssuer(FOREIGN, Keys(FOREIGN_KEY), "brand-app", "email", "app_metadata.roles"),
    ]
    return Verifier("", "acme", "dev", "brand", anchors, clock=clock)


def own(**changes: Any) -> dict[str, Any]:
    return claims(OWN, BRAND, "user:ada", **{"roles": ["user"], **changes})


def part(data: object) -> str:
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def refused(token: str, kind: type[Denied] = Unauthenticated, team: Verifier | None = None) -> str:
    """The sentence with which the token is refused."""
    with pytest.raises(kind) as raised:
        (team or verifier()).verify(token)
    return str(raised.value)


# Signatures.


@pytest.mark.parametrize("key", [ED25519, EC, RSA], ids=lambda key: key.algorithm)
def test_a_token_of_the_issuer_is_taken(key: SigningKey) -> None:
    person = verifier(key).verify(key.sign(own(roles=["admin", "user"])))
    assert (person.kind, person.name, person.roles) == ("user", "ada", frozenset({"admin", "user"}))
    team = verifier(key).verify(key.sign(own(sub="team:executive")))
    assert (team.kind, team.name, team.roles) == ("team", "executive", frozenset())
    assert (team.owner.issuer, team.owner.subject) == (OWN, "team:executive")


@pytest.mark.parametrize("key", [ED25519, EC, RSA], ids=lambda key: key.algorithm)
def test_a_key_of_the_same_name_is_not_the_issuer_s(key: SigningKey) -> None:
    assert refused(OTHERS[key.algorithm].sign(own()), team=verifier(key)) == "the token's signature is not valid here"


@pytest.mark.parametrize("key", [ED25519, EC, RSA], ids=lambda key: key.algorithm)
def test_a_public_key_is_no_shared_secret(key: SigningKey) -> None:
    materials = [key.pem(), key.pem().strip(), json.dumps(key.jwk()).encode(), key.jwk().get("x", "").encode()]
    for material in materials:
        for algorithm, digest in (("HS256", "sha256"), ("HS512", "sha512"), (key.algorithm, "sha256")):
            signed = f"{part({'alg': algorithm, 'typ': 'JWT', 'kid': key.kid})}.{part(own())}"
            mac = hmac.digest(material, signed.encode(), digest)
            assert refused(f"{signed}.{part(mac)}", team=verifier(key)).startswith("the token")


@pytest.mark.parametrize("key", [ED25519, EC, RSA], ids=lambda key: key.algorithm)
def test_no_issuer_has_two_algorithms(key: SigningKey) -> None:
    for other in (ED25519, EC, RSA):
        if other is not key:
            assert refused(other.sign(own()), team=verifier(key)) == f"the token is not signed with {key.algorithm}"


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "", None, 1, ["EdDSA"], {"EdDSA": 1}, "eddsa", "EdDSA "])
def test_what_a_token_says_of_its_algorithm_chooses_nothing(alg: Any) -> None:
    header, _, signature = ED25519.sign(own()).split(".")
    changed = {**json.loads(base64.urlsafe_b64decode(header + "==")), "alg": alg}
    for end in (signature, ""):
        refused(f"{part(changed)}.{part(own())}.{end}")


def test_a_key_that_a_token_brings_along_is_not_used() -> None:
    stranger = OTHERS["EdDSA"]
    chain = [base64.b64encode(stranger.pem()).decode()]
    url = "https://evil.example/jwks"
    for header in ({"jwk": stranger.jwk()}, {"jku": url}, {"x5u": url}, {"x5c": chain}):
        assert refused(stranger.sign(own(), **header)) == "the token's signature is not valid here"
        # Nor do they harm a token that is good without them.
        assert verifier().verify(ED25519.sign(own(), **header)).name == "ada"


@pytest.mark.parametrize(
    "kid",
    ["../../../../dev/null", "/dev/null", "https://evil.example/key", "k1\x00", "K1", " k1", "' OR 1=1 --", "x" * 2000],
)
def test_a_key_s_name_is_only_looked_up(kid: str) -> None:
    sentence = "the token is signed with a key that its issuer does not have"
    assert refused(ED25519.sign(own(), kid=kid)) == sentence
    # An empty secret is what /dev/null holds.
    signed = f"{part({'alg': 'HS256', 'typ': 'JWT', 'kid': kid})}.{part(own())}"
    refused(f"{signed}.{part(hmac.digest(b'', signed.encode(), hashlib.sha256))}")


@pytest.mark.parametrize("kid", [1, ["k1"], {"k1": 1}, True])
def test_a_key_s_name_is_text(kid: Any) -> None:
    header = part({"alg": "EdDSA", "typ": "JWT", "kid": kid})
    assert refused(f"{header}.{part(own())}.{part(b'x' * 64)}") == "the token cannot be read: its kid is no text"


@pytest.mark.parametrize(
    "extension", [{"crit": ["exp"]}, {"crit": []}, {"b64": False}, {"b64": True}, {"crit": ["b64"], "b64": False}]
)
def test_an_extension_that_is_not_understood_is_refused(extension: dict[str, Any]) -> None:
    header = {"alg": "EdDSA", "typ": "JWT", "kid": "k1", **extension}
    signed = f"{part(header)}.{part(own())}"
    token = f"{signed}.{part(ED25519.private.sign(signed.encode()))}"
    assert refused(token) == "the token has an extension that is not understood here"


@pytest.mark.parametrize("kind", ["elf-grant+jwt", "elf-ticket+jwt", "at+jwt", "JWE", 1, None])
def test_another_type_of_token_is_not_for_calling(kind: Any) -> None:
    signed = f"{part({'alg': 'EdDSA', 'typ': kind, 'kid': 'k1'})}.{part(own())}"
    token = f"{signed}.{part(ED25519.private.sign(signed.encode()))}"
    assert refused(token) == "the token is of a type that is not for calling"


def test_one_token_has_one_spelling() -> None:
    header, payload, signature = ED25519.sign(own()).split(".")
    team = verifier()
    assert team.verify(f"{header}.{payload}.{signature}")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    # 64 bytes leave four bits over in the last character, which a lenient decoder ignores.
    same_bytes = signature[:-1] + alphabet[alphabet.index(signature[-1]) ^ 1]
    for changed in (same_bytes, signature + "=", signature + "==", signature + "\n", " " + signature, signature + "A"):
        refused(f"{header}.{payload}.{changed}", team=team)
    for text in (f"{header}.{payload}", f"{header}.{payload}.{signature}.", f".{header}.{payload}.{signature}", ".."):
        refused(text, team=team)


def test_a_name_that_is_there_twice_is_refused() -> None:
    def signed(header: bytes, payload: bytes) -> str:
        text = f"{part(header)}.{part(payload)}"
        return f"{text}.{part(ED25519.private.sign(text.encode()))}"

    good = json.dumps(own()).encode()
    header = b'{"alg":"EdDSA","kid":"k1"}'
    assert verifier().verify(signed(header, good))
    for bad_header, payload in (
        (b'{"alg":"none","alg":"EdDSA","kid":"k1"}', good),
        (header, good[:-1] + b',"sub":"user:root"}'),
        (header, good[:-1] + b',"exp":NaN}'),
        (header, good[:-1] + b',"exp":Infinity}'),
        (header, b"[" * 100_000),
        (header, b"[]"),
        (header, b'"text"'),
        (header, b"\xff\xfe"),
        (header, b""),
    ):
        refused(signed(bad_header, payload))


def test_a_token_is_not_longer_than_it_needs_to_be() -> None:
    long = ED25519.sign(own(filler="x" * 8192))
    assert refused(long) == "the token cannot be read: it has at most 8192 characters, of ASCII"
    assert verifier().verify(ED25519.sign(own(filler="x" * 4000)))


# Claims.

NUMBERS: list[Any] = ["soon", "9999999999", True, [], {}, -1, 1e300, 2**53, 2**70]
WRONG: dict[str, list[Any]] = {
    "iss": [None, "", "elf:acme:prod", "elf:acme:dev ", "ELF:acme:dev", [OWN], 1],
    "aud": [None],
    "sub": [
        None,
        "",
        "ada",
        "root:ada",
        "user:",
        "user",
        "USER:ada",
        "user:\x00",
        "user:" + "x" * 300,
        1,
        ["user:ada"],
    ],
    "iat": [None, *NUMBERS],
    "exp": [None, 0, *NUMBERS],
    "nbf": NUMBERS,
    "jti": [None, 1, ["1"]],
    "roles": ["admin", 1, {"admin": True}],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_claim_that_is_missing_or_wrong_proves_nothing(name: str, value: Any) -> None:
    # Written by hand, because the library that signs refuses some of it.
    payload = {key: val for key, val in {**own(), name: value}.items() if val is not None}
    signed = f"{part({'alg': 'EdDSA', 'typ': 'JWT', 'kid': 'k1'})}.{part(payload)}"
    sentence = refused(f"{signed}.{part(ED25519.private.sign(signed.encode()))}")
    if value is None:
        assert sentence == f"the token lacks the claim {name!r}"


OTHER_AUDIENCES: list[Any] = [
    audience("acme", "dev", "executive"),
    audience("acme", "prod", "brand"),
    audience("other", "dev", "brand"),
    BRAND.upper(),
    BRAND + "s",
    BRAND + " ",
    BRAND[:-1],
    "brand",
    "*",
    "elf:acme:dev:*",
    [BRAND],
    [BRAND, audience("acme", "dev", "executive")],
    {BRAND: True},
    "",
    [],
    True,
]


@pytest.mark.parametrize("given", OTHER_AUDIENCES, ids=str)
def test_a_genuine_token_for_somebody_else_is_forbidden(given: Any) -> None:
    said = refused(ED25519.sign({**own(), "aud": given}), Forbidden)
    assert said == "the token is not for the team 'brand' in this environment"


@pytest.mark.parametrize(
    ("changes", "taken"),
    [
        ({"exp": -LEEWAY + 1}, True),
        ({"exp": -LEEWAY}, False),
        ({"iat": LEEWAY}, True),
        ({"iat": LEEWAY + 1}, False),
        ({"nbf": LEEWAY}, True),
        ({"nbf": LEEWAY + 1}, False),
    ],
    ids=str,
)
def test_clocks_may_differ_by_30_seconds_and_no_more(changes: dict[str, int], taken: bool) -> None:
    now = 1_800_000_000
    team = verifier(clock=lambda: float(now))
    times = {"iat": now - 100, "exp": now + 100, **{name: now + seconds for name, seconds in changes.items()}}
    token = ED25519.sign(own(**times))
    if taken:
        assert team.verify(token).name == "ada"
    else:
        sentence = "the token has expired; get a new one" if "exp" in changes else "the token is not valid yet"
        assert refused(token, team=team).startswith(sentence)


def test_a_remembered_token_expires_as_any_other() -> None:
    now = [1_800_000_000.0]
    team = verifier(clock=lambda: now[0])
    token = ED25519.sign(own(iat=int(now[0]), exp=int(now[0]) + 60))
    assert team.verify(token) is team.verify(token)
    now[0] += 60 + LEEWAY - 0.1
    assert team.verify(token)
    now[0] += 0.1
    assert refused(token, team=team) == "the token has expired; get a new one"


def test_no_more_tokens_are_remembered_than_fit() -> None:
    team = Verifier(SECRET, "acme", "dev", "brand")
    tokens = [jwt.encode(own(jti=str(number)), SECRET, algorithm="HS256") for number in range(10_001)]
    principals = [team.verify(token) for token in tokens]
    assert team.verify(tokens[-1]) is principals[-1]
    assert team.verify(tokens[1]) is principals[1]
    # Verified anew: the first made room for the last.
    assert team.verify(tokens[0]) is not principals[0]


def test_every_team_in_every_environment_takes_its_own_tokens_only() -> None:
    places = [(org, env, team) for org in ("acme", "other") for env in ("dev", "prod") for team in ("a", "b", "c")]
    # The worst case: one secret for all of them.
    for place in places:
        issuer = Issuer(SECRET, *place[:2])
        for at in places:
            team = Verifier(SECRET, *at)
            for token in (issuer.user_token("ada", place[2]), issuer.team_token("x", place[2])):
                if place == at:
                    assert team.verify(token)
                else:
                    refused(token, Forbidden if place[:2] == at[:2] else Unauthenticated, team)


def test_a_short_secret_is_none() -> None:
    with pytest.raises(BadInput, match="the shared secret has 5 bytes; HS256 needs at least 32"):
        Verifier("short", "acme", "dev", "brand")


# Service accounts.


def workload(
    namespace: str = "elf-teams-dev",
    name: str = "executive",
    aud: Any = BRAND,
    key: SigningKey = CLUSTER_KEY,
    **more: Any,
) -> str:
    return key.sign(service_account(CLUSTER, aud, namespace, name, **more))


def test_a_service_account_is_the_team_of_its_name() -> None:
    caller = verifier().verify(workload())
    assert (caller.kind, caller.name, caller.roles) == ("team", "executive", frozenset())
    assert caller.owner.issuer == CLUSTER
    assert caller.owner.subject == "system:serviceaccount:elf-teams-dev:executive"


def test_another_pod_of_it_owns_the_same() -> None:
    first, second = verifier().verify(workload()), verifier().verify(workload(jti=None))
    assert first.owner == second.owner


def test_a_team_s_own_token_and_its_service_account_are_two_owners() -> None:
    assert verifier().verify(workload()).owner != verifier().verify(ED25519.sign(own(sub="team:executive"))).owner


@pytest.mark.parametrize("namespace", ["elf-teams", "elf-teams-dev2", "default", "kube-system", "elf-teams-de"])
def test_a_service_account_of_another_namespace_is_forbidden(namespace: str) -> None:
    assert "teams of this environment are in 'elf-teams-dev'" in refused(workload(namespace), Forbidden)


def test_a_service_account_of_another_cluster_of_the_same_name_is_refused() -> None:
    same_kid = SigningKey("RS256", "cluster")
    assert refused(workload(key=same_kid)) == "the token's signature is not valid here"
    assert refused(workload(key=SigningKey("RS256", "other"))).endswith("a key that its issuer does not have")


@pytest.mark.parametrize(
    "aud",
    [
        "https://kubernetes.default.svc.cluster.local",
        "brand-app",
        audience("acme", "dev", "executive"),
        audience("acme", "prod", "brand"),
        audience("other", "dev", "brand"),
        [BRAND, "https://kubernetes.default.svc.cluster.local"],
        [BRAND, BRAND],
        [BRAND.upper()],
    ],
    ids=str,
)
def test_a_service_account_s_token_for_anybody_else_is_forbidden(aud: Any) -> None:
    refused(workload(aud=aud), Forbidden)


@pytest.mark.parametrize(
    "changes",
    [
        {"sub": "user:ada"},
        {"sub": "team:executive"},
        {"sub": "system:node:node-1"},
        {"sub": "system:serviceaccount:elf-teams-dev"},
        {"sub": "system:serviceaccount:elf-teams-dev:executive:more"},
        {"sub": "system:serviceaccount:elf-teams-dev:Executive"},
        {"sub": "system:serviceaccount:elf-teams-dev:executive\n"},
        {"sub": "system:serviceaccount:elf-teams-dev:brand"},
        {"kubernetes.io": None},
        {"kubernetes.io": "elf-teams-dev"},
        {"kubernetes.io": {"namespace": "elf-teams-dev"}},
        {"kubernetes.io": {"namespace": "default", "serviceaccount": {"name": "executive"}}},
        {"kubernetes.io": {"namespace": "elf-teams-dev", "serviceaccount": {"name": "brand"}}},
        {"exp": None},
    ],
    ids=str,
)
def test_what_is_not_a_pod_s_token_proves_nothing(changes: dict[str, Any]) -> None:
    refused(workload(**changes))


# A foreign issuer.


def person(key: SigningKey = FOREIGN_KEY, **changes: Any) -> str:
    standard = {"email": "ada@example.com", "app_metadata": {"roles": ["admin"]}, "jti": None}
    return key.sign(claims(FOREIGN, "brand-app", "7f3c", **{**standard, **changes}))


def test_a_foreign_person_is_named_by_a_claim_and_owns_by_the_subject() -> None:
    caller = verifier().verify(person())
    assert (caller.kind, caller.name, caller.roles) == ("user", "ada@example.com", frozenset({"admin"}))
    assert (caller.owner.issuer, caller.owner.subject) == (FOREIGN, "user:7f3c")
    renamed = verifier().verify(person(email="ada.l@example.com"))
    assert renamed.owner == caller.owner


@pytest.mark.parametrize(
    ("changes", "roles"),
    [
        ({"app_metadata": {"roles": "admin user"}}, {"admin", "user"}),
        ({"app_metadata": {}}, set()),
        ({"app_metadata": None}, set()),
        ({"app_metadata": {"roles": {"admin": True}}}, set()),
        ({"app_metadata.roles": ["flat"]}, {"flat"}),
    ],
)
def test_foreign_roles_are_a_list_or_words(changes: dict[str, Any], roles: set[str]) -> None:
    assert verifier().verify(person(**changes)).roles == roles


def test_a_foreign_issuer_can_name_several_audiences() -> None:
    assert verifier().verify(person(aud=["userinfo", "brand-app"]))
    for aud in ("other-app", ["other-app"], BRAND, "brand-app2"):
        refused(person(aud=aud), Forbidden)


@pytest.mark.parametrize("changes", [{"email": None}, {"email": ""}, {"email": 1}, {"sub": None}, {"exp": None}])
def test_a_foreign_token_that_does_not_say_who(changes: dict[str, Any]) -> None:
    refused(person(**changes))


def test_no_issuer_speaks_for_another() -> None:
    """What each anchor could say of itself, signed by each of the others' keys."""
    payloads = [own(), own(sub="team:executive"), service_account(CLUSTER, BRAND, "elf-teams-dev", "executive")]
    payloads.append(claims(FOREIGN, "brand-app", "7f3c", email="ada@example.com"))
    keys = {OWN: ED25519, CLUSTER: CLUSTER_KEY, FOREIGN: FOREIGN_KEY}
    for payload in payloads:
        for issuer, key in keys.items():
            if issuer == payload["iss"]:
                assert isinstance(verifier().verify(key.sign(payload)), Principal)
            else:
                refused(key.sign(payload))
                refused(key.sign(payload, kid=keys[payload["iss"]].kid))


def test_a_foreign_issuer_knows_no_teams() -> None:
    assert verifier().verify(person(sub="team:executive")).kind == "user"
