"""Have a conversation, confirm what is proposed, and print what came back: chat.py URL TOKEN TEXT…"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

_OVER = {"finished", "failed", "cancelled", "rejected"}


async def talk(url: str, token: str, texts: list[str]) -> dict[str, Any]:
    """The greeting, and for each text the answer, the previews and what became of them."""
    async with connect(url, additional_headers={"Authorization": f"Bearer {token}"}, open_timeout=15) as socket:
        greeting = json.loads(await socket.recv())
        turns = [await _turn(socket, text) for text in texts]
        await socket.send(json.dumps({"type": "end"}))
        ended = [frame async for frame in _frames(socket)]
    return {"greeting": greeting, "turns": turns, "ended": ended[-1] if ended else None}


async def _frames(socket: ClientConnection) -> Any:
    async for frame in socket:
        yield json.loads(frame)


async def _turn(socket: ClientConnection, text: str) -> dict[str, Any]:
    turn: dict[str, Any] = {"text": "", "previews": [], "updates": [], "errors": []}
    await socket.send(json.dumps({"type": "message", "text": text}))
    answered, open_delegations = False, 0
    while not answered or open_delegations:
        frame = json.loads(await asyncio.wait_for(socket.recv(), 60))
        match frame["type"]:
            case "message":
                turn["text"] = frame["delta"] if frame.get("replaces") else turn["text"] + frame.get("delta", "")
                answered = answered or bool(frame.get("done"))
            case "delegation_preview":
                turn["previews"].append(frame)
                open_delegations += 1
                await socket.send(json.dumps({"type": "confirm", "hash": frame["hash"]}))
            case "delegation_update":
                turn["updates"].append(frame)
                open_delegations -= frame["state"] in _OVER
            case "error":
                turn["errors"].append(frame)
                answered = True
    return turn


if __name__ == "__main__":
    print(json.dumps(asyncio.run(talk(sys.argv[1], sys.argv[2], sys.argv[3:]))))
