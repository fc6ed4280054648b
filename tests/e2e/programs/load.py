"""Keep a team busy until standard input is closed, then say how it went: load.py URL TOKEN RATE STREAMS.

RATE messages a second, each answered at once, and STREAMS slow answers that are followed word by word, all the time. A
request that fails is a failure, and one that a full replica refuses is sent again, as it asks; a stream that breaks off
goes on behind the last event that arrived, as A2A has it.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
import uuid
from collections import Counter
from typing import Any

import httpx

_ENDED = {"TASK_STATE_COMPLETED", "TASK_STATE_FAILED", "TASK_STATE_CANCELED", "TASK_STATE_REJECTED"}
_PATIENCE = 30.0
"""Seconds in which a request that is refused because a replica is full is sent again."""


class Load:
    """What was asked, and what came of it."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self._url = f"{url}/a2a/v1"
        self._going = True
        self.seconds: list[float] = []
        self.failed: list[str] = []
        self.refused = 0
        self.broken: list[str] = []
        self.silences: list[float] = []
        self.texts: Counter[str] = Counter()

    def stop(self) -> None:
        """Ask for nothing more."""
        self._going = False

    async def ask(self, rate: float) -> None:
        """Messages at `rate` a second, whether or not those before are answered."""
        began, number = time.monotonic(), 0
        async with asyncio.TaskGroup() as group:
            while self._going:
                group.create_task(self._message())
                number += 1
                await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))

    async def _message(self) -> None:
        began, at, message = time.monotonic(), time.strftime("%H:%M:%S"), uuid.uuid4().hex
        try:
            body = await self._answered(message)
            while _is_full(body) and time.monotonic() < began + _PATIENCE:
                self.refused += 1
                await asyncio.sleep(0.5)
                body = await self._answered(message)
            if "result" not in body:
                self.failed.append(f"{at} {json.dumps(body)}")
            elif (state := body["result"]["task"]["status"]["state"]) != "TASK_STATE_COMPLETED":
                self.failed.append(f"{at} {state}")
        except (httpx.HTTPError, ValueError) as error:
            self.failed.append(f"{at} {type(error).__name__} {error} after {time.monotonic() - began:.2f} s")
        self.seconds.append(time.monotonic() - began)

    async def _answered(self, message: str) -> dict[str, Any]:
        answer = await self._client.post(self._url, json=_body("SendMessage", message, "Answer at once"))
        body: dict[str, Any] = answer.json()
        return body

    async def follow(self) -> None:
        """One slow answer after the other, each to its end."""
        while self._going:
            self.texts[await self._answer()] += 1

    async def _answer(self) -> str:
        message, last, pieces, heard = uuid.uuid4().hex, "", list[str](), time.monotonic()
        while True:
            behind = {"Last-Event-ID": last} if last else {}
            body = _body("SendStreamingMessage", message, "Answer slowly")
            try:
                async with self._client.stream("POST", self._url, json=body, headers=behind) as answer:
                    if answer.status_code != httpx.codes.OK:
                        raise httpx.RemoteProtocolError(f"status {answer.status_code}")
                    async for line in answer.aiter_lines():
                        if line.startswith("id: "):
                            last = line[4:]
                        elif line.startswith("data: "):
                            self.silences.append(time.monotonic() - heard)
                            heard = time.monotonic()
                            if _take(json.loads(line[6:])["result"], pieces) in _ENDED:
                                return "".join(pieces)
            except (httpx.HTTPError, KeyError) as error:
                self.broken.append(f"{time.strftime('%H:%M:%S')} {type(error).__name__} {error}")
            else:
                self.broken.append(f"{time.strftime('%H:%M:%S')} ended early")
            await asyncio.sleep(0.2)


def _is_full(body: dict[str, Any]) -> bool:
    """Whether a replica has as much to do as it takes, and says that the same may be sent again."""
    return "waiting already; try again" in body.get("error", {}).get("message", "")


def _take(item: dict[str, Any], pieces: list[str]) -> str:
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


def _body(method: str, message: str, text: str) -> dict[str, Any]:
    content = {"messageId": message, "role": "ROLE_USER", "parts": [{"text": text}]}
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"message": content}}


async def main(url: str, token: str, rate: float, streams: int) -> dict[str, Any]:
    """The load, until standard input is closed."""
    headers = {"A2A-Version": "1.0", "Authorization": f"Bearer {token}"}
    limits = httpx.Limits(max_connections=300, max_keepalive_connections=30)
    async with httpx.AsyncClient(headers=headers, timeout=httpx.Timeout(30), limits=limits) as client:
        load = Load(client, url)
        async with asyncio.TaskGroup() as group:
            group.create_task(load.ask(rate))
            for _ in range(streams):
                group.create_task(load.follow())
            await asyncio.to_thread(sys.stdin.read)
            load.stop()
    ordered = sorted(load.seconds)
    return {
        "requests": len(ordered),
        "failed": load.failed,
        "refused": load.refused,
        "p50": statistics.median(ordered),
        "p99": ordered[int(len(ordered) * 0.99) - 1],
        "longest": ordered[-1],
        "silence": max(load.silences),
        "broken": load.broken,
        "texts": load.texts,
    }


if __name__ == "__main__":
    url, token, rate, streams = sys.argv[1:]
    print(json.dumps(asyncio.run(main(url, token, float(rate), int(streams)))))
