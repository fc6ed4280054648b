"""The card for those who may call, by every way to ask for it."""

from __future__ import annotations

from typing import Any

import pytest
from a2a.types import GetExtendedAgentCardRequest
from google.protobuf.json_format import MessageToDict

from elf_sdk.server.a2a.card import TEAM
from elf_sdk.team.work import Member, Runs, Skill
from tests.a2a.conftest import Serve, Served

MEMBERS = (
    Member(role="painter", title="Head of paint", is_manager=True, responsibilities=("colours",), skills=("mixing",)),
    Member(role="cleaner"),
)


@pytest.fixture
async def team(serve: Serve) -> Served:
    skill = Skill(id="paint", name="Paint", examples=("Paint the door",))
    served: Served = await serve(members=MEMBERS, skills=(skill,), runs=Runs(deadline="90s", queue=7))
    return served


def about_team(card: dict[str, Any]) -> dict[str, Any]:
    (extension,) = [item for item in card["capabilities"]["extensions"] if item["uri"] == TEAM]
    params: dict[str, Any] = extension["params"]
    return params


async def test_it_says_what_the_public_card_does_not(team: Served) -> None:
    public = (await team.http.get(f"{team.url}/.well-known/agent-card.json")).json()
    card = (await team.http.get(f"{team.url}/a2a/v1/extendedAgentCard", headers=team.headers())).json()
    params = about_team(card)
    assert [(member["role"], member["title"], member["isManager"]) for member in params["members"]] == [
        ("painter", "Head of paint", True),
        ("cleaner", "", False),
    ]
    assert params["limits"] == {
        "deadlineSeconds": 90,
        "concurrentTasks": 32,
        "queuedTasks": 7,
        "delegationDepth": 2,
    }
    assert "Head of paint" not in str(public)
    assert card["skills"] == public["skills"] != []
    card["capabilities"]["extensions"] = public["capabilities"]["extensions"]
    assert card == public


async def test_jsonrpc_and_http_give_the_same(team: Served) -> None:
    by_http = (await team.http.get(f"{team.url}/a2a/v1/extendedAgentCard", headers=team.headers())).json()
    assert (await team.rpc("GetExtendedAgentCard", {}))["result"] == by_http


@pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON"])
async def test_the_official_client_gets_it(team: Served, binding: str) -> None:
    client = await team.client(binding)
    card = await client.get_extended_agent_card(GetExtendedAgentCardRequest(), context=team.call())
    assert about_team(MessageToDict(card))["members"][0]["role"] == "painter"


async def test_a_client_of_0_3_gets_it(team: Served) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "agent/getAuthenticatedExtendedCard"}
    headers = {"Authorization": team.headers()["Authorization"]}
    answer = (await team.http.post(f"{team.url}/a2a/v1", json=body, headers=headers)).json()
    assert answer["result"]["supportsAuthenticatedExtendedCard"] is True
    assert about_team(answer["result"])["members"][1]["role"] == "cleaner"


async def test_nobody_else_gets_it(team: Served) -> None:
    stranger = {"Authorization": f"Bearer {team.issuer.team_token('marketing', 'painting')}", "A2A-Version": "1.0"}
    for headers, status in (({"A2A-Version": "1.0"}, 401), (stranger, 403)):
        assert (await team.http.get(f"{team.url}/a2a/v1/extendedAgentCard", headers=headers)).status_code == status
        body = {"jsonrpc": "2.0", "id": 1, "method": "GetExtendedAgentCard", "params": {}}
        response = await team.http.post(f"{team.url}/a2a/v1", json=body, headers=headers)
        assert (response.status_code, "result" in response.json()) == (status, False)
