"""The A2A client with which teams call each other. No A2A type crosses its border.

A message is sent under an id of the caller's. When the connection drops, its task is taken up where it was, and nothing
is passed on twice. Only while it is unknown whether the message arrived, it is sent again, and only to a server that
declares `IDEMPOTENT_MESSAGE_ID`: any other one is never sent a message twice.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final

import httpx

from elf_sdk.errors import Retryable
from elf_sdk.server.a2a.connection import Connection, Interrupted
from elf_sdk.server.a2a.discovery import Discovery
from elf_sdk.server.a2a.exchange import Exchange, call_headers, reading
from elf_sdk.server.a2a.propagation import propagated
from elf_sdk.server.a2a.remote import remote_task
from elf_sdk.server.remote import RemoteTask, RemoteUpdate

__all__ = ["TeamClient"]

_SILENCE: Final = 40.0
"""Seconds without a byte after which a connection counts as dropped; a stream carries a sign of life each 15 s."""
_LOOK: Final = 15.0
"""Seconds without news after which a task is looked at beside its stream."""
_BACKOFF: Final = (0.2, 10.0)
"""Seconds before the first repeat, doubled for each one after, and the longest."""
_LONGEST_WAIT: Final = 60.0
"""Seconds that a server may ask to be waited for; more is an error of now."""


class TeamClient:
    """Calls one other team.

    Args:
        url: the team's base URL.
        token_provider: a bearer token for that team; asked before each request.
        http: the connections, shared and closed by whoever made them.
        team: its name, for messages to people.
        retries: how often in a row a request is repeated without any news in between.
        silence: seconds without a byte after which a connection counts as dropped.
        look: seconds without news after which a task is looked at beside its stream.
    """

    def __init__(
        self,
        url: str,
        token_provider: Callable[[], str],
        http: httpx.AsyncClient,
        *,
        team: str = "",
        retries: int = 4,
        silence: float = _SILENCE,
        look: float = _LOOK,
    ) -> None:
        self.url = url.rstrip("/")
        self._retries = retries
        self._look = look
        self._where = f"the team {team!r} at {self.url}" if team else f"the team at {self.url}"
        self._connection = Connection(http, token_provider, self._where, silence)
        self._discovery = Discovery(self._connection, self.url, self._where)

    async def name(self) -> str:
        """The team's name, from its card.

        Raises:
            ElfError: as `send` does.
        """
        return (await self._discovery.card()).name

    async def send(
        self,
        text: str,
        *,
        message_id: str,
        context_id: str | None = None,
        task_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        deadline: float | None = None,
    ) -> AsyncGenerator[RemoteUpdate, None]:
        """Send a message, and follow its task until it ends or asks something.

        Args:
            text: what is asked, or the answer to what the task asks.
            message_id: the caller's id; the same one again gives the same task.
            context_id: the conversation.
            task_id: the task that waits for this answer.
            metadata: `chain`, `delegation_id` and `user` of a delegation; must be the same when it is sent again.
            deadline: seconds that are left for the task. The team is told what is left of them whenever the message is
                sent, and ends the task by itself; servers that are not ours may not know of it.

        Raises:
            Denied: the team does not let us in.
            BadInput: the team refuses the message as it is.
            Conflict: the task does not wait for an answer.
            NotFound: there is no such task of ours.
            Retryable: the team is not reachable, or stayed unreachable after the message was sent.
            Failure: the answer is none; a server without idempotent ids left the outcome unknown; or the deadline
                passed, and the team did not say so.
        """
        message: dict[str, Any] = {"messageId": message_id, "role": "ROLE_USER", "parts": [{"text": text}]}
        if context_id:
            message["contextId"] = context_id
        if task_id:
            message["taskId"] = task_id
        message["metadata"] = propagated(metadata, deadline)
        exchange = Exchange(self._connection, self._where, message, deadline=deadline, look=self._look)
        failures = 0
        while True:
            problem = Retryable(f"{self._where} closed the stream before the task had ended")
            try:
                async with aclosing(exchange.attempt(await self._discovery.card())) as updates:
                    async for update in updates:
                        failures = 0
                        yield update
                        if update.final or update.question:
                            return
            except Retryable as error:
                problem = error
            failures += 1
            if failures > self._retries:
                raise problem
            await self._pause(failures, problem, exchange.patience)

    async def get(self, task_id: str) -> RemoteTask:
        """The task as it is now.

        Raises:
            ElfError: as `send` does.
        """
        return await self._task("GetTask", {"id": task_id, "historyLength": 0})

    async def cancel(self, task_id: str) -> RemoteTask:
        """Cancel the task; returns how it ended.

        Raises:
            Conflict: it has ended already.
            ElfError: as `send` does.
        """
        return await self._task("CancelTask", {"id": task_id})

    async def _task(self, method: str, params: dict[str, Any]) -> RemoteTask:
        card = await self._discovery.card()
        task = await self._connection.call(card.url, method, params, call_headers(card))
        with reading(self._where):
            return remote_task(task, card.idempotent)

    async def _pause(self, failures: int, problem: Retryable, patience: float | None) -> None:
        """Wait before the next attempt: as long as the server asks, and not as long as everybody else.

        Raises:
            Retryable: the problem, where waiting is of no use.
        """
        first, longest = _BACKOFF
        wait = min(first * 2.0 ** (failures - 1), longest) * random.uniform(0.5, 1)  # noqa: S311 - spreads retries
        wait = max(wait, problem.wait if isinstance(problem, Interrupted) else 0)
        if wait > _LONGEST_WAIT or (patience is not None and wait > patience):
            raise problem
        await asyncio.sleep(wait)
