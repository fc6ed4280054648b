"""Who is let in by teams that are really served, and with which token a team calls another."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from elf_sdk.errors import BadInput, Retryable
from elf_sdk.server.auth import Issuer, audience
from elf_sdk.server.auth.team_tokens import TeamTokens
from elf_sdk.settings import Settings, TrustedIssuer
from elf_sdk.testing import ScriptedAdapter, Served, serve
from tests.server.conftest import boss, chat, scripted, team, worker
from tests.server.signing import Publisher, SigningKey, claims, key_set, publishing, service_account

CLUSTER = "https://kubernetes.default.svc.cluster.local"
NAMESPACE = "elf-teams-dev"
CONTROL_CENTER = "https://control-center.example"
CLUSTER_KEY = SigningKey("RS256", "cluster")
ISSUER_KEY = SigningKey("EdDSA", "issuer")
Call = Callable[[Served, str, str], Awaitable[httpx.Response]]
SEND = {"message": {"messageId": "m1", "role": "ROLE_USER", "parts": [{"text": "hello"}]}}


@pytest.fixture
def trusting(settings: Settings, tmp_path: Path) -> Settings:
    """Settings of a cluster: no shared secret is of use, because nobody else has it."""
    for name, key in (("cluster", CLUSTER_KEY), ("issuer", ISSUER_KEY)):
        (tmp_path / f"{name}.json").write_bytes(key_set(key))
    return replace(
        settings,
        elf_issuer=TrustedIssuer(CONTROL_CENTER, "EdDSA", str(tmp_path / "issuer.json")),
        workload_issuer=TrustedIssuer(CLUSTER, "RS256", str(tmp_path / "cluster.json")),
    )


@pytest.fixture
def publisher() -> Generator[Publisher, None, None]:
    with publishing() as server:
        yield server


def projected(caller: str, callee: str, *, namespace: str = NAMESPACE, key: SigningKey = CLUSTER_KEY) -> str:
    """What a kubelet puts into the caller's pod for the callee."""
    return key.sign(service_account(CLUSTER, audience("elf", "dev", callee), namespace, caller))


def signed_in(user: str, callee: str, key: SigningKey = ISSUER_KEY, **changes: Any) -> str:
    """What the Control Center gives a person."""
    about = {"roles": ["user"], **changes}
    return key.sign(claims(CONTROL_CENTER, audience("elf", "dev", callee), f"user:{user}", **about))


@pytest.fixture
async def http() -> AsyncGenerator[httpx.AsyncClient, None]:
    async with httpx.AsyncClient(timeout=20) as client:
        yield client


@pytest.fixture
def call(http: httpx.AsyncClient) -> Call:
    """A function that sends a message to a team, with a token."""

    async def send(served: Served, callee: str, token: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}", "A2A-Version": "1.0"}
        return await http.post(f"{served.url(callee)}/a2a/v1/message:send", json=SEND, headers=headers)

    return send


async def test_every_edge_answers_and_every_other_pair_is_refused(trusting: Settings, call: Call) -> None:
    teams = [
        team("head", ScriptedAdapter(), manages=["left", "right"]),
        team("left", ScriptedAdapter(), reports_to="head", peers=["right"]),
        team("right", ScriptedAdapter(), reports_to="head", peers=["left"]),
        team("apart", ScriptedAdapter()),
    ]
    names = [server.spec.name for server in teams]
    edges = {("head", "left"), ("head", "right"), ("left", "right"), ("right", "left")}
    # The test of a deployment asks the team in its own name.
    edges |= {(name, name) for name in names}
    async with serve(*teams, settings=trusting) as served:
        for caller in [*names, "control-center", "default"]:
            for callee in names:
                answer = await call(served, callee, projected(caller, callee))
                assert (answer.status_code == 200) == ((caller, callee) in edges), (caller, callee)
                assert answer.status_code in (200, 403)
                # The token for one callee is of no use at another, whoever may call whom.
                for elsewhere in names:
                    if elsewhere != callee:
                        assert (await call(served, elsewhere, projected(caller, callee))).status_code == 403
        for namespace in ("elf-teams", "default"):
            assert (await call(served, "left", projected("head", "left", namespace=namespace))).status_code == 403
        stranger = SigningKey("RS256", "cluster")
        assert (await call(served, "left", projected("head", "left", key=stranger))).status_code == 401


async def test_a_person_is_let_in_by_the_issuer_s_keys(trusting: Settings, call: Call) -> None:
    async with serve(team("head", ScriptedAdapter()), settings=trusting) as served:
        assert (await call(served, "head", signed_in("ada", "head"))).status_code == 200
        assert (await call(served, "head", signed_in("ada", "other"))).status_code == 403
        forged = SigningKey("EdDSA", "issuer")
        assert (await call(served, "head", signed_in("ada", "head", forged))).status_code == 401
        headers = {"Authorization": f"Bearer {signed_in('ada', 'head')}"}
        async with chat(served, "head", headers=headers) as client:
            await client.until("greeting")
            assert await client.ask("hi") == "you said: hi"
        async with chat(served, "head", headers={"Authorization": f"Bearer {projected('head', 'head')}"}) as client:
            assert await client.closed() == (4403, "chat is for people; a team calls by A2A")


async def test_what_is_made_belongs_to_who_made_it(trusting: Settings, call: Call, http: httpx.AsyncClient) -> None:
    async with serve(boss(), worker(), settings=trusting) as served:
        made = (await call(served, "worker", projected("boss", "worker"))).json()["task"]["id"]
        for token, status in (
            (projected("boss", "worker"), 200),  # another pod's token of the same team
            (signed_in("ada", "worker"), 404),
            (signed_in("system:serviceaccount:elf-teams-dev:boss", "worker"), 404),
        ):
            headers = {"Authorization": f"Bearer {token}", "A2A-Version": "1.0"}
            url = f"{served.url('worker')}/a2a/v1/tasks/{made}"
            assert (await http.get(url, headers=headers)).status_code == status


