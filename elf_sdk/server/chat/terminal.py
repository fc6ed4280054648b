"""A conversation with a team in the terminal: the client side of the simple frames."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import textwrap
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect

from elf_sdk.closing import Remedies, connecting
from elf_sdk.server.chat.prose import Prose, Style

__all__ = ["WIDTH", "Conversation"]

WIDTH: Final = 96
"""Characters in a line at most; longer ones are hard to read."""
_REMEDIES: Final = Remedies(
    start="start it with `elf dev`",
    token="get a token with `elf token TEAM`",  # noqa: S106 - a sentence
    again="talk again once it serves",
)
_OVER: Final = frozenset({"finished", "failed", "cancelled", "rejected"})


class Conversation:
    """Talks to one team, and shows what comes back.

    Args:
        url: of the chat, `ws://…/chat`.
        token: of the user.
        write: puts text on the screen, without a line's end of its own.
        style: colours it.
        decide: asked for each preview; True confirms.
        answer: asked for each question of the team, which is on the screen; None leaves it open, and ends the session.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        write: Callable[[str], None],
        style: Style,
        decide: Callable[[Mapping[str, Any]], Awaitable[bool]],
        answer: Callable[[], Awaitable[str | None]],
    ) -> None:
        self._url = url
        self._token = token
        self._write = write
        self._style = style
        self._decide = decide
        self._answer = answer
        self._width = min(WIDTH, shutil.get_terminal_size().columns)
        self._prose = Prose(write, style, self._width)
        self._proposed: list[Mapping[str, Any]] = []
        self._questions: list[Mapping[str, Any]] = []
        self._open: set[str] = set()
        self._failed: list[str] = []

    async def run(self, next_message: Callable[[], Awaitable[str | None]]) -> Sequence[str]:
        """Have the conversation. Each message is sent when the answer before it, and its delegations, are done.

        Args:
            next_message: what to say next; None ends the session.

        Returns:
            The errors that the team reported, in order.

        Raises:
            BadInput: the address is none.
            NotFound: what serves there has no such chat.
            Denied: the team does not let the user in.
            Retryable: nobody serves there, or no longer.
            Failure: the chat was closed for another reason.
        """
        headers = {"Authorization": f"Bearer {self._token}"}
        with connecting(self._url, _REMEDIES):
            async with connect(self._url, additional_headers=headers, compression=None) as socket:
                await self._talk(socket, next_message)
        return self._failed

    async def _talk(self, socket: ClientConnection, next_message: Callable[[], Awaitable[str | None]]) -> None:
        greeting = self._next(await socket.recv())
        self._line(self._style(f"{greeting['team']} · {greeting['manager']}", "title"))
        self._paragraph(greeting["message"])
        while (message := await self._asked(socket, next_message)) is not None:
            await socket.send(json.dumps({"type": "message", "text": message}))
            if not await self._until_quiet(socket):
                break
        await socket.send(json.dumps({"type": "end"}))
        while (frame := self._next(await socket.recv()))["type"] != "session_ended":
            self._show(frame)
        self._line("")
        self._line(self._style(f"session ended: {frame['summary']}", "quiet"))

    async def _asked(self, socket: ClientConnection, next_message: Callable[[], Awaitable[str | None]]) -> str | None:
        """The next message, unless the team hangs up meanwhile.

        Raises:
            ConnectionClosed: it did; what it said before is shown.
        """
        asked = asyncio.ensure_future(next_message())
        gone = asyncio.ensure_future(socket.wait_closed())
        try:
            await asyncio.wait({asked, gone}, return_when=asyncio.FIRST_COMPLETED)
            if asked.done():
                return asked.result()
            self._write("\n")
            while True:
                self._show(self._next(await socket.recv()))
        finally:
            asked.cancel()
            gone.cancel()

    async def _until_quiet(self, socket: ClientConnection) -> bool:
        """Show frames until the answer is complete, every proposal is decided, and what was confirmed has ended.

        Returns:
            False where a question was left open, and the person wants to leave.
        """
        answered = False
        while not answered or self._open:
            frame = self._next(await socket.recv())
            self._show(frame)
            answered = answered or _ends_turn(frame)
            while self._questions:
                if not await self._settle_question(socket, self._questions.pop(0)):
                    return False
            while answered and self._proposed:
                await self._settle(socket, self._proposed.pop(0))
        return True

    async def _settle_question(self, socket: ClientConnection, question: Mapping[str, Any]) -> bool:
        """Show a question and send what the person says to it; False where that is nothing."""
        self._prose.add(
            "\n".join([question["prompt"], *([question["url"]] if "url" in question else [])]), prefix="  ? "
        )
        self._prose.end()
        text = await self._asked(socket, self._answer)
        if text is None:
            self._line(self._style(f"  · the question stays open: run {question['run_id']}", "quiet"))
            return False
        named = {"run_id": question["run_id"], "question_id": question["question_id"]}
        await socket.send(json.dumps({"type": "answer", "text": text, **named}))
        return True

    async def _settle(self, socket: ClientConnection, preview: Mapping[str, Any]) -> None:
        """Show a proposal, and ask about it. Only now, so that the question does not fall into the answer."""
        self._preview(preview)
        if preview["approval"] != "none":
            confirmed = await self._decide(preview)
            await socket.send(json.dumps({"type": "confirm" if confirmed else "reject", "hash": preview["hash"]}))

    def _show(self, frame: Mapping[str, Any]) -> None:
        match frame["type"]:
            case "message":
                if frame.get("replaces"):
                    self._line(self._style("  · what was said so far is void; this is said instead:", "quiet"))
                self._prose.add(frame["delta"])
                if frame["done"]:
                    self._prose.end()
            case "status":
                self._line(self._style(f"  · {frame['detail'] or frame['state']}", "quiet"))
            case "question":
                self._prose.end()
                self._questions.append(frame)
            case "delegation_preview":
                self._proposed.append(frame)
                self._open.add(frame["delegation_id"])
            case "delegation_update":
                self._update(frame)
            case "error":
                self._failed.append(frame["message"])
                self._line(self._style(f"  ! {frame['message']}", "bad"))

    def _update(self, frame: Mapping[str, Any]) -> None:
        state = frame["state"]
        if delta := frame.get("delta"):
            self._prose.add(delta, prefix="  │ ")
        elif state not in _OVER and (detail := frame.get("detail")) and detail != "confirmed":
            self._line(self._style(f"  · {frame['target']}: {detail}", "quiet"))
        if state in _OVER:
            self._open.discard(frame["delegation_id"])
            role = "good" if state == "finished" else "bad"
            detail = f" — {frame['detail']}" if frame.get("detail") else ""
            self._line(self._style(f"  └ {frame['target']}: {state}{detail}", role))
            if state == "failed":
                self._failed.append(frame.get("detail", ""))

    def _preview(self, frame: Mapping[str, Any]) -> None:
        self._line("")
        self._line(self._style(f"  ┌ Delegation to {frame['target_title']}", "box"))
        rows = [
            ("title", frame["title"]),
            ("work", frame["description"]),
            *(("needs", item) for item in frame["requirements"]),
            *(("keeps to", item) for item in frame["constraints"]),
            *(("judged by", item) for item in frame["success_criteria"]),
            ("deadline", frame["deadline"]),
            ("priority", frame["priority"]),
            ("route", " → ".join(frame["route"])),
            ("code", frame["hash"][:8]),
        ]
        before = ""
        for name, text in rows:
            if text:
                label = "" if name == before else name
                before = name
                for place, line in enumerate(textwrap.wrap(text, self._width - 15) or [""]):
                    self._line(
                        self._style("  │ ", "box") + self._style(f"{label if place == 0 else '':<11}", "quiet") + line
                    )
        self._line(self._style("  └", "box"))

    def _paragraph(self, text: str) -> None:
        for line in textwrap.wrap(text, self._width):
            self._line(line)

    def _line(self, text: str) -> None:
        self._prose.end()
        self._write(text + "\n")

    def _next(self, raw: str | bytes) -> Mapping[str, Any]:
        """A frame of the server's, harmless on a screen."""
        frame: Mapping[str, Any] = _printable(json.loads(raw))
        return frame


_UNPRINTABLE: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""What moves the cursor or turns the order of letters round. A team must not be able to redraw a preview that a
person is about to confirm."""


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", value.replace("\r\n", "\n"))
    if isinstance(value, list):
        return [_printable(item) for item in value]
    return {key: _printable(item) for key, item in value.items()} if isinstance(value, dict) else value


def _ends_turn(frame: Mapping[str, Any]) -> bool:
    """Whether the answer is complete, or there will be none."""
    if frame["type"] == "message":
        return bool(frame["done"])
    return frame["type"] == "error" and frame["code"] in {"limit", "BadInput", "Conflict", "Retryable"}
