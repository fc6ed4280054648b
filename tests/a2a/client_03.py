# mypy: ignore-errors
"""A conversation by the client of a2a-sdk 0.3, in an environment of its own: `python client_03.py URL TOKEN`.

Prints what it saw as JSON, which test_sdk_03.py looks at.
"""

import asyncio
import json
import sys

import httpx
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.client.errors import A2AClientJSONRPCError
from a2a.types import Message, Part, Role, TaskIdParams, TaskQueryParams, TextPart


def ask(text, message_id, **more):
    return Message(role=Role.user, message_id=message_id, parts=[Part(root=TextPart(text=text))], **more)


def text_of(task):
    found = [artifact for artifact in task.artifacts or [] if artifact.artifact_id == "elf.answer"]
    return "".join(part.root.text for artifact in found for part in artifact.parts)


async def last(stream):
    """The task as the stream leaves it."""
    tasks = [task async for task, _ in stream]
    return tasks[-1]


async def talk(url, token):
    seen = {}
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=20) as http:
        card = await A2ACardResolver(http, url).get_agent_card()
        seen["card"] = [card.name, card.protocol_version, card.preferred_transport, card.url]
        streaming = ClientFactory(ClientConfig(httpx_client=http)).create(card)
        plain = ClientFactory(ClientConfig(httpx_client=http, streaming=False)).create(card)

        task = await last(plain.send_message(ask("hello", "m1")))
        seen["plain"] = [task.status.state.value, text_of(task)]

        events = [event async for event in streaming.send_message(ask("count 3", "m2"))]
        kinds = [update.kind if update else "task" for _, update in events]
        task = events[-1][0]
        seen["stream"] = [kinds[0], sorted(set(kinds)), task.status.state.value, text_of(task)]

        async for task, update in streaming.send_message(ask("wait", "m3")):
            if update and update.kind == "artifact-update" and "cancel" not in seen:
                cancelled = await streaming.cancel_task(TaskIdParams(id=task.id))
                seen["cancel"] = cancelled.status.state.value
        seen["cancelled"] = task.status.state.value

        stream = streaming.send_message(ask("count 12", "m4"))
        async for found, update in stream:
            if update and update.kind == "artifact-update":
                task_id = found.id
                break
        await stream.aclose()
        task = await last(streaming.resubscribe(TaskIdParams(id=task_id)))
        whole = await streaming.get_task(TaskQueryParams(id=task_id))
        seen["resubscribe"] = [task.status.state.value, text_of(whole)]

        asked = await last(streaming.send_message(ask("ask", "m5")))
        seen["asked"] = [asked.status.state.value, asked.status.message.parts[0].root.text]
        answer = ask("blue", "m6", task_id=asked.id, context_id=asked.context_id)
        task = await last(streaming.send_message(answer))
        seen["answered"] = [task.status.state.value, text_of(task)]

        try:
            await streaming.get_task(TaskQueryParams(id="absent"))
        except A2AClientJSONRPCError as error:
            seen["absent"] = error.error.code
    return seen


if __name__ == "__main__":
    print(json.dumps(asyncio.run(talk(*sys.argv[1:]))))
