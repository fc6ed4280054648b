"""Runs at once through the CrewAI team, whose framework would mix their answers if they shared one crew."""

from __future__ import annotations

import asyncio
import re

import httpx
import pytest

from tests.examples.support import Organisation

TEAM = "executive-team"


@pytest.mark.parametrize("count", [10, 32])
async def test_answers_come_back_to_those_who_asked(organisation: Organisation, count: int) -> None:
    async with httpx.AsyncClient(timeout=100) as http:

        async def ask(number: int) -> str:
            message = {
                "messageId": f"marker-{count}-{number}",
                "role": "ROLE_USER",
                "parts": [{"text": f"my marker is m{number:02}of{count}"}],
            }
            response = await http.post(
                f"{organisation.url(TEAM)}/a2a/v1",
                json={"jsonrpc": "2.0", "id": number, "method": "SendMessage", "params": {"message": message}},
                headers=organisation.headers(TEAM, f"user-{number}") | {"A2A-Version": "1.0"},
            )
            answer = response.raise_for_status().json()
            assert answer["id"] == number
            task = answer["result"]["task"]
            assert task["status"]["state"] == "TASK_STATE_COMPLETED", task
            return "".join(part["text"] for artifact in task["artifacts"] for part in artifact["parts"])

        answers = await asyncio.gather(*(ask(number) for number in range(count)))
    for number, answer in enumerate(answers):
        assert re.findall(r"m\d\dof\d\d", answer) == [f"m{number:02}of{count}"] * 2
