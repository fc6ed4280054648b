"""One message to another team and what comes back, over as many connections as that takes.

What is asked next follows from what is known: a message that the team has answered is never sent again, its task is
subscribed to behind the last event that arrived. Whether it may be sent again before that, the team's card says.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any, Final

from elf_sdk.errors import Conflict, Failure, NotFound, Retryable
from elf_sdk.server.a2a.card import IDEMPOTENT_MESSAGE_ID
from elf_sdk.server.a2a.connection import Connection, Interrupted, Item
from elf_sdk.server.a2a.discovery import RemoteCard
from elf_sdk.server.a2a.propagation import DEADLINE
from elf_sdk.server.a2a.remote import Seen
from elf_sdk.server.remote import RemoteUpdate

__all__ = ["Exchange", "call_headers", "reading"]

Json = dict[str, Any]
Items = AsyncGenerator[Item, None]

_POLL: Final = (0.1, 2.0)
"""Seconds between two looks at a task that cannot be streamed: the first, and the longest."""
_GRACE: Final = 5.0
"""Seconds after a deadline in which the other team can still say that it passed."""


class Exchange:
    """A message on its way, and what is known of its task.

    Args:
        connection: to the team.
        where: what the team is called in messages to people.
        message: as JSON, without its deadline.
        deadline: seconds that are left; None for no bound.
        look: seconds without news after which the task is looked at beside its stream.
    """

    def __init__(
        self, connection: Connection, where: str, message: Json, *, deadline: float | None, look: float
    ) -> None:
        self._connection = connection
        self._where = where
        self._message = message
        self._deadline = deadline
        self._begun = asyncio.get_running_loop().time()
        self._look = look
        self._seen = Seen(message.get("taskId", ""))
        # Whether the message may have arrived, and whether it certainly has, because it was answered.
        self._sent = False
        self._answered = False
        # The last event that was taken; empty where there is none to go on behind.
        self._event_id = ""

    @property
    def patience(self) -> float | None:
        """Seconds for which there is any use in waiting; None for no bound."""
        if self._deadline is None:
            return None
        return self._begun + self._deadline + _GRACE - asyncio.get_running_loop().time()

    async def attempt(self, card: RemoteCard) -> AsyncGenerator[RemoteUpdate, None]:
        """What is new of the task, as long as one connection holds.

        Raises:
            Retryable: the connection broke, or cannot be made.
            Failure: it may not be tried again, or the deadline has passed and the team did not say so.
            ElfError: the team refuses.
        """
        self._seen.only_answer = card.idempotent
        async with aclosing(self._watched(card) if card.streaming else self._unstreamed(card)) as items:
            async for item in items:
                with reading(self._where):
                    updates = list(self._seen.updates(item.result))
                self._event_id = item.event_id
                for update in updates:
                    yield update

    async def _watched(self, card: RemoteCard) -> Items:
        """The stream, and the task itself where its stream keeps silent about what became of it."""
        async with aclosing(self._streamed(card)) as stream:
            following: asyncio.Task[Item] | None = None
            try:
                while True:
                    following = asyncio.create_task(_next(stream))
                    while not (await asyncio.wait({following}, timeout=self._bounded(self._look)))[0]:
                        task = await _unless(following, self._news(card))
                        if task is not None and not following.done():
                            yield task
                            # The stream may still bring pieces of what was passed on with this.
                            raise Retryable(f"the stream of {self._where} is behind its task")
                    try:
                        yield following.result()
                    except StopAsyncIteration:
                        return
            finally:
                if following is not None:
                    following.cancel()
                    await asyncio.gather(following, return_exceptions=True)

    async def _news(self, card: RemoteCard) -> Item | None:
        """The task, if it shows what its stream did not; None also where it cannot be asked for now."""
        if not self._seen.task_id:
            return None
        try:
            item = await self._task(card)
        except Retryable:
            return None
        with reading(self._where):
            return None if self._seen.is_all_of(item.result["task"]) else item

    async def _streamed(self, card: RemoteCard) -> Items:
        if self._answered and self._seen.task_id:
            try:
                async with aclosing(self._resumed(card)) as items:
                    async for item in items:
                        yield item
                return
            except NotFound:
                if not card.idempotent or "taskId" in self._message:
                    raise
                # A server that lost the task starts it again; it has nothing of it to double.
                self._answered = False
        params = self._params(card)
        try:
            async with aclosing(self._items(card, "SendStreamingMessage", params)) as items:
                async for item in items:
                    self._answered = True
                    yield item
        except Interrupted as error:
            self._sent = self._answered or error.arrived
            raise

    async def _resumed(self, card: RemoteCard) -> Items:
        """The task's stream behind the last event; the task itself where there is no stream of it any more."""
        # Only of ours is it known what the id of an event means.
        behind = {"Last-Event-ID": self._event_id} if self._event_id and card.idempotent else {}
        try:
            async with aclosing(self._items(card, "SubscribeToTask", {"id": self._seen.task_id}, behind)) as items:
                async for item in items:
                    yield item
        except Conflict:
            # It has ended, or its server does not let anybody subscribe.
            async with aclosing(self._polled(card)) as items:
                async for item in items:
                    yield item

    async def _unstreamed(self, card: RemoteCard) -> Items:
        """The same from a server that does not stream."""
        if not (self._answered and self._seen.task_id):
            params = {**self._params(card), "configuration": {"returnImmediately": True, "historyLength": 0}}
            try:
                yield Item("", await self._call(card, "SendMessage", params))
            except Interrupted as error:
                self._sent = error.arrived
                raise
            self._answered = True
            await asyncio.sleep(_POLL[0])
        async with aclosing(self._polled(card)) as items:
            async for item in items:
                yield item

    async def _polled(self, card: RemoteCard) -> Items:
        """The task again and again."""
        wait, longest = _POLL
        while True:
            yield await self._task(card)
            await asyncio.sleep(self._bounded(wait))
            wait = min(wait * 1.5, longest)

    def _bounded(self, seconds: float) -> float:
        """The seconds to wait for news, if that is of any use.

        Raises:
            Failure: the deadline has passed, and the team had its time to say so.
        """
        patience = self.patience
        if patience is None:
            return seconds
        if patience <= 0:
            raise Failure(f"{self._where} was not done within {self._deadline:g} s, and did not say so")
        return min(seconds, patience)

    def _params(self, card: RemoteCard) -> Json:
        """What sends the message, if it may be sent now; from here on it may have arrived.

        Raises:
            Failure: it may have arrived before at a server that would take it for another one; or its time is over.
        """
        message_id = self._message["messageId"]
        if self._sent and not card.idempotent:
            raise Failure(
                f"the connection to {self._where} was lost and it is unknown whether the message {message_id!r} "
                "arrived; the server does not take a message twice, so it was not sent again"
            )
        message = self._message
        if self._deadline is not None:
            left = self._begun + self._deadline - asyncio.get_running_loop().time()
            if left <= 0:
                raise Failure(f"{self._where} did not get the message {message_id!r} within {self._deadline:g} s")
            message = {**message, "metadata": {**message["metadata"], DEADLINE: left}}
        self._sent = True
        return {"message": message}

    async def _task(self, card: RemoteCard) -> Item:
        task = await self._call(card, "GetTask", {"id": self._seen.task_id, "historyLength": 0})
        # There is no number to go on behind: what comes next has to begin with the task.
        return Item("", {"task": task})

    async def _call(self, card: RemoteCard, method: str, params: Json) -> Json:
        return await self._connection.call(card.url, method, params, call_headers(card))

    def _items(self, card: RemoteCard, method: str, params: Json, headers: Mapping[str, str] | None = None) -> Items:
        return self._connection.stream(card.url, method, params, {**call_headers(card), **(headers or {})})


def call_headers(card: RemoteCard) -> dict[str, str]:
    """The version that is spoken, and the extension that is used where the team has it."""
    return {"A2A-Version": "1.0", **({"A2A-Extensions": IDEMPOTENT_MESSAGE_ID} if card.idempotent else {})}


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Take an answer that cannot be read for what it is.

    Raises:
        Failure: it is not A2A.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Failure(f"{where} gave an answer that is not A2A: {type(error).__name__} {error}") from error


async def _next(stream: Items) -> Item:
    return await anext(stream)


async def _unless(sooner: asyncio.Task[Item], news: Coroutine[Any, Any, Item | None]) -> Item | None:
    """The news, or None when `sooner` is done before."""
    asking = asyncio.create_task(news)
    try:
        await asyncio.wait({sooner, asking}, return_when=asyncio.FIRST_COMPLETED)
        return asking.result() if asking.done() else None
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
