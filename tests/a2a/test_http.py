"""The card, who is let in, and what bad input is answered with."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import json
import logging
import re
import sys
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import jwt
import pytest

from elf_sdk.server.address import Address
from elf_sdk.server.auth import Issuer, audience
from tests.a2a.conftest import ENVIRONMENT, ORGANISATION, SECRET, Serve, Served

CARD = "/.well-known/agent-card.json"
MESSAGE = {"messageId": "m1", "role": "ROLE_USER", "parts": [{"text": "hello"}]}
SEND = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": MESSAGE}}


async def test_the_card_is_public_and_says_what_is_true(team: Served) -> None:
    response = await team.http.get(f"{team.url}{CARD}")
    assert response.status_code == 200
    card = response.json()
    assert (card["name"], card["description"], card["version"]) == (
        "Painting team",
        "Paints what it is told to.",
        "0.1.0",
    )
    assert [(item["protocolBinding"], item["protocolVersion"]) for item in card["supportedInterfaces"]] == [
        ("JSONRPC", "1.0"),
        ("HTTP+JSON", "1.0"),
        ("JSONRPC", "0.3"),
    ]
    assert {item["url"] for item in card["supportedInterfaces"]} == {f"{team.url}/a2a/v1"}
    assert card["capabilities"]["streaming"] is True
    assert card["capabilities"]["pushNotifications"] is False
    assert card["capabilities"]["extendedAgentCard"] is True
    assert card["capabilities"]["extensions"][0]["uri"] == "urn:elf:a2a:idempotent-message-id:v1"
    assert card["securitySchemes"]["bearer"]["httpAuthSecurityScheme"] == {"scheme": "Bearer", "bearerFormat": "JWT"}
    assert [skill["description"] for skill in card["skills"]] == ["Paints what it is told to."]


async def test_a_card_that_did_not_change_is_not_sent_again(team: Served) -> None:
    first = await team.http.get(f"{team.url}{CARD}")
    etag = first.headers["etag"]
    assert first.headers["cache-control"] == "public, max-age=60"
    assert parsedate_to_datetime(first.headers["last-modified"]) <= datetime.now(UTC)
    for header in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = await team.http.get(f"{team.url}{CARD}", headers={"If-None-Match": header})
        assert (again.status_code, again.content) == (304, b"")
    assert (await team.http.get(f"{team.url}{CARD}", headers={"If-None-Match": '"other"'})).status_code == 200


async def test_the_urls_are_right_below_a_prefix_and_behind_a_public_address(serve: Serve) -> None:
    mounted: Served = await serve(prefix="/teams/painting")
    card = (await mounted.http.get(f"{mounted.url}{CARD}")).json()
    url = card["supportedInterfaces"][0]["url"]
    assert url == f"{mounted.url}/a2a/v1"
    assert (await mounted.http.post(url, json=SEND, headers=mounted.headers())).json()["result"]["task"]
    public: Served = await serve(address=Address("https://agents.example.com/painting"))
    card = (await public.http.get(f"{public.url}{CARD}")).json()
    assert card["supportedInterfaces"][0]["url"] == "https://agents.example.com/painting/a2a/v1"


async def test_a_card_names_the_address_inside_the_cluster_first_to_those_who_ask_there(serve: Serve) -> None:
    public, inside = "https://agents.example.com/painting", "http://painting.elf-teams.svc:8000"
    team: Served = await serve(address=Address(public, inside))
    for host, urls in (("painting.elf-teams.svc:8000", [inside, public]), ("other", [public, inside])):
        card = (await team.http.get(f"{team.url}{CARD}", headers={"Host": host})).json()
        found = list(dict.fromkeys(interface["url"] for interface in card["supportedInterfaces"]))
        assert found == [f"{url}/a2a/v1" for url in urls]
        assert card["url"] == f"{urls[0]}/a2a/v1"


LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
FORWARDED = {
    "all three": (
        {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "a.example", "X-Forwarded-Prefix": "/p/q/"},
        "https://a.example/p/q",
    ),
    "what the nearest proxy says counts": (
        {"X-Forwarded-Proto": "http, https", "X-Forwarded-Host": "evil.example, a.example:8443"},
        "https://a.example:8443",
    ),
    "one element": (
        {"Forwarded": 'for=192.0.2.60;proto=https;by=203.0.113.43;host="a.example:1"'},
        "https://a.example:1",
    ),
    "names in any case": ({"Forwarded": "Proto=https; Host=a.example"}, "https://a.example"),
    "it goes before the others": (
        {"Forwarded": "host=a.example;proto=https", "X-Forwarded-Host": "evil.example"},
        "https://a.example",
    ),
    "through proxies that are all trusted": (
        {"Forwarded": "for=192.0.2.1;host=a.example;proto=https, for=127.0.0.9;host=inner;proto=http"},
        "https://a.example",
    ),
    "with brackets and port": (
        {"Forwarded": 'for=192.0.2.1;host=a.example;proto=https, for="[::1]:4711";host=inner;proto=http'},
        "https://a.example",
    ),
    "who is not trusted may have written what is left of it": (
        {"Forwarded": "host=evil.example;proto=http, for=192.0.2.1;host=a.example;proto=https"},
        "https://a.example",
    ),
    "malformed": ({"Forwarded": 'host="a.example'}, None),
    "no host name": ({"X-Forwarded-Host": "a.example/x", "X-Forwarded-Proto": "javascript"}, None),
    "no path": ({"X-Forwarded-Prefix": "/../x?y#"}, None),
    "a host of another": ({"X-Forwarded-Prefix": "//evil.example"}, None),
}


@pytest.mark.parametrize("case", FORWARDED)
async def test_a_trusted_proxy_says_what_it_was_asked_for_and_nobody_else(serve: Serve, case: str) -> None:
    headers, expected = FORWARDED[case]
    trusted: Served = await serve(address=Address(proxies=LOOPBACK))
    strange: Served = await serve(address=Address(proxies=(ipaddress.ip_network("192.0.2.0/24"),)))
    for team, url in ((trusted, expected or trusted.url), (strange, strange.url)):
        card = (await team.http.get(f"{team.url}{CARD}", headers=headers)).json()
        assert card["supportedInterfaces"][0]["url"] == f"{url}/a2a/v1"


async def test_a_team_without_03_has_a_card_without_its_fields_and_refuses_it(serve: Serve) -> None:
    team: Served = await serve(compatible=False)
    card = (await team.http.get(f"{team.url}{CARD}")).json()
    assert {item["protocolVersion"] for item in card["supportedInterfaces"]} == {"1.0"}
    assert not {"url", "protocolVersion", "preferredTransport", "security"} & card.keys()
    assert card["securitySchemes"]["bearer"].keys() == {"httpAuthSecurityScheme"}
    old = {"jsonrpc": "2.0", "id": 1, "method": "tasks/get", "params": {"id": "x"}}
    for method in (old, SEND):
        answer = await team.http.post(
            f"{team.url}/a2a/v1", json=method, headers={"Authorization": f"Bearer {team.token()}"}
        )
        assert answer.json()["error"]["code"] in (-32009, -32601)


async def test_the_address_may_end_with_a_slash(team: Served) -> None:
    answer = await team.http.post(f"{team.url}/a2a/v1/", json=SEND, headers=team.headers())
    assert answer.json()["result"]["task"]


async def test_http_json_answers_in_the_type_that_it_was_asked_in(team: Served) -> None:
    url, headers = f"{team.url}/a2a/v1", team.headers()
    for given in ("application/json", "application/a2a+json"):
        typed = {**headers, "Content-Type": given}
        answer = await team.http.post(f"{url}/message:send", content=json.dumps({"message": MESSAGE}), headers=typed)
        assert answer.headers["content-type"] == given
    listed = await team.http.get(f"{url}/tasks", headers=headers)
    assert listed.headers["content-type"] == "application/a2a+json"
    listed = await team.http.get(f"{url}/tasks", headers={**headers, "Accept": "application/json"})
    assert listed.headers["content-type"] == "application/json"


async def test_a_host_header_cannot_put_anything_else_into_the_card(team: Served) -> None:
    for host in ("evil.example/path", "a b", '"><script>', "user@evil.example", ""):
        response = await team.http.get(f"{team.url}{CARD}", headers={"Host": host, "X-Forwarded-Host": "evil.example"})
        if response.status_code == 200:
            assert response.json()["supportedInterfaces"][0]["url"] == f"{team.url}/a2a/v1"


def forged(algorithm: str, key: str = SECRET, **claims: Any) -> str:
    now = int(time.time())
    standard = {
        "iss": f"elf:{ORGANISATION}:{ENVIRONMENT}",
        "aud": audience(ORGANISATION, ENVIRONMENT, "painting"),
        "sub": "user:ada",
        "iat": now,
        "exp": now + 60,
        "jti": "1",
    }
    return jwt.encode({**standard, **claims}, key, algorithm=algorithm)


def unsigned() -> str:
    header = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    return f"{header}.{forged('HS256').split('.')[1]}."


ISSUER = Issuer(SECRET, ORGANISATION, ENVIRONMENT)
REFUSED = {
    "missing": (None, 401),
    "another scheme": ("Basic YTpi", 401),
    "no token": ("Bearer", 401),
    "no jwt": ("Bearer abc", 401),
    "expired": (f"Bearer {forged('HS256', exp=int(time.time()) - 60)}", 401),
    "algorithm none": (f"Bearer {unsigned()}", 401),
    "algorithm HS512": (f"Bearer {forged('HS512', SECRET * 2)}", 401),
    "HS512 with our secret": (f"Bearer {forged('HS384')}", 401),
    "another secret": (f"Bearer {forged('HS256', SECRET[::-1])}", 401),
    "another issuer": (f"Bearer {forged('HS256', iss='elf:other:dev')}", 401),
    "nobody": (f"Bearer {forged('HS256', sub='ada')}", 401),
    "another team": (f"Bearer {ISSUER.user_token('ada', 'engineering')}", 403),
    "another environment": (f"Bearer {Issuer(SECRET, ORGANISATION, 'prod').user_token('ada', 'painting')}", 401),
    "a team that is not on the list": (f"Bearer {ISSUER.team_token('marketing', 'painting')}", 403),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_who_is_not_let_in(team: Served, case: str) -> None:
    credential, status = REFUSED[case]
    headers = {"A2A-Version": "1.0", **({"Authorization": credential} if credential else {})}
    for method, path, body in (
        ("POST", "", SEND),
        ("POST", "/message:send", {"message": MESSAGE}),
        ("POST", "/message:stream", {"message": MESSAGE}),
        ("GET", "/tasks", None),
        ("GET", "/tasks/x", None),
        ("POST", "/tasks/x:cancel", None),
        ("GET", "/extendedAgentCard", None),
    ):
        response = await team.http.request(method, f"{team.url}/a2a/v1{path}", json=body, headers=headers)
        assert response.status_code in ((401, 403) if case == "another environment" else (status,))
        assert response.json()["error"] == {401: "Unauthenticated", 403: "Forbidden"}[response.status_code]
        assert response.json()["message"]
        challenge = response.headers["www-authenticate"]
        code = {401: "invalid_token", 403: "insufficient_scope"}[response.status_code]
        if credential is None:
            assert challenge == 'Bearer realm="elf"'
        else:
            assert challenge.startswith(f'Bearer realm="elf", error="{code}", error_description="')
        assert not credential or not credential.partition(" ")[2] or credential.partition(" ")[2] not in challenge
        assert (
            credential is None or credential.partition(" ")[2] not in response.text or not credential.partition(" ")[2]
        )
    assert team.adapter.started == 0


async def test_a_team_on_the_list_is_let_in(team: Served) -> None:
    headers = {"Authorization": f"Bearer {ISSUER.team_token('executive', 'painting')}", "A2A-Version": "1.0"}
    response = await team.http.post(f"{team.url}/a2a/v1", json=SEND, headers=headers)
    assert response.json()["result"]["task"]["status"]["state"] == "TASK_STATE_COMPLETED"


def rpc(**change: Any) -> bytes:
    return json.dumps({**SEND, **change}).encode()


def params(**change: Any) -> bytes:
    return rpc(params={"message": {**MESSAGE, **change}})


NAN = b'{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":{"messageId":NaN}}}'
DEEP = b'{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":' + b'{"a":' * 900 + b"1" + b"}" * 901
NESTED: Any = "x"
for _ in range(200):
    NESTED = [NESTED]
BAD_RPC = {
    "not JSON": (b"{", -32700),
    "empty": (b"", -32700),
    "invalid UTF-8": (b'{"jsonrpc":"2.0","id":1,"method":"\xff\xfe"}', -32700),
    "a lone surrogate": (b'{"jsonrpc":"2.0","id":1,"method":"\\ud800"}', -32700),
    "NaN": (NAN, -32700),
    "very deep": (b"[" * 100_000, -32700),
    "two values": (b"{} {}", -32700),
    "a batch": (b"[" + rpc() + b"]", -32600),
    "an empty batch": (b"[]", -32600),
    "a scalar": (b"1", -32600),
    "null": (b"null", -32600),
    "no version": (rpc(jsonrpc=None), -32600),
    "wrong version": (rpc(jsonrpc="1.0"), -32600),
    "id of a wrong type": (rpc(id={}), -32600),
    "id that is true": (rpc(id=True), -32600),
    "huge id": (b'{"jsonrpc":"2.0","id":1e400,"method":"GetTask"}', -32700),
    "method of a wrong type": (rpc(method=1), -32600),
    "unknown method": (rpc(method="DropTask"), -32601),
    "params of a wrong type": (rpc(params="x"), -32600),
    "params that are a list": (rpc(params=[]), -32602),
    "no message": (rpc(params={}), -32602),
    "no message id": (params(messageId=""), -32602),
    "long message id": (params(messageId="x" * 300), -32602),
    "long context id": (params(contextId="x" * 300), -32602),
    "no parts": (params(parts=[]), -32602),
    "empty text": (params(parts=[{"text": " "}]), -32602),
    "text of a wrong type": (params(parts=[{"text": 1}]), -32602),
    "a file": (params(parts=[{"url": "file:///etc/passwd"}]), -32005),
    "deep params": (DEEP, -32602),
    "deep data": (params(parts=[{"data": NESTED}]), -32602),
    "metadata of a wrong type": (params(metadata={"urn:elf:a2a:delegation:v1": {"chain": "x"}}), -32602),
    "delegation of a wrong type": (params(metadata={"urn:elf:a2a:delegation:v1": 1}), -32602),
    "deadline of a wrong type": (params(metadata={"urn:elf:a2a:deadline:v1": "soon"}), -32602),
    "deadline in the past": (params(metadata={"urn:elf:a2a:deadline:v1": -1}), -32602),
    "deadline beyond reason": (params(metadata={"urn:elf:a2a:deadline:v1": 1e300}), -32602),
    "push": (
        rpc(params={"message": MESSAGE, "configuration": {"taskPushNotificationConfig": {"url": "http://10.0.0.1"}}}),
        -32003,
    ),
    "push config": (rpc(method="ListTaskPushNotificationConfigs", params={"taskId": "x"}), -32003),
    "absent task": (rpc(method="GetTask", params={"id": "x"}), -32001),
    "no task id": (rpc(method="GetTask", params={}), -32602),
    "negative history": (rpc(method="GetTask", params={"id": "x", "historyLength": -1}), -32001),
    "negative history in a send": (
        rpc(params={"message": MESSAGE, "configuration": {"historyLength": -1}}),
        -32602,
    ),
    "page size 0": (rpc(method="ListTasks", params={"pageSize": 0}), -32602),
    "page size 1000": (rpc(method="ListTasks", params={"pageSize": 1000}), -32602),
    "page token": (rpc(method="ListTasks", params={"pageToken": "-1"}), -32602),
    "page token that is no text": (rpc(method="ListTasks", params={"pageToken": "_-8"}), -32602),
    "page token of another": (rpc(method="ListTasks", params={"pageToken": "OTk5OTk5OTk5OTk5OTk5OTk5OTk5LjE"}), -32602),
    "page token of a time to come": (
        rpc(method="ListTasks", params={"pageToken": "OTk5OTk5OTk5OTk5OTk5OTk5LjE"}),
        None,
    ),
    "a method of 0.3": (rpc(method="tasks/get", params={"id": "x"}), -32601),
}


@pytest.mark.parametrize("case", BAD_RPC)
async def test_bad_jsonrpc_gets_the_specified_error(team: Served, case: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    body, code = BAD_RPC[case]
    headers = {**team.headers(), "Content-Type": "application/json"}
    response = await team.http.post(f"{team.url}/a2a/v1", content=body, headers=headers)
    assert response.status_code == 200
    answer = response.json()
    assert answer["jsonrpc"] == "2.0"
    assert answer.get("error", {}).get("code") == code, answer
    quiet = [record for record in caplog.records if record.name.startswith(("a2a", "elf", "uvicorn"))]
    assert [record.message for record in quiet if record.levelno >= logging.WARNING or record.exc_info] == []


async def test_an_error_says_what_and_where_in_both_bindings(team: Served) -> None:
    def info(reason: str, **metadata: str) -> dict[str, Any]:
        kind = "type.googleapis.com/google.rpc.ErrorInfo"
        return {"@type": kind, "reason": reason, "domain": "a2a-protocol.org", "metadata": metadata}

    message = {"role": "ROLE_X", "parts": []}
    wrong_role = "message.role must be one of ROLE_USER, ROLE_AGENT"
    for change, said, violations in (
        (message, wrong_role, [{"field": "message.role", "description": "must be one of ROLE_USER, ROLE_AGENT"}]),
        (
            {"role": "ROLE_UNSPECIFIED", "parts": []},
            "missing or empty: message.messageId, message.role, message.parts",
            [
                {"field": "message.messageId", "description": "Field is required."},
                {"field": "message.role", "description": "Field is required."},
                {"field": "message.parts", "description": "Field must contain at least one element."},
            ],
        ),
    ):
        details = [
            info("INVALID_PARAMS"),
            {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations},
        ]
        answer = await team.rpc("SendMessage", {"message": change})
        assert answer == {"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": said, "data": details}}
        response = await team.http.post(
            f"{team.url}/a2a/v1/message:send", json={"message": change}, headers=team.headers()
        )
        assert (response.status_code, response.headers["content-type"]) == (400, "application/json")
        error = {"code": 400, "status": "INVALID_ARGUMENT", "message": said, "details": details}
        assert response.json() == {"error": error}
    absent = await team.http.get(f"{team.url}/a2a/v1/tasks/x", headers=team.headers())
    said = "there is no run 'x'"
    assert absent.json() == {
        "error": {"code": 404, "status": "NOT_FOUND", "message": said, "details": [info("TASK_NOT_FOUND")]}
    }
    assert (await team.rpc("GetTask", {"id": "x"}))["error"] == {
        "code": -32001,
        "message": said,
        "data": [info("TASK_NOT_FOUND")],
    }
    assert (await team.rpc("DropTask", {}))["error"] == {"code": -32601, "message": "Method not found"}


async def test_an_unknown_state_is_refused_and_not_taken_for_all(team: Served) -> None:
    await team.rpc("SendMessage", SEND["params"])
    for status in ("working", "TASK_STATE_LATE", 9, "9", -1):
        error = (await team.rpc("ListTasks", {"status": status}))["error"]
        assert (error["code"], "TASK_STATE_SUBMITTED" in error["message"]) == (-32602, True)
    for known in ("TASK_STATE_COMPLETED", 3, "3", "TASK_STATE_UNSPECIFIED", None):
        assert (await team.rpc("ListTasks", {"status": known}))["result"]["totalSize"] == 1
    assert (await team.rpc("ListTasks", {"status": 2}))["result"]["totalSize"] == 0
    url = f"{team.url}/a2a/v1/tasks"
    assert (await team.http.get(f"{url}?status=late", headers=team.headers())).status_code == 400
    page = await team.http.get(
        f"{url}?status=TASK_STATE_COMPLETED&pageSize=1&includeArtifacts=TRUE", headers=team.headers()
    )
    assert page.headers["content-type"] == "application/a2a+json"
    assert page.json()["tasks"][0]["artifacts"]
    assert (page.json()["nextPageToken"], page.json()["pageSize"], page.json()["totalSize"]) == ("", 1, 1)


async def test_fields_go_by_both_their_names_and_unknown_ones_are_ignored(team: Served) -> None:
    message = {
        "message_id": "m1",
        "context_id": "c1",
        "role": 1,
        "parts": [{"text": "hi", "media_type": "a/b"}],
        "x": 1,
    }
    params = {"tenant": "", "message": message, "configuration": {"history_length": "0"}, "extra": {}}
    task = (await team.rpc("SendMessage", params))["result"]["task"]
    assert (task["contextId"], "history" in task) == ("c1", False)
    answer = await team.rpc("GetTask", {"id": task["id"], "historyLength": 1.0})
    assert [item["messageId"] for item in answer["result"]["history"]] == ["m1"]
    assert set(answer["result"]) == {"id", "contextId", "status", "artifacts", "history"}


@pytest.mark.parametrize("request_id", ["a", "", 0, 7, 2**63, None])
async def test_an_answer_carries_the_id_of_its_request(team: Served, request_id: str | int | None) -> None:
    headers = {**team.headers(), "Content-Type": "application/json"}
    for body, member in ((rpc(id=request_id), "result"), (rpc(id=request_id, method="x"), "error")):
        answer = (await team.http.post(f"{team.url}/a2a/v1", content=body, headers=headers)).json()
        assert set(answer) == {"jsonrpc", "id", member}
        assert answer["id"] == request_id
    notification = {name: value for name, value in SEND.items() if name != "id"}
    answer = (await team.http.post(f"{team.url}/a2a/v1", json=notification, headers=headers)).json()
    assert answer["id"] is None, "an HTTP request has an answer, also where JSON-RPC wants none"


@pytest.mark.parametrize("version", ["1.0", "1.0.3"])
async def test_the_patch_of_a_version_does_not_matter(team: Served, version: str) -> None:
    headers = {**team.headers(), "A2A-Version": version}
    assert (await team.http.post(f"{team.url}/a2a/v1", json=SEND, headers=headers)).json()["result"]


@pytest.mark.parametrize("path", ["", "/message:send"])
async def test_the_version_may_be_a_parameter_of_the_address(team: Served, path: str) -> None:
    headers = {"Authorization": f"Bearer {team.token()}"}
    body = {"message": MESSAGE} if path else SEND
    for version, spoken in (("1.0", True), ("2.0", False)):
        response = await team.http.post(f"{team.url}/a2a/v1{path}?A2A-Version={version}", json=body, headers=headers)
        assert ("error" not in response.json()) is spoken


async def test_a_stream_is_made_of_server_sent_events(team: Served) -> None:
    for path, body in (
        ("/message:stream", {"message": MESSAGE}),
        ("", {**SEND, "id": "s1", "method": "SendStreamingMessage"}),
    ):
        response = await team.http.post(f"{team.url}/a2a/v1{path}", json=body, headers=team.headers())
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        blocks = response.text.split("\r\n\r\n")
        assert blocks.pop() == ""
        assert all(re.fullmatch(r"(id: \d+\r\n)?data: \{[^\r\n]*", block) for block in blocks)
        events = [json.loads(block.partition("data: ")[2]) for block in blocks]
        if not path:
            assert {(event["jsonrpc"], event["id"]) for event in events} == {("2.0", "s1")}
            events = [event["result"] for event in events]
        assert "task" in events[0]
        task = events[0]["task"]["id"]
        again = {"message": {**MESSAGE, "messageId": "m2", "taskId": task}}
        refused = await team.http.post(f"{team.url}/a2a/v1/message:stream", json=again, headers=team.headers())
        assert (refused.status_code, refused.headers["content-type"]) == (400, "application/json")


async def test_the_sdk_is_not_loaded_before_a_caller_of_03_comes() -> None:
    code = """
