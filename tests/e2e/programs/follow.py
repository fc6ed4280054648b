"""Follow slow answers word by word over a bad line until standard input is closed: follow.py URL TOKEN STREAMS.

A line that is silent for 4 s counts as dead; the client then tries again every 2 s, and goes on behind what it has.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from collections import Counter
from typing import Any

import httpx

_ENDED = {"TASK_STATE_COMPLETED", "TASK_STATE_FAILED", "TASK_STATE_CANCELED", "TASK_STATE_REJECTED"}
_SILENCE = 4.0
_AGAIN = 2.0


class Followers:
    """What was asked, and what came of it."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self._url = f"{url}/a2a/v1"
        self._headers = headers
        self._going = True
        self.messages = 0
        self.texts: Counter[str] = Counter()
        self.pauses: list[float] = []
        self.broken: list[str] = []

    def stop(self) -> None:
        """Begin nothing more."""
        self._going = False

    async def follow(self) -> None:
        """One slow answer after the other, each to its end."""
        while self._going:
            self.messages += 1
            self.texts[await self._answer()] += 1

    async def _answer(self) -> str:
        message, last, pieces, heard = uuid.uuid4().hex, "", list[str](), time.monotonic()
        content = {"messageId": message, "role": "ROLE_USER", "parts": [{"text": "Answer slowly"}]}
        body = {"jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage", "params": {"message": content}}
        while True:
            behind = {"Last-Event-ID": last} if last else {}
            timeout = httpx.Timeout(_SILENCE, connect=_AGAIN)
            try:
                # A client for each try: a connection that is known is no help when its other end is gone.
                async with (
                    httpx.AsyncClient(headers=self._headers, timeout=timeout) as client,
                    client.stream("POST", self._url, json=body, headers=behind) as answer,
                ):
                    if answer.status_code != httpx.codes.OK:
                        raise httpx.RemoteProtocolError(f"status {answer.status_code}")
                    async for line in answer.aiter_lines():
                        if line.startswith("id: "):
                            last = line[4:]
                        elif line.startswith("data: "):
                            self.pauses.append(time.monotonic() - heard)
                            heard = time.monotonic()
                            state = take(json.loads(line[6:])["result"], pieces)
                            if state in _ENDED:
                                return "".join(pieces) if state == "TASK_STATE_COMPLETED" else state
            except (httpx.HTTPError, KeyError) as error:
                self.broken.append(f"{time.strftime('%H:%M:%S')} {type(error).__name__} {error}")
                await asyncio.sleep(_AGAIN)


def take(item: dict[str, Any], pieces: list[str]) -> str:
    """The state that an item of a stream tells, if it does; its text goes to `pieces`."""
    if "artifactUpdate" in item:
        update = item["artifactUpdate"]
        if not update.get("append"):
            pieces.clear()
        pieces += [part.get("text", "") for part in update["artifact"]["parts"]]
        return ""
    if "task" in item:
        pieces[:] = [part["text"] for artifact in item["task"].get("artifacts", []) for part in artifact["parts"]]
    return str((item.get("task") or item["statusUpdate"])["status"]["state"])


async def main(url: str, token: str, streams: int) -> dict[str, Any]:
    """All of them, until standard input is closed."""
    followers = Followers(url, {"A2A-Version": "1.0", "Authorization": f"Bearer {token}"})
    async with asyncio.TaskGroup() as group:
        for _ in range(streams):
            group.create_task(followers.follow())
        await asyncio.to_thread(sys.stdin.read)
        followers.stop()
    return {
        "messages": followers.messages,
        "texts": followers.texts,
        "pause": max(followers.pauses),
        "broken": followers.broken,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))))
