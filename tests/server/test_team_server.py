"""A team over HTTP: health, probes, capabilities, status, and the hooks that shape them."""

import asyncio
import dataclasses
from collections.abc import AsyncGenerator

import httpx
import pytest

from elf_sdk.errors import BadInput, Failure
from elf_sdk.runs import recent, upkeep
from elf_sdk.runs.adapter import RunContext
from elf_sdk.runs.events import Event, TextDelta
from elf_sdk.server.a2a.client import TeamClient
from elf_sdk.server.capabilities import Capabilities
from elf_sdk.server.health import Health
from elf_sdk.server.services import open_services
from elf_sdk.server.team_server import TeamServer
from elf_sdk.settings import Settings
from elf_sdk.team.spec import TeamSpec
from elf_sdk.testing import ScriptedAdapter, serve
from tests.server.conftest import boss, both_stores, chat, scripted, team

FORWARDED = {"X-Forwarded-For": "203.0.113.7"}


async def test_health_shows_strangers_the_public_part_only(settings: Settings) -> None:
    async with serve(boss(), settings=settings) as served, httpx.AsyncClient(base_url=served.url("boss")) as http:
        local = (await http.get("/health")).json()
        stranger = (await http.get("/health", headers=FORWARDED)).json()
        known = (await http.get("/health", headers={**FORWARDED, **served.headers("ada", "boss")})).json()
        renamed = (await http.get("/health", headers={"Host": "boss.example"})).json()
    assert set(stranger) == set(renamed) == {"status", "team_name", "chat_enabled", "timestamp"}
    assert (
        set(local)
        == set(known)
        == set(stranger)
        | {
            "framework",
            "department",
            "placement",
            "agents",
            "version",
            "checks",
        }
    )
    assert local["status"] == "ok"
    assert local["agents"] == ["Head", "Hand"]
    assert local["checks"]["model"] == "offline: answers are made up"


async def test_the_probes(settings: Settings) -> None:
    async with serve(boss(), settings=settings) as served, httpx.AsyncClient(base_url=served.url("boss")) as http:
        for probe in ("/livez", "/readyz", "/startupz"):
            answer = await http.get(probe, headers=FORWARDED)
            assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_capabilities_show_the_chat_and_need_a_token_from_afar(settings: Settings) -> None:
    async with serve(boss(), settings=settings) as served, httpx.AsyncClient(base_url=served.url("boss")) as http:
        shown = (await http.get("/capabilities")).json()
        refused = await http.get("/capabilities", headers=FORWARDED)
        status = await http.get("/status", headers=FORWARDED)
    assert [agent["is_manager"] for agent in shown["agents"]] == [True, False]
    assert shown["limits"]["max_messages_per_session"] == 100
    assert shown["adapter"] == {
        "framework": "function",
        "stream": True,
        "human": False,
        "cancel": "certain",
        "recover": False,
    }
    [interface] = [each for each in shown["interfaces"] if each["type"] == "websocket-chat"]
    assert interface["path"] == "/chat"
    assert interface["url"] == f"{served.url('boss').replace('http', 'ws')}/chat"
    assert {each["protocol_binding"] for each in shown["interfaces"] if each["type"] == "a2a"} == {
        "JSONRPC",
        "HTTP+JSON",
    }
    for answer in (refused, status):
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="elf"'
        assert answer.json()["message"] == "a token is needed; send it as `Authorization: Bearer <token>`"


async def test_a_token_for_another_team_is_403(settings: Settings) -> None:
    async with serve(boss(), settings=settings) as served, httpx.AsyncClient(base_url=served.url("boss")) as http:
        answer = await http.get("/status", headers={**FORWARDED, **served.headers("ada", "worker")})
    assert answer.status_code == 403
    assert answer.json() == {
        "error": "Forbidden",
        "message": "the token is not for the team 'boss' in this environment",
    }


async def test_a_team_with_its_chat_off_has_none(settings: Settings) -> None:
    async with serve(boss(chat={"enabled": False}), settings=settings) as served:
        async with httpx.AsyncClient(base_url=served.url("boss")) as http:
            assert (await http.get("/health")).json()["chat_enabled"] is False
            shown = (await http.get("/capabilities")).json()
            assert not [each for each in shown["interfaces"] if each["type"] == "websocket-chat"]
            assert (await http.get("/chat/schema.json")).status_code == 404


async def test_a_single_team_is_at_the_root_as_well(settings: Settings) -> None:
    async with serve(boss(), settings=settings) as served, httpx.AsyncClient() as http:
        assert (await http.get(f"{served.address}/health")).json()["team_name"] == "boss"


class Hooked(TeamServer):
    started = stopped = 0

    async def on_start(self) -> None:
        type(self).started += 1

    async def on_stop(self) -> None:
        type(self).stopped += 1

    async def health(self) -> Health:
        return Health("degraded", {"archive": "slow"})

    def capabilities(self) -> Capabilities:
        return dataclasses.replace(super().capabilities(), extra={"languages": ["en", "de"]})

    async def on_message(self, turn: RunContext) -> AsyncGenerator[Event, None]:
        yield TextDelta(f"I heard {turn.text!r}")


