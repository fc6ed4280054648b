"""The official A2A client, used as its documentation says, against teams that `elf dev` serves."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from a2a.client import Client, ClientConfig, create_client
from a2a.types import (
    CancelTaskRequest,
    GetTaskRequest,
    Message,
    Part,
    Role,
    SendMessageRequest,
    StreamResponse,
    TaskState,
)

from tests.examples.support import Organisation

LANGGRAPH = "marketing-team"


@asynccontextmanager
async def client_of(organisation: Organisation, team: str, *, streaming: bool = True) -> AsyncIterator[Client]:
    async with httpx.AsyncClient(headers=organisation.headers(team), timeout=30) as http:
        yield await create_client(organisation.url(team), ClientConfig(streaming=streaming, httpx_client=http))


def ask(text: str) -> SendMessageRequest:
    return SendMessageRequest(
        message=Message(message_id=str(uuid.uuid4()), role=Role.ROLE_USER, parts=[Part(text=text)])
    )


def pieces(responses: list[StreamResponse]) -> list[str]:
    return [
        part.text
        for response in responses
        if response.HasField("artifact_update")
        for part in response.artifact_update.artifact.parts
    ]


@pytest.mark.parametrize(
    ("team", "says", "answers"),
    [
        (LANGGRAPH, "Prepare the launch campaign for our desk lamp.", "Your evening, in better light."),
        ("executive-team", "What is the status?", "the hinge passed 20,000 cycles"),
        ("engineering-team", "How long does the dimmer's firmware take?", "8 working days"),
    ],
)
async def test_an_answer_is_streamed(organisation: Organisation, team: str, says: str, answers: str) -> None:
    async with client_of(organisation, team) as client:
        responses = [response async for response in client.send_message(ask(says))]
        assert responses[0].HasField("task")
        last = [response.status_update.status.state for response in responses if response.HasField("status_update")][-1]
        assert last == TaskState.TASK_STATE_COMPLETED
        assert len(pieces(responses)) > 1
        assert answers in "".join(pieces(responses))

        task = await client.get_task(GetTaskRequest(id=responses[0].task.id))
        assert task.status.state == TaskState.TASK_STATE_COMPLETED
        assert "".join(part.text for artifact in task.artifacts for part in artifact.parts) == "".join(
            pieces(responses)
        )


async def test_without_streaming_the_task_comes_whole(organisation: Organisation) -> None:
    async with client_of(organisation, LANGGRAPH, streaming=False) as client:
        [response] = [response async for response in client.send_message(ask("Hello!"))]
        assert response.task.status.state == TaskState.TASK_STATE_COMPLETED
        assert "this is marketing" in response.task.artifacts[0].parts[0].text


async def test_a_slow_answer_is_cancelled_in_the_middle(organisation: Organisation) -> None:
    async with client_of(organisation, LANGGRAPH) as client:
        seen: list[StreamResponse] = []
        async for response in client.send_message(ask("Tell me slowly.")):
            seen.append(response)
            if len(pieces(seen)) == 2:
                cancelled = await client.cancel_task(CancelTaskRequest(id=seen[0].task.id))
                assert cancelled.status.state == TaskState.TASK_STATE_CANCELED
        assert seen[-1].status_update.status.state == TaskState.TASK_STATE_CANCELED
        said = "".join(pieces(seen))
        assert said.startswith("One word")
        assert not said.endswith("the last of them.")

        task = await client.get_task(GetTaskRequest(id=seen[0].task.id))
        assert task.status.state == TaskState.TASK_STATE_CANCELED
