"""Tokens: what is let in, what is refused, and with which words."""

import base64
import json
import time

import jwt
import pytest

from elf_sdk.errors import Forbidden, Unauthenticated
from elf_sdk.server.auth import LEEWAY, Issuer, Verifier, audience, bearer_token

SECRET = "a secret that is only for this test, and long"
OTHER = "another secret that is only for this test too"

NOT_YET = "the token is not valid yet; compare the clocks of its issuer and of this team"


@pytest.fixture
def issuer() -> Issuer:
    return Issuer(SECRET, "acme", "dev")


@pytest.fixture
def verifier() -> Verifier:
    return Verifier(SECRET, "acme", "dev", "brand")


def claims(**changes: object) -> dict[str, object]:
    now = int(time.time())
    base: dict[str, object] = {
        "iss": "elf:acme:dev",
        "aud": audience("acme", "dev", "brand"),
        "sub": "user:ada",
        "roles": ["user"],
        "iat": now,
        "exp": now + 60,
        "jti": "1",
    }
    merged = {**base, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def test_a_person_is_known_by_issuer_and_subject(issuer: Issuer, verifier: Verifier) -> None:
    principal = verifier.verify(issuer.user_token("ada", "brand", ("admin",)))
    assert (principal.kind, principal.name, principal.roles) == ("user", "ada", frozenset({"admin"}))
    assert (principal.owner.issuer, principal.owner.subject) == ("elf:acme:dev", "user:ada")


def test_a_team_is_no_person_of_the_same_name(issuer: Issuer, verifier: Verifier) -> None:
    team = verifier.verify(issuer.team_token("ada", "brand"))
    person = verifier.verify(issuer.user_token("ada", "brand"))
    assert team.kind == "team"
    assert team.roles == frozenset()
    assert team.owner != person.owner


def test_the_token_says_what_the_chat_contract_wants(issuer: Issuer) -> None:
    said = jwt.decode(issuer.user_token("ada", "brand"), options={"verify_signature": False})
    assert said["user_id"] == "ada"
    assert said["team_id"] == "brand"
    assert said["roles"] == ["user"]
    assert said["exp"] - said["iat"] == 3600
    assert {"iss", "aud", "sub", "jti"} <= said.keys()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"exp": int(time.time()) - 3600}, "the token has expired; get a new one"),
        ({"iss": "elf:acme:prod"}, "the token was issued by somebody else"),
        ({"jti": None}, "the token lacks the claim 'jti'"),
        ({"exp": None}, "the token lacks the claim 'exp'"),
        ({"aud": None}, "the token lacks the claim 'aud'"),
        ({"sub": "ada"}, "the token does not say who the caller is"),
        ({"sub": "root:ada"}, "the token does not say who the caller is"),
        ({"roles": "admin"}, "the token does not say who the caller is"),
        ({"nbf": int(time.time()) + 3600}, NOT_YET),
    ],
)
def test_a_wrong_claim_proves_nothing(verifier: Verifier, changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(Unauthenticated) as raised:
        verifier.verify(jwt.encode(claims(**changes), SECRET, algorithm="HS256"))
    assert str(raised.value) == sentence


@pytest.mark.parametrize("team", ["executive", "brands", "brand2", "BRAND", ""])
def test_a_token_for_another_team_is_forbidden(verifier: Verifier, team: str) -> None:
    with pytest.raises(Forbidden, match="not for the team 'brand'"):
        verifier.verify(jwt.encode(claims(aud=audience("acme", "dev", team)), SECRET, algorithm="HS256"))


def test_a_list_of_audiences_is_not_accepted(verifier: Verifier) -> None:
    both = [audience("acme", "dev", "brand"), audience("acme", "dev", "executive")]
    with pytest.raises(Forbidden):
        verifier.verify(jwt.encode(claims(aud=both), SECRET, algorithm="HS256"))


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")  # the short key is the point here
def test_another_algorithm_proves_nothing(verifier: Verifier, algorithm: str) -> None:
    with pytest.raises(Unauthenticated, match="not signed with HS256"):
        verifier.verify(jwt.encode(claims(), SECRET, algorithm=algorithm))


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE"])
def test_no_algorithm_proves_nothing(verifier: Verifier, name: str) -> None:
    def part(data: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(data).encode()).decode().rstrip("=")

    for signature in ("", "c2ln"):
        with pytest.raises(Unauthenticated):
            verifier.verify(f"{part({'alg': name, 'typ': 'JWT'})}.{part(claims())}.{signature}")


def test_another_secret_proves_nothing(verifier: Verifier) -> None:
    with pytest.raises(Unauthenticated, match="signature is not valid here"):
        verifier.verify(jwt.encode(claims(), OTHER, algorithm="HS256"))


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "é", "\udcff", "e30.e30.e30", "." * 1000])
def test_what_is_no_token_proves_nothing(verifier: Verifier, token: str) -> None:
    with pytest.raises(Unauthenticated):
        verifier.verify(token)


def test_without_a_secret_nobody_is_let_in(issuer: Issuer) -> None:
    with pytest.raises(Unauthenticated, match="JWT_SECRET_KEY"):
        Verifier("", "acme", "dev", "brand").verify(issuer.user_token("ada", "brand"))


def test_a_remembered_token_still_expires(verifier: Verifier) -> None:
    almost_over = jwt.encode(claims(exp=int(time.time()) - LEEWAY + 2), SECRET, algorithm="HS256")
    assert verifier.verify(almost_over).name == "ada"
    time.sleep(2.5)
    with pytest.raises(Unauthenticated, match="expired"):
        verifier.verify(almost_over)


@pytest.mark.parametrize("header", [None, "", "Basic abc", "Bearer", "Bearer  "])
def test_a_header_without_a_token(header: str | None) -> None:
    with pytest.raises(Unauthenticated, match="Authorization: Bearer"):
        bearer_token(header)