async def test_the_hooks_of_a_team(settings: Settings) -> None:
    server = boss(base=Hooked)
    hooks = type(server)
    assert issubclass(hooks, Hooked)
    async with serve(server, settings=settings) as served, httpx.AsyncClient(base_url=served.url("boss")) as http:
        assert (hooks.started, hooks.stopped) == (1, 0)
        health = await http.get("/health")
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        assert health.json()["checks"]["archive"] == "slow"
        assert (await http.get("/readyz")).status_code == 200
        shown = (await http.get("/capabilities")).json()
        assert shown["extra"] == {"languages": ["en", "de"]}
        assert shown["interfaces"][0]["url"].startswith(served.url("boss"))
        async with chat(served) as client:
            assert await client.ask("hello") == "I heard 'hello'"
    assert (hooks.started, hooks.stopped) == (1, 1)


class Failing(TeamServer):
    async def health(self) -> Health:
        return Health("failing", {"archive": "gone"})


async def test_a_failing_team_is_taken_out_of_service_and_still_alive(settings: Settings) -> None:
    async with serve(boss(base=Failing), settings=settings) as served:
        async with httpx.AsyncClient(base_url=served.url("boss")) as http:
            assert (await http.get("/health")).status_code == 503
            assert (await http.get("/readyz")).status_code == 503
            assert (await http.get("/livez")).status_code == 200


def test_adapter_and_team_yaml_must_agree() -> None:
    with pytest.raises(BadInput, match=r"boss: team.yaml says framework: crewai, but Team uses ScriptedAdapter"):
        team("boss", ScriptedAdapter(), framework="crewai")


def test_a_team_needs_something_that_works() -> None:
    class Empty(TeamServer):
        pass

    with pytest.raises(BadInput, match="Empty has neither an adapter nor an on_message"):
        Empty(TeamSpec(name="empty", members=({"role": "Head", "is_manager": True},)))


async def test_overrides_of_the_environment_hold(settings: Settings) -> None:
    server = boss(chat={"enabled": True}, environments={"dev": {"chat": {"enabled": False}}})
    async with serve(server, settings=settings) as served, httpx.AsyncClient() as http:
        assert (await http.get(f"{served.url('boss')}/health")).json()["chat_enabled"] is False


async def test_what_a_running_team_tells_of_itself_is_that_of_its_environment(settings: Settings) -> None:
    server = boss(
        environments={
            "dev": {
                "llm": {"provider": "ollama", "model": "llama"},
                "delegation": {"preview": False, "confirmation": False},
            }
        }
    )
    async with serve(server, settings=settings) as served, httpx.AsyncClient(base_url=served.url("boss")) as http:
        assert (await http.get("/capabilities")).json()["model"] == {"provider": "ollama", "model": "llama"}
        assert (await http.get("/health")).json()["checks"]["model"] == "ok"
        async with chat(served) as client:
            assert "offline" not in (await client.receive())["message"]


class Stillborn(TeamServer):
    stopped = 0

    async def on_start(self) -> None:
        raise Failure("the archive is gone")

    async def on_stop(self) -> None:
        type(self).stopped += 1


async def test_a_team_that_does_not_start_closes_what_it_opened(settings: Settings) -> None:
    server = boss(base=Stillborn)
    hooks = type(server)
    assert issubclass(hooks, Stillborn)
    async with open_services(settings) as services:
        with pytest.raises(Failure, match="the archive is gone"):
            async with server.running(services):
                pass
    transport = httpx.ASGITransport(app=server)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        assert (await http.get("/startupz")).status_code == 503
    assert hooks.stopped == 0


@both_stores
async def test_a_served_team_forgets_but_takes_no_message_twice(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "_EVERY", 0.2)
    monkeypatch.setattr(recent, "_ENDED_FOR", 0.0)
    server = boss(runs={"retention": "1s"})
    async with serve(server, settings=settings) as served, httpx.AsyncClient() as http, chat(served) as client:
        ada = TeamClient(served.url("boss"), lambda: served.issuer.user_token("ada", "boss"), http)

        async def send() -> tuple[str, str]:
            updates = [update async for update in ada.send("hello", message_id="m1")]
            return updates[-1].task_id, "".join(update.text_delta for update in updates)

        assert await client.ask("hi") == "you said: hi"
        task_id, text = await send()
        assert text == "you said: hello"
        async with asyncio.timeout(10):
            while (await http.get(f"{served.url('boss')}/status")).json()["runs"]:  # noqa: ASYNC110 - as people look
                await asyncio.sleep(0.1)
        assert await send() == (task_id, "")
        assert [context.text for context in scripted(server).contexts] == ["hi", "hello"]