import sys
import elf_sdk.server.team_server
loaded = [name for name in ("a2a", "google.protobuf", "sqlalchemy") if name in sys.modules]
assert loaded == [], loaded
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0


BAD_REST = {
    "not JSON": ("POST", "/message:send", b"{", 400),
    "empty": ("POST", "/message:send", b"", 400),
    "a list": ("POST", "/message:send", b"[]", 400),
    "a scalar": ("POST", "/message:stream", b"1", 400),
    "invalid UTF-8": ("POST", "/message:send", b'{"a":"\xff"}', 400),
    "NaN": ("POST", "/message:send", b'{"message":NaN}', 400),
    "very deep": ("POST", "/message:send", b'{"a":' * 100_000, 400),
    "deep": ("POST", "/message:send", b'{"message":{"metadata":' + b'{"a":' * 500 + b"1" + b"}" * 502, 400),
    "wrong types": ("POST", "/message:send", b'{"message":1}', 400),
    "wrong types in a stream": ("POST", "/message:stream", b'{"message":[1]}', 400),
    "twice the same key": ("POST", "/message:send", b'{"message":{},"message":{}}', 400),
    "no message": ("POST", "/message:stream", b"{}", 400),
    "absent task": ("GET", "/tasks/x", b"", 404),
    "absent task cancelled": ("POST", "/tasks/x:cancel", b"", 404),
    "absent task cancelled with a body": ("POST", "/tasks/x:cancel", b"{}", 404),
    "absent task subscribed to": ("GET", "/tasks/x:subscribe", b"", 404),
    "history is no number": ("GET", "/tasks/x?historyLength=many", b"", 400),
    "page is no number": ("GET", "/tasks?pageSize=%F0%9F%92%A9", b"", 400),
    "time is no time": ("GET", "/tasks?statusTimestampAfter=yesterday", b"", 400),
    "push": ("GET", "/tasks/x/pushNotificationConfigs", b"", 400),
    "unknown path": ("GET", "/nothing", b"", 404),
    "wrong method": ("DELETE", "/tasks/x", b"", 405),
}


