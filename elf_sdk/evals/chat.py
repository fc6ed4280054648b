"""A conversation with a team by the public wire: what a person types, as frames, and what comes back, turn by turn.

Talked is over the chat, whose frames `/chat/schema.json` describes. What a turn used is read from its run as an A2A
task, because the chat does not tell it.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from elf_sdk.errors import BadInput, Failure, Forbidden, NotFound, Retryable, Unauthenticated

__all__ = ["Chat", "Reply", "Spent", "open_chat"]

_OPEN: Final = 20.0
"""Seconds for the greeting, and for what a turn used."""
_MAX_FRAME: Final = 16 * 1024 * 1024
"""Bytes of one frame that are read; the result of a delegation comes whole."""
_OVER: Final = frozenset({"finished", "failed", "cancelled", "rejected"})
_REFUSED: Final = frozenset({"limit", "BadInput", "Conflict", "Retryable"})
"""Codes of errors after which nothing more comes back to what was sent."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What models used.

    Attributes:
        tokens: read and written.
        cost_usd: in US dollars; None where the price of a model is not known.
    """

    tokens: int = 0
    cost_usd: float | None = 0.0

    def __add__(self, other: Spent) -> Spent:
        known = self.cost_usd is not None and other.cost_usd is not None
        cost = round((self.cost_usd or 0) + (other.cost_usd or 0), 9) if known else None
        return Spent(self.tokens + other.tokens, cost)

    def __sub__(self, other: Spent) -> Spent:
        known = self.cost_usd is not None and other.cost_usd is not None
        cost = round((self.cost_usd or 0) - (other.cost_usd or 0), 9) if known else None
        return Spent(self.tokens - other.tokens, cost)


@dataclass(slots=True)
class Reply:
    """What came back to a turn.

    Attributes:
        text: the answer; after a confirmation, that of the other team.
        tools: names of the tools that were called, in order.
        proposed: teams that work was proposed to, in order.
        questions: what the team asks.
        errors: messages of the errors that were told.
        seconds: from what was sent to the end of what came back.
        spent: by the team's models; None where it could not be asked.
        stopped: whether it took longer than it may, and was stopped.
    """

    text: str = ""
    tools: list[str] = field(default_factory=list)
    proposed: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0
    spent: Spent | None = field(default_factory=Spent)
    stopped: bool = False


@asynccontextmanager
async def open_chat(url: str, token: str) -> AsyncGenerator[Chat, None]:
    """A session with the team at `url`, which is ended with the block.

    Raises:
        BadInput: the address is none.
        NotFound: what serves there has no such chat.
        Denied: the team does not let the user in.
        Retryable: nobody serves there, or no longer.
        Failure: the chat was closed for another reason.
    """
    base = url.rstrip("/")
    headers = {"Authorization": f"Bearer {token}"}
    async with AsyncExitStack() as stack:
        http = httpx.AsyncClient(headers={**headers, "A2A-Version": "1.0"}, timeout=_OPEN)
        await stack.enter_async_context(http)
        with _told(base):
            address = base.replace("http", "ws", 1) + "/chat"
            connecting = connect(address, additional_headers=headers, compression=None, max_size=_MAX_FRAME)
            socket = await stack.enter_async_context(connecting)
            async with asyncio.timeout(_OPEN):
                greeting = json.loads(await socket.recv())
        yield Chat(base, socket, http, greeting)
        with suppress(ConnectionClosed):
            await socket.send(json.dumps({"type": "end"}))


@contextmanager
def _told(base: str) -> Iterator[None]:
    """What goes wrong with a connection, as what the caller does about it."""
    try:
        yield
    except (InvalidURI, ValueError):
        raise BadInput(f"{base!r} is no address of a team; write http://HOST:PORT/teams/TEAM") from None
    except InvalidStatus as error:
        raise NotFound(
            f"there is no chat at {base}/chat (HTTP {error.response.status_code}); "
            "check the address and the team's name, and that its chat is enabled"
        ) from None
    except TimeoutError:
        raise Retryable(f"the team at {base} did not greet within {_OPEN:g} s; look at its log") from None
    except (OSError, InvalidHandshake) as error:
        # asyncio's own text of a refused connection repeats the address.
        why = os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else error
        raise Retryable(f"nobody serves a chat at {base} ({why}); start it, or check the address") from None
    except ConnectionClosed as closed:
        raise _closed(closed) from None


class Chat:
    """A session that is open; made by `open_chat`.

    Attributes:
        image: digest of the image that answers, as the team says; empty where it says none.
    """

    def __init__(
        self, url: str, socket: ClientConnection, http: httpx.AsyncClient, greeting: Mapping[str, Any]
    ) -> None:
        self.image = str(greeting.get("image", ""))
        self._url = url
        self._socket = socket
        self._http = http
        self._question: Mapping[str, Any] | None = None
        self._previews: dict[str, Mapping[str, Any]] = {}
        self._ended: dict[str, Mapping[str, Any]] = {}
        self._confirmed: set[str] = set()
        self._spent: dict[str, Spent] = {}

    async def say(self, text: str, time_limit: float) -> Reply:
        """Send a message; what comes back until the answer is complete, or the team asks something.

        Args:
            text: the message.
            time_limit: seconds after which it is stopped.

        Raises:
            ElfError: as `open_chat`.
        """
        return await self._turn({"type": "message", "text": text}, _ends_answer, time_limit)

    async def answer(self, text: str, time_limit: float) -> Reply:
        """Answer the question that was asked last; else as `say`."""
        question, self._question = self._question, None
        if question is None:
            return Reply(errors=["the team asked nothing that could be answered"])
        named = {"run_id": question["run_id"], "question_id": question["question_id"]}
        return await self._turn({"type": "answer", "text": text, **named}, _ends_answer, time_limit)

    async def confirm(self, team: str, time_limit: float) -> Reply:
        """Confirm the delegation that was proposed to a team last; what comes back until it has ended, then its result.

        Raises:
            ElfError: as `open_chat`.
        """
        preview = self._previews.get(team)
        if preview is None and team not in self._confirmed:
            return Reply(errors=[f"no work was proposed to {team} that could be confirmed"])
        waits = preview is not None and preview["approval"] != "none" and team not in self._confirmed
        frame = {"type": "confirm", "hash": preview["hash"]} if waits and preview is not None else None
        reply = await self._turn(frame, _ends_delegation(team), time_limit, self._ended.pop(team, None))
        ended = self._ended.pop(team, {})
        reply.text = str(ended.get("result", ""))
        if ended.get("state") in {"failed", "cancelled"}:
            reply.errors.append(str(ended.get("detail") or f"the delegation to {team} has {ended['state']}"))
        return reply

    async def reject(self, team: str, reason: str, time_limit: float) -> Reply:
        """Refuse the delegation that was proposed to a team last.

        Raises:
            ElfError: as `open_chat`.
        """
        preview = self._previews.get(team)
        if preview is None:
            return Reply(errors=[f"no work was proposed to {team} that could be refused"])
        frame = {"type": "reject", "hash": preview["hash"], "reason": reason}
        return await self._turn(frame, _ends_delegation(team), time_limit)

    async def _turn(
        self,
        frame: Mapping[str, Any] | None,
        ends: Callable[[Mapping[str, Any]], bool],
        time_limit: float,
        ended: Mapping[str, Any] | None = None,
    ) -> Reply:
        reply = Reply()
        runs: set[str] = set()
        started = time.monotonic()
        try:
            async with asyncio.timeout(time_limit):
                if frame is not None:
                    await self._socket.send(json.dumps(frame))
                while True:
                    told = ended or json.loads(await self._socket.recv())
                    ended = None
                    self._take(told, reply, runs)
                    if ends(told):
                        break
        except TimeoutError:
            reply.stopped = True
            await self._socket.send(json.dumps({"type": "stop"}))
        except ConnectionClosed as closed:
            raise _closed(closed) from None
        reply.seconds = round(time.monotonic() - started, 3)
        reply.spent = await self._spent_by(runs)
        return reply

    def _take(self, frame: Mapping[str, Any], reply: Reply, runs: set[str]) -> None:
        if "run_id" in frame:
            runs.add(frame["run_id"])
        match frame["type"]:
            case "message":
                reply.text = frame["delta"] if frame.get("replaces") else reply.text + frame["delta"]
            case "status" if frame["state"] == "tool":
                reply.tools.append(frame["detail"])
            case "question":
                self._question = frame
                reply.questions.append(frame["prompt"])
            case "delegation_preview":
                self._previews[frame["target"]] = frame
                self._confirmed.discard(frame["target"])
                reply.proposed.append(frame["target"])
            case "delegation_update":
                self._update(frame, reply)
            case "error":
                reply.errors.append(frame["message"])

    def _update(self, frame: Mapping[str, Any], reply: Reply) -> None:
        team, state = frame["target"], frame["state"]
        if team not in self._confirmed and state != "rejected":
            self._confirmed.add(team)
            if team not in self._previews:  # the team shows no previews, and confirms by itself
                reply.proposed.append(team)
        if state in _OVER:
            self._previews.pop(team, None)
            self._ended[team] = frame

    async def _spent_by(self, runs: set[str]) -> Spent | None:
        """What these runs used since they were asked last."""
        spent = Spent()
        for run_id in sorted(runs):
            try:
                answer = await self._http.get(f"{self._url}/a2a/v1/tasks/{run_id}", params={"historyLength": 0})
                answer.raise_for_status()
                usage = answer.json().get("metadata", {}).get("usage", {})
            except (httpx.HTTPError, ValueError):
                return None
            tokens = int(usage.get("input_tokens", 0)) + int(usage.get("output_tokens", 0))
            cost = float(usage["cost_usd"]) if "cost_usd" in usage else None
            total = Spent(tokens, cost if usage else 0.0)
            spent += total - self._spent.get(run_id, Spent())
            self._spent[run_id] = total
        return spent


def _ends_answer(frame: Mapping[str, Any]) -> bool:
    if frame["type"] == "message":
        return bool(frame["done"])
    return frame["type"] == "question" or (frame["type"] == "error" and frame["code"] in _REFUSED)


def _ends_delegation(team: str) -> Callable[[Mapping[str, Any]], bool]:
    def ends(frame: Mapping[str, Any]) -> bool:
        if frame["type"] == "delegation_update" and frame["target"] == team:
            return frame["state"] in _OVER
        return frame["type"] == "error" and frame["code"] in _REFUSED

    return ends


def _closed(closed: ConnectionClosed) -> Exception:
    code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "the connection broke")
    if code == 4401:
        return Unauthenticated(f"{reason}; give another token by --token")
    if code == 4403:
        return Forbidden(reason)
    if code in (1001, 1006, 1012):
        return Retryable("the team stopped serving in the middle of the conversation; have it again")
    return Failure(f"the chat was closed: {reason or code}")
