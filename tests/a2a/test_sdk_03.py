"""Clients that speak A2A 0.3: the SDK of that time, and the compatible client of today's."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from a2a.client import ClientConfig, ClientFactory
from a2a.client.card_resolver import A2ACardResolver
from a2a.types import CancelTaskRequest, GetTaskRequest, SubscribeToTaskRequest, TaskState

from tests.a2a.conftest import Served, ask
from tests.a2a.test_tasks import text_of

NAME = "a2a-sdk-0.3"


@pytest.fixture
def python() -> Path:
    """The Python of an environment with a2a-sdk 0.3, which cannot be in one with today's."""
    root = os.environ.get("ELF_SUITES_DIR", "")
    found = Path(root) / NAME / ".venv" / "bin" / "python"
    if not root or not found.exists():
        where = Path(root or "$ELF_SUITES_DIR") / NAME / ".venv"
        pytest.skip(
            f"the client of 0.3 is not there; python3 -m venv {where}, and {where}/bin/pip install 'a2a-sdk>=0.3,<0.4'"
        )
    return found


async def test_the_sdk_of_03_talks_streams_cancels_and_comes_back(team: Served, python: Path) -> None:
    script = Path(__file__).with_name("client_03.py")
    process = await asyncio.create_subprocess_exec(
        *(str(python), str(script), team.url, team.token()),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    seen: dict[str, Any] = json.loads(out)
    assert seen == {
        "card": ["Painting team", "0.3", "JSONRPC", f"{team.url}/a2a/v1"],
        "plain": ["completed", "you said: hello"],
        "stream": ["task", ["artifact-update", "status-update", "task"], "completed", "0 1 2 "],
        "cancel": "canceled",
        "cancelled": "canceled",
        "resubscribe": ["completed", "".join(f"{index} " for index in range(12))],
        "asked": ["input-required", "Which colour?"],
        "answered": ["completed", "painted blue"],
        "absent": -32001,
    }


async def test_todays_sdk_talks_03_where_a_card_offers_no_more(team: Served) -> None:
    card = await A2ACardResolver(team.http, team.url).get_agent_card()
    old = [interface for interface in card.supported_interfaces if interface.protocol_version == "0.3"]
    del card.supported_interfaces[:]
    card.supported_interfaces.extend(old)
    client = ClientFactory(ClientConfig(httpx_client=team.http)).create(card)
    text = ""
    async for response in client.send_message(ask("count 3"), context=team.call()):
        if response.HasField("artifact_update"):
            text += "".join(part.text for part in response.artifact_update.artifact.parts)
    assert text == "0 1 2 "
    task_id = ""
    async for response in client.send_message(ask("wait", "m2"), context=team.call()):
        if response.HasField("artifact_update"):
            task_id = response.artifact_update.task_id
            break
    async for response in client.subscribe(SubscribeToTaskRequest(id=task_id), context=team.call()):
        if response.HasField("task"):
            assert text_of(response.task) == "first "
            await client.cancel_task(CancelTaskRequest(id=task_id), context=team.call())
    task = await client.get_task(GetTaskRequest(id=task_id), context=team.call())
    assert task.status.state == TaskState.TASK_STATE_CANCELED
