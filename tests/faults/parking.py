"""Parks tasks: asks a team for what it has to ask back, many times."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

import orjson

__all__ = ["park"]

_AT_ONCE = 32


async def park(urls: Sequence[str], token: str, number: int) -> list[str]:
    """Ask so often, spread over the replicas, and wait until each task waits for a person; their ids."""
    left = itertools.count()
    tasks: list[str] = []

    async def one_after_the_other(url: str) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        while (mine := next(left)) < number:
            message = {"messageId": f"parked {mine}", "role": "ROLE_USER", "parts": [{"text": "ask"}]}
            body = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message}})
            head = (
                f"POST /a2a/v1 HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nA2A-Version: 1.0\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            headers = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(headers.split("content-length: ")[1].split("\r\n")[0])
            task = orjson.loads(await reader.readexactly(length))["result"]["task"]
            assert task["status"]["state"] == "TASK_STATE_INPUT_REQUIRED", task
            tasks.append(task["id"])
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(one_after_the_other(urls[worker % len(urls)]) for worker in range(_AT_ONCE)))
    return tasks
