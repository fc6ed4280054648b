"""A conversation over the chat: what a person types, as frames, and what comes back, turn by turn.

The frames are those that `/chat/schema.json` describes.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Final

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from elf_sdk.closing import Remedies, connecting, why_closed
from elf_sdk.errors import Retryable
from elf_sdk.evals.reply import Meter, Reply

__all__ = ["Chat", "open_chat"]

_GREETING: Final = 20.0
"""Seconds until the team greets."""
_MAX_FRAME: Final = 16 * 1024 * 1024
"""Bytes of one frame that are read; the result of a delegation comes whole."""
_REMEDIES: Final = Remedies(
    start="start it, or check the address",
    token="give another token by --token",  # noqa: S106 - a sentence
    again="have the conversation again",
)
_OVER: Final = frozenset({"finished", "failed", "cancelled", "rejected"})
_REFUSED: Final = frozenset({"limit", "BadInput", "Conflict", "Retryable"})
"""Codes of errors after which nothing more comes back to what was sent."""


@asynccontextmanager
async def open_chat(http: httpx.AsyncClient, url: str, token: str) -> AsyncGenerator[Chat, None]:
    """A session with the team at `url`, which is ended with the block.

    Args:
        http: asks for what was used; it carries the token too.
        url: of the team, without a slash at the end.
        token: of the user.

    Raises:
        BadInput: the address is none.
        NotFound: what serves there has no such chat.
        Denied: the team does not let the user in.
        Retryable: nobody serves there, or no longer.
        Failure: the chat was closed for another reason.
    """
    async with AsyncExitStack() as stack:
        with connecting(f"{url}/chat", _REMEDIES):
            address = url.replace("http", "ws", 1) + "/chat"
            headers = {"Authorization": f"Bearer {token}"}
            connection = connect(address, additional_headers=headers, compression=None, max_size=_MAX_FRAME)
            try:
                socket = await stack.enter_async_context(connection)
                async with asyncio.timeout(_GREETING):
                    greeting = json.loads(await socket.recv())
            except TimeoutError:
                raise Retryable(f"the team at {url} did not greet within {_GREETING:g} s; look at its log") from None
        yield Chat(socket, Meter(http, url), greeting)
        with suppress(ConnectionClosed):
            await socket.send(json.dumps({"type": "end"}))


class Chat:
    """A `Talk` in a session that is open; made by `open_chat`.

    Attributes:
        image: digest of the image that answers, as the team says; empty where it says none.
    """

    def __init__(self, socket: ClientConnection, meter: Meter, greeting: Mapping[str, Any]) -> None:
        self.image = str(greeting.get("image", ""))
        self._socket = socket
        self._meter = meter
        self._question: Mapping[str, Any] | None = None
        self._previews: dict[str, Mapping[str, Any]] = {}
        self._ended: dict[str, Mapping[str, Any]] = {}
        self._confirmed: set[str] = set()

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
            raise why_closed(closed, _REMEDIES) from None
        reply.seconds = round(time.monotonic() - started, 3)
        reply.spent = await self._meter.spent(runs)
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
