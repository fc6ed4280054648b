"""Have chats propose work for another team, confirm it, and listen: delegate.py TOKEN TEXT URL…

One chat for each URL, until standard input is closed. A chat whose connection breaks is not begun again: what was
confirmed in it has to go on without it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed


class Chats:
    """What was confirmed, and what was heard of it."""

    def __init__(self, token: str, text: str) -> None:
        self._headers = {"Authorization": f"Bearer {token}"}
        self._text = text
        self.confirmed: list[str] = []
        self.results: dict[str, str] = {}
        self.broken = 0

    async def talk(self, url: str) -> None:
        """One of them, for as long as its connection is there."""
        async with connect(url, additional_headers=self._headers, open_timeout=15) as socket:
            await socket.send(json.dumps({"type": "message", "text": self._text}))
            try:
                async for frame in socket:
                    await self._take(socket, json.loads(frame))
            except ConnectionClosed:
                pass
        self.broken += 1

    async def _take(self, socket: ClientConnection, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "delegation_preview":
                self.confirmed.append(frame["delegation_id"])
                await socket.send(json.dumps({"type": "confirm", "hash": frame["hash"]}))
            case "delegation_update" if "result" in frame:
                self.results[frame["delegation_id"]] = frame["result"]


async def main(token: str, text: str, urls: list[str]) -> dict[str, Any]:
    """All of them, until standard input is closed."""
    chats = Chats(token, text)
    talks = [asyncio.create_task(chats.talk(url)) for url in urls]
    await asyncio.to_thread(sys.stdin.read)
    for talk in talks:
        talk.cancel()
    ended = await asyncio.gather(*talks, return_exceptions=True)
    failed = [repr(each) for each in ended if isinstance(each, Exception)]
    return {"confirmed": chats.confirmed, "results": chats.results, "broken": chats.broken, "failed": failed}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3:]))))
