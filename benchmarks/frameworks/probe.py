"""Asks a server for its health again and again, from a process of its own, so that nobody else's work delays it.

    python -m benchmarks.frameworks.probe PORT PATH… < a pipe that is closed when it is enough

Each path is asked each 50 ms, over a connection that stays open, whether or not the answers before have come: who waits
for the last answer does not see how long a server stood still. Prints the seconds of each answer by path, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Final

__all__ = ["asked"]

PERIOD: Final = 0.05
"""Seconds between two questions."""


async def asked(port: int, path: str, over: asyncio.Event) -> list[float]:
    """Seconds of each answer, from the moment at which it was to be asked."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    waiting: asyncio.Queue[float] = asyncio.Queue()
    found: list[float] = []

    async def read() -> None:
        while True:
            due = await waiting.get()
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200 "):
                raise SystemExit(f"{path} answered {head.decode()}")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            found.append(time.perf_counter() - due)
            waiting.task_done()

    reading = asyncio.create_task(read())
    due = time.perf_counter()
    while not over.is_set():
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        waiting.put_nowait(due)
        due += PERIOD
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
    await asyncio.wait({reading, asyncio.ensure_future(waiting.join())}, return_when=asyncio.FIRST_COMPLETED)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    writer.close()
    return found


async def main(port: int, paths: list[str]) -> dict[str, list[float]]:
    """All paths at once."""
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, over.set)
    return dict(zip(paths, await asyncio.gather(*(asked(port, path, over) for path in paths)), strict=True))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(int(sys.argv[1]), sys.argv[2:]))))