@pytest.mark.parametrize("case", BAD_REST)
async def test_bad_rest_gets_the_specified_status(team: Served, case: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    method, path, body, status = BAD_REST[case]
    headers = {**team.headers(), "Content-Type": "application/a2a+json"}
    response = await team.http.request(method, f"{team.url}/a2a/v1{path}", content=body, headers=headers)
    assert response.status_code == status, response.text
    quiet = [record for record in caplog.records if record.name.startswith(("a2a", "elf", "uvicorn"))]
    assert [record.message for record in quiet if record.levelno >= logging.WARNING or record.exc_info] == []


@pytest.mark.parametrize("path", ["", "/message:send"])
async def test_size_type_and_version_are_checked(team: Served, path: str) -> None:
    url = f"{team.url}/a2a/v1{path}"
    body = {"message": MESSAGE} if path else SEND
    large = b" " * (1024 * 1024 + 1)
    headers = {**team.headers(), "Content-Type": "application/json"}

    async def chunks() -> Any:
        for _ in range(40):
            yield b" " * 32_768

    assert (await team.http.post(url, content=large, headers=headers)).status_code == 413
    assert (await team.http.post(url, content=chunks(), headers=headers)).status_code == 413
    for wrong in ("text/plain", "application/x-www-form-urlencoded", ""):
        typed = {**headers, "Content-Type": wrong}
        assert (await team.http.post(url, content=json.dumps(body), headers=typed)).status_code == 415
    typed = {**headers, "Content-Type": "Application/JSON; charset=utf-8"}
    assert (await team.http.post(url, content=json.dumps(body), headers=typed)).status_code == 200
    for version in ("", "0.3", "1", "1.1", "2.0", "one"):
        response = await team.http.post(url, json=body, headers={**team.headers(), "A2A-Version": version})
        error = response.json()["error"]
        assert response.status_code == (400 if path else 200)
        assert "VERSION_NOT_SUPPORTED" in str(error), error
    assert team.adapter.started == 1


async def test_a_caller_who_hangs_up_leaves_no_trace(team: Served, caplog: pytest.LogCaptureFixture) -> None:
    address = urlsplit(team.url)
    for _ in range(3):
        _, writer = await asyncio.open_connection(address.hostname, address.port)
        head = f"POST /a2a/v1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {team.token()}\r\n"
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode())
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()
        writer.close()
    await asyncio.sleep(0.1)
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert (await team.rpc("SendMessage", SEND["params"]))["result"]
