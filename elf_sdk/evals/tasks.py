"""A conversation with a team that has no chat: over A2A, as tasks of one context.

Nothing that the team proposes can be confirmed so: that is what a person does, in a chat. Source of the format:
A2A 1.0, HTTP+JSON.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from typing import Any, Final

import httpx

from elf_sdk.errors import Failure, Forbidden, Retryable, Unauthenticated
from elf_sdk.evals.reply import Meter, Reply

__all__ = ["Tasks"]

_ANSWER: Final = "elf.answer"
_PROPOSAL: Final = "delegation-proposal"
_ASKS: Final = frozenset({"TASK_STATE_INPUT_REQUIRED", "TASK_STATE_AUTH_REQUIRED"})
_FAILED: Final = frozenset({"TASK_STATE_FAILED", "TASK_STATE_REJECTED", "TASK_STATE_CANCELED"})
_NO_CHAT: Final = "the team has no chat, in which alone a person confirms or refuses what it proposes"


class Tasks:
    """A `Talk` with a team that has no chat.

    Args:
        http: with the user's token.
        url: of the team, without a slash at the end.
        image: digest of the image that answers, as the team says; empty where it says none.
    """

    def __init__(self, http: httpx.AsyncClient, url: str, image: str) -> None:
        self.image = image
        self._http = http
        self._url = f"{url}/a2a/v1"
        self._where = f"the team at {url}"
        self._context = f"eval-{uuid.uuid4().hex}"
        self._asking = ""
        self._meter = Meter(http, url)

    async def begin(self) -> None:
        """See that the team lets this user in, before anything is said.

        Raises:
            ElfError: as `say`.
        """
        try:
            answer = await self._http.get(f"{self._url}/tasks", params={"pageSize": 1})
        except httpx.HTTPError as error:
            raise Retryable(f"{self._where} is not reached: {error or type(error).__name__}") from None
        if answer.status_code != 200:
            raise _refused(answer.status_code, answer.content, self._where)

    async def say(self, text: str, time_limit: float) -> Reply:
        """Send a message; what comes back until its task has ended, or the team asks something.

        Args:
            text: the message.
            time_limit: seconds after which the task is cancelled.

        Raises:
            Denied: the team does not let the user in.
            Retryable: nobody serves there, or no longer.
            Failure: it answers something else.
        """
        return await self._turn(text, "", time_limit)

    async def answer(self, text: str, time_limit: float) -> Reply:
        """Answer the question that was asked last; else as `say`."""
        task, self._asking = self._asking, ""
        if not task:
            return Reply(errors=["the team asked nothing that could be answered"])
        return await self._turn(text, task, time_limit)

    async def confirm(self, team: str, time_limit: float) -> Reply:
        """Cannot be done without a chat."""
        return Reply(errors=[_NO_CHAT])

    async def reject(self, team: str, reason: str, time_limit: float) -> Reply:
        """Cannot be done without a chat."""
        return Reply(errors=[_NO_CHAT])

    async def _turn(self, text: str, task: str, time_limit: float) -> Reply:
        reply = Reply()
        started = time.monotonic()
        message = {"messageId": uuid.uuid4().hex, "role": "ROLE_USER", "parts": [{"text": text}]}
        named = {"taskId": task} if task else {"contextId": self._context}
        try:
            async with asyncio.timeout(time_limit), aclosing(self._stream({"message": message | named})) as items:
                async for item in items:
                    task = _task_of(item) or task
                    self._take(item, reply, task)
        except TimeoutError:
            reply.stopped = True
            with suppress(httpx.HTTPError):
                await self._http.post(f"{self._url}/tasks/{task}:cancel", json={})
        except httpx.HTTPError as error:
            raise Retryable(f"{self._where} is not reached: {error or type(error).__name__}") from None
        reply.seconds = round(time.monotonic() - started, 3)
        reply.spent = await self._meter.spent([task] if task else [])
        return reply

    async def _stream(self, request: Mapping[str, Any]) -> AsyncGenerator[Mapping[str, Any], None]:
        async with self._http.stream("POST", f"{self._url}/message:stream", json=request, timeout=None) as answer:
            if answer.status_code != 200:
                raise _refused(answer.status_code, await answer.aread(), self._where)
            async for line in answer.aiter_lines():
                if line.startswith("data:"):
                    yield json.loads(line.removeprefix("data:"))

    def _take(self, item: Mapping[str, Any], reply: Reply, task: str) -> None:
        if "artifactUpdate" in item:
            update = item["artifactUpdate"]
            artifact = update["artifact"]
            if artifact["artifactId"] == _ANSWER:
                said = "".join(part.get("text", "") for part in artifact["parts"])
                reply.text = reply.text + said if update.get("append") else said
            elif artifact.get("name") == _PROPOSAL:
                reply.proposed += [part["data"]["target"] for part in artifact["parts"] if "data" in part]
        if "statusUpdate" in item:
            metadata = item["statusUpdate"].get("metadata", {})
            if metadata.get("event") == "tool_call":
                reply.tools.append(metadata["name"])
            elif not metadata:
                self._took(item["statusUpdate"]["status"], reply, task)

    def _took(self, status: Mapping[str, Any], reply: Reply, task: str) -> None:
        said = "".join(part.get("text", "") for part in status.get("message", {}).get("parts", ()))
        if status["state"] in _ASKS:
            self._asking = task
            reply.questions.append(said)
        elif status["state"] in _FAILED:
            reply.errors.append(said or status["state"].removeprefix("TASK_STATE_").lower())


def _task_of(item: Mapping[str, Any]) -> str:
    for kind, name in (("task", "id"), ("statusUpdate", "taskId"), ("artifactUpdate", "taskId")):
        if kind in item:
            return str(item[kind][name])
    return ""


def _refused(status: int, body: bytes, where: str) -> Exception:
    try:
        error = json.loads(body)
        said = error.get("message") or error.get("error", {}).get("message") or ""
    except (ValueError, AttributeError):
        said = ""
    if status == 401:
        return Unauthenticated(f"{said or 'no valid token'}; give another token by --token")
    if status == 403:
        return Forbidden(said or f"{where} does not let this user in")
    if status in (429, 502, 503, 504):
        return Retryable(f"{where} cannot answer now: {said or status}")
    return Failure(f"{where} answers {status}: {said or 'and does not say why'}")