async def test_while_keys_cannot_be_read_the_answer_is_to_come_again(
    settings: Settings, publisher: Publisher, call: Call, http: httpx.AsyncClient
) -> None:
    publisher.status = 500
    publisher.answers["/jwks"] = key_set(ISSUER_KEY)
    issuer = TrustedIssuer(CONTROL_CENTER, "EdDSA", jwks_url=f"{publisher.address}/jwks")
    async with serve(team("head", ScriptedAdapter()), settings=replace(settings, elf_issuer=issuer)) as served:
        answer = await call(served, "head", signed_in("ada", "head"))
        assert answer.status_code == 503
        assert answer.json()["error"]["details"][0]["metadata"] == {"retryable": "true"}
        headers = {"Authorization": f"Bearer {signed_in('ada', 'head')}"}
        async with chat(served, "head", headers=headers) as client:
            assert (await client.closed())[0] == 1012
        health = await http.get(f"{served.url('head')}/health")
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        assert health.json()["checks"]["issuers"] == (f"the keys of {CONTROL_CENTER}: it answered with HTTP 500")
        assert (await http.get(f"{served.url('head')}/readyz")).status_code == 200


async def test_a_refusal_says_why_as_rfc_6750_has_it(settings: Settings, call: Call, http: httpx.AsyncClient) -> None:
    async with serve(team("head", ScriptedAdapter()), settings=settings) as served:
        nothing = await http.post(f"{served.url('head')}/a2a/v1/message:send", json=SEND)
        assert (nothing.status_code, nothing.headers["www-authenticate"]) == (401, 'Bearer realm="elf"')
        wrong = await call(served, "head", "abc")
        said = "the token cannot be read: it has not three parts"
        challenge = wrong.headers["www-authenticate"]
        assert challenge == f'Bearer realm="elf", error="invalid_token", error_description="{said}"'
        assert (wrong.status_code, wrong.json()) == (401, {"error": "Unauthenticated", "message": said})
        # A name that is chosen to break out of the header.
        name = 'x", realm="évil\\'
        refused = await call(served, "head", served.issuer.team_token(name, "head"))
        assert refused.status_code == 403
        challenge = refused.headers["www-authenticate"]
        assert challenge.startswith('Bearer realm="elf", error="insufficient_scope", error_description="')
        assert challenge.count('"') == 6
        assert challenge.isascii()
        assert "\\" not in challenge


# Calling.


async def test_a_team_calls_with_the_token_that_was_put_there_for_the_callee(
    trusting: Settings, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    (tokens / "worker").write_text(projected("boss", "worker", namespace="elsewhere"))
    hands = worker()
    async with serve(boss(), hands, settings=replace(trusting, team_tokens=str(tokens))) as served:
        headers = {"Authorization": f"Bearer {signed_in('ada', 'boss')}"}
        async with chat(served, headers=headers) as client:
            await client.send("delegate")
            preview = await client.until("delegation_preview")
            await client.send({"type": "confirm", "hash": preview["hash"]})
            failed = await client.until("delegation_update", state="failed")
            assert "the service account 'boss' of the namespace 'elsewhere' may not call" in failed["detail"]
            assert scripted(hands).contexts == []
            # The kubelet renews it.
            (tokens / "renewed").write_text(projected("boss", "worker") + "\n")
            (tokens / "renewed").rename(tokens / "worker")
            await client.send("delegate")
            preview = await client.until("delegation_preview")
            await client.send({"type": "confirm", "hash": preview["hash"]})
            assert (await client.until("delegation_update", state="finished"))["result"] == "Here it is."
    (context,) = scripted(hands).contexts
    assert (context.owner.issuer, context.owner.subject) == (CLUSTER, f"system:serviceaccount:{NAMESPACE}:boss")


def test_without_a_file_a_token_is_signed_and_without_a_secret_none_is(tmp_path: Path) -> None:
    (tmp_path / "worker").write_text("the.callee.s\n")
    issuer = Issuer("a secret that is only for this test, and long", "elf", "dev")
    assert TeamTokens(str(tmp_path), issuer).token("boss", "worker") == "the.callee.s"
    assert TeamTokens(str(tmp_path), issuer).token("boss", "other").count(".") == 2
    assert TeamTokens("", issuer).token("boss", "worker").count(".") == 2
    with pytest.raises(BadInput, match=r"boss has no token to call other with; put one into .*/other, or set"):
        TeamTokens(str(tmp_path), None).token("boss", "other")
    with pytest.raises(BadInput, match="boss has no token to call worker with; set ELF_TEAM_TOKENS, or set JWT_SECRET"):
        TeamTokens("", None).token("boss", "worker")


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_a_file_that_is_being_written_is_tried_again(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "worker").write_bytes(content)
    with pytest.raises(Retryable):
        TeamTokens(str(tmp_path), None).token("boss", "worker")


@pytest.mark.parametrize("name", ["../secret", "..", "/etc/passwd", "", "a/b", "a\x00"])
def test_no_team_s_name_leads_out_of_the_directory(tmp_path: Path, name: str) -> None:
    (tmp_path / "tokens").mkdir()
    (tmp_path / "secret").write_text("not a token")
    with pytest.raises(BadInput):
        TeamTokens(str(tmp_path / "tokens"), None).token("boss", name)
