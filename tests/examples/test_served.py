"""Each example team, as `elf dev` serves it."""

from __future__ import annotations

import httpx
import pytest
import yaml

from tests.examples.support import ROOT, TEAMS, Organisation

GREETED = {
    "engineering-team": "this is engineering",
    "executive-team": "I speak for the executives",
    "marketing-brand-team": "this is the brand team",
    "marketing-team": "this is marketing",
}


def test_every_team_of_the_directory_is_tested() -> None:
    assert {file.parent.name for file in (ROOT / "teams").glob("*/team.yaml")} == set(TEAMS) == set(GREETED)


@pytest.mark.parametrize("team", TEAMS)
def test_health_and_capabilities_show_the_chat(organisation: Organisation, team: str) -> None:
    url = organisation.url(team)
    health = httpx.get(f"{url}/health").raise_for_status().json()
    assert (health["status"], health["team_name"], health["chat_enabled"]) == ("ok", team, True)
    for probe in ("livez", "readyz", "startupz"):
        assert httpx.get(f"{url}/{probe}").status_code == 200

    capabilities = httpx.get(f"{url}/capabilities").raise_for_status().json()
    assert capabilities["team_name"] == team
    assert capabilities["model"]["provider"] == "offline"
    [chat] = [each for each in capabilities["interfaces"] if each["type"] == "websocket-chat"]
    assert chat["path"] == "/chat"
    assert chat["url"] == f"{url.replace('http', 'ws', 1)}/chat"
    schema = httpx.get(chat["frame_schema"]).raise_for_status().json()
    assert {"client", "server"} <= schema.keys()


@pytest.mark.parametrize("team", TEAMS)
def test_the_agent_card_says_what_the_team_file_says(organisation: Organisation, team: str) -> None:
    spec = yaml.safe_load((ROOT / "teams" / team / "team.yaml").read_text(encoding="utf-8"))
    card = httpx.get(f"{organisation.url(team)}/.well-known/agent-card.json").raise_for_status().json()
    assert card["name"] == spec["display_name"]
    assert card["version"] == spec["version"]
    assert [skill["id"] for skill in card["skills"]] == [skill["id"] for skill in spec["skills"]]
    assert card["capabilities"]["streaming"] is True
    assert all(interface["url"].startswith(organisation.url(team)) for interface in card["supportedInterfaces"])


@pytest.mark.parametrize("team", TEAMS)
async def test_a_turn_over_a_plain_web_socket(organisation: Organisation, team: str) -> None:
    async with organisation.chat(team) as chat:
        assert chat.greeting["type"] == "greeting"
        assert "the offline model is on" in chat.greeting["message"]
        turn = await chat.say("Hello!")
        assert GREETED[team] in turn.text
        assert turn.previews == []
        await chat.type("/end")
        while (frame := await chat.next())["type"] != "session_ended":
            pass
        assert frame["summary"].startswith("1 message, 0 delegations")


@pytest.mark.parametrize("team", TEAMS)
async def test_a_message_over_a2a(organisation: Organisation, team: str) -> None:
    message = {"messageId": f"hello-{team}", "role": "ROLE_USER", "parts": [{"text": "Hello!"}]}
    body = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message}}
    headers = organisation.headers(team) | {"A2A-Version": "1.0"}
    async with httpx.AsyncClient(headers=headers, timeout=30) as client:
        answer = (await client.post(f"{organisation.url(team)}/a2a/v1", json=body)).raise_for_status().json()
    task = answer["result"]["task"]
    assert task["status"]["state"] == "TASK_STATE_COMPLETED"
    [text] = [part["text"] for artifact in task["artifacts"] for part in artifact["parts"]]
    assert GREETED[team] in text
