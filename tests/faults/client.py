"""A2A clients that write down what they are told, and go to another replica when one does not answer.

They do what a caller may do by the promises of the protocol: send the same message again with the same id, subscribe
again, and ask for the task. Nothing else keeps them going.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Self

import httpx
import orjson

__all__ = ["Caller", "Ledger", "Refused", "Told", "load"]

Json = dict[str, Any]

_ENDED = frozenset({"TASK_STATE_COMPLETED", "TASK_STATE_FAILED", "TASK_STATE_CANCELED"})
_NOT_CANCELABLE = -32002
_UNSUPPORTED = -32004
_NUMBERS = itertools.count()
_HEADERS = {"A2A-Version": "1.0"}


class AgainError(Exception):
    """No answer, or one that says to try again."""


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, error: Json) -> None:
        super().__init__(str(error))
        self.code: int = error["code"]


@dataclass(eq=False)
class Told:
    """What a client was told of one message.

    Attributes:
        text: what it asked.
        message_id: of the message, in each try.
        tasks: ids that the answers gave to it.
        seen: each stream, item by item; a single answer is one of one item.
        answered: ids of answers to questions that were acknowledged.
        cancelled: whether a cancel was acknowledged.
        tries: requests that it took.
    """

    text: str
    message_id: str
    tasks: set[str] = field(default_factory=set)
    seen: list[list[Json]] = field(default_factory=list)
    answered: set[str] = field(default_factory=set)
    cancelled: bool = False
    tries: int = 0

    @property
    def task(self) -> str:
        return next(iter(self.tasks), "")

    @property
    def state(self) -> str:
        """The last that was heard of its state."""
        return str(self.status.get("state", ""))

    @property
    def status(self) -> Json:
        """The last that was heard of its status."""
        for items in reversed(self.seen):
            for item in reversed(items):
                if "task" in item or "statusUpdate" in item:
                    found: Json = (item.get("task") or item["statusUpdate"])["status"]
                    return found
        return {}

    @property
    def ended(self) -> bool:
        return self.state in _ENDED


@dataclass(eq=False)
class Ledger:
    """What all clients were told.

    Attributes:
        told: by message.
        failed: requests that were not answered well by the replica that they came to, but for connections refused.
    """

    told: list[Told] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def open(self, text: str) -> Told:
        """A new message."""
        told = Told(text, f"message-{next(_NUMBERS)}")
        self.told.append(told)
        return told


class Caller:
    """Asks replicas, one after the other, until one of them answers.

    Args:
        urls: of the replicas.
        token: of the user.
        seed: of all that is left to chance.
        timeout: seconds without a byte after which a replica is taken for dead.
    """

    def __init__(self, urls: Sequence[str], token: str, seed: int, timeout: float = 5) -> None:
        self._urls = urls
        self._timeout = timeout
        self._rng = random.Random(seed)  # noqa: S311 - a test, to be repeated
        self._http = httpx.AsyncClient(
            headers={**_HEADERS, "Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(timeout, connect=2, pool=30),
            limits=httpx.Limits(max_connections=200, max_keepalive_connections=50),
        )
        self.pause = 0.05
        self.on_failure: Callable[[str], None] = lambda _: None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    def _somewhere(self) -> str:
        return self._rng.choice(list(self._urls))

    def _elsewhere(self, url: str) -> str:
        others = [other for other in self._urls if other != url]
        return self._rng.choice(others) if others else url

    async def call(self, url: str, method: str, params: Json) -> Json:
        """One request to one replica; its result.

        Raises:
            AgainError: no answer, or one that says to try again.
            Refused: an error.
        """
        try:
            answer = await self._http.post(
                f"{url}/a2a/v1", json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            )
            body: Json = orjson.loads(answer.content)
        except (httpx.HTTPError, orjson.JSONDecodeError) as error:
            raise AgainError(f"{type(error).__name__} {error}") from error
        return _result(body)

    async def stream(self, url: str, method: str, params: Json, seen: list[Json]) -> None:
        """One stream of one replica to its end, into `seen`.

        Raises:
            AgainError: it broke off, or an answer says to try again.
            Refused: an error.
        """
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        try:
            async with self._http.stream("POST", f"{url}/a2a/v1", json=body) as answer:
                if not answer.headers["content-type"].startswith("text/event-stream"):
                    _result(orjson.loads(await answer.aread()))
                    raise AgainError("no stream")
                async for line in answer.aiter_lines():
                    if line.startswith("data: "):
                        # One by one: what came before a stream broke off was seen, too.
                        item = _result(orjson.loads(line[6:]))
                        seen.append(item)
        except (httpx.HTTPError, orjson.JSONDecodeError) as error:
            raise AgainError(f"{type(error).__name__} {error}") from error

    async def _ask(self, told: Told, method: str, params: Json, url: str = "") -> Json:
        """The result, from whatever replica gives one."""
        url = url or self._somewhere()
        while True:
            told.tries += 1
            try:
                return await self.call(url, method, params)
            except AgainError as error:
                if not str(error).startswith("Connect"):
                    self.on_failure(f"{method} {told.text!r}: {error}")
                url = self._elsewhere(url)
                await asyncio.sleep(self.pause)

    async def _told(self, told: Told, method: str, params: Json, url: str = "") -> None:
        result = await self._ask(told, method, params, url)
        task: Json = result.get("task", result)
        told.tasks.add(task["id"])
        told.seen.append([{"task": task}])

    async def probe(self, url: str) -> float:
        """Seconds that `/readyz` of a replica takes."""
        began = time.monotonic()
        assert (await self._http.get(f"{url}/readyz")).status_code == 200
        return time.monotonic() - began

    async def get(self, told: Told, url: str = "") -> None:
        """Ask for the task as it is now."""
        await self._told(told, "GetTask", {"id": told.task}, url)

    async def send(self, told: Told, *, wait: bool = True, url: str = "", context: str = "") -> None:
        """Send the message, and wait until the task rests."""
        configuration = {} if wait else {"configuration": {"returnImmediately": True}}
        message = _message(told.message_id, told.text) | ({"contextId": context} if context else {})
        await self._told(told, "SendMessage", {"message": message, **configuration}, url)

    async def follow(self, told: Told, url: str = "") -> None:
        """Send the message, unless it is known already, and follow the task until it rests."""
        url = url or self._somewhere()
        while not (told.ended or told.state == "TASK_STATE_INPUT_REQUIRED"):
            seen: list[Json] = []
            told.tries += 1
            try:
                if told.tasks:
                    await self.stream(url, "SubscribeToTask", {"id": told.task}, seen)
                else:
                    await self.stream(
                        url, "SendStreamingMessage", {"message": _message(told.message_id, told.text)}, seen
                    )
            except AgainError as error:
                if not str(error).startswith("Connect"):
                    self.on_failure(f"stream {told.text!r}: {error}")
                url = self._elsewhere(url)
                await asyncio.sleep(self.pause)
            except Refused as refused:
                if refused.code != _UNSUPPORTED:
                    raise
                # It has ended meanwhile.
                await self.get(told)
            finally:
                if seen:
                    told.tasks |= {item["task"]["id"] for item in seen if "task" in item}
                    told.seen.append(seen)

    async def answer(self, told: Told, text: str) -> None:
        """Answer the question of the task, and wait until it rests."""
        answer_id = f"{told.message_id}-answer"
        await self._told(told, "SendMessage", {"message": {**_message(answer_id, text), "taskId": told.task}})
        told.answered.add(answer_id)

    async def cancel(self, told: Told) -> None:
        """Cancel the task; or find that it has ended."""
        try:
            await self._told(told, "CancelTask", {"id": told.task})
            told.cancelled = told.state == "TASK_STATE_CANCELED"
        except Refused as refused:
            if refused.code != _NOT_CANCELABLE:
                raise
            await self.get(told)

    async def work(self, ledger: Ledger, going: Callable[[], bool], kinds: Sequence[str]) -> None:
        """One message after the other, of all kinds, as long as `going` says so; the last one to its end."""
        rng = self._rng
        while going():
            match rng.choice(kinds):
                case "stream":
                    told = ledger.open(f"steps {rng.randint(2, 6)} {rng.uniform(0.02, 0.4):.2f}")
                    await self.follow(told)
                case "unary":
                    told = ledger.open(f"steps {rng.randint(1, 3)} {rng.uniform(0.01, 0.2):.2f}")
                    await self.send(told)
                case "ask":
                    told = ledger.open("ask")
                    await self.send(told)
                    if told.state == "TASK_STATE_INPUT_REQUIRED":
                        await self.answer(told, f"the {rng.randint(1, 9)}th")
                case "cancel":
                    told = ledger.open("steps 100 0.2")
                    await self.send(told, wait=False)
                    await asyncio.sleep(rng.uniform(0, 0.5))
                    await self.cancel(told)
                case "two":
                    # Two subscribers, wherever they come.
                    told = ledger.open(f"steps {rng.randint(2, 6)} {rng.uniform(0.02, 0.4):.2f}")
                    await self.send(told, wait=False)
                    await asyncio.gather(self.follow(told), self.follow(told))
                case kind:
                    raise AssertionError(kind)


@asynccontextmanager
async def load(
    urls: Sequence[str],
    token: str,
    *,
    seed: int,
    clients: int = 12,
    kinds: Sequence[str] = ("stream", "stream", "unary", "ask", "cancel", "two"),
    timeout: float = 5,
    finish: float = 40,
) -> AsyncGenerator[Ledger, None]:
    """Clients at work while the block runs. Then each brings its last message to an end.

    Args:
        urls: of the replicas.
        token: of the user.
        seed: of all that is left to chance.
        clients: how many.
        kinds: of messages.
        timeout: seconds without a byte after which a client goes elsewhere.
        finish: seconds for the last messages to end.
    """
    ledger = Ledger()
    going = True
    async with AsyncExitStack() as stack:
        callers = [
            await stack.enter_async_context(Caller(urls, token, seed * 1000 + number, timeout))
            for number in range(clients)
        ]
        for caller in callers:
            caller.on_failure = ledger.failed.append
        works = [asyncio.create_task(caller.work(ledger, lambda: going, kinds)) for caller in callers]
        try:
            yield ledger
            for work in works:
                assert not work.done(), work.exception()
            going = False
            async with asyncio.timeout(finish):
                await asyncio.gather(*works)
        finally:
            for work in works:
                work.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*works, return_exceptions=True)


def _message(message_id: str, text: str) -> Json:
    return {"messageId": message_id, "role": "ROLE_USER", "parts": [{"text": text}]}


def _result(body: Json) -> Json:
    if "error" not in body:
        result: Json = body["result"]
        return result
    error: Json = body["error"]
    if "retryable" in str(error.get("data", "")):
        raise AgainError(str(error))
    raise Refused(error)
