"""Streams that are cut at one replica and go on at the other: whether they are exact, and how long that takes.

    python -m benchmarks.resume [--resumes 1000] [--at-once 16] [--json FILE]

Two processes of one team share a PostgreSQL. A client begins a stream at the first, reads a random number of words,
drops the connection, and subscribes to the task at the second with the id of the last event that it saw, where events
have ids. A resume is exact when what it had and what it got then are all the words, each once and in order, and the
end. The time is from before it connects until it has something that it had not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
import uvloop

from benchmarks.a2a.load import head
from benchmarks.a2a.process import cores, served
from benchmarks.a2a.servers import STREAM_PATH
from elf_sdk.server.a2a.card import A2A_PATH
from tests.postgres import INSTALL, binaries, running

WORDS: Final = 25
PAUSE: Final = 20
"""Milliseconds between two words."""
LATEST: Final = 18
"""The last word after which a stream is cut, so that there is something left."""
WANTED: Final = 50.0
"""Milliseconds, the median."""
PATIENCE: Final = 30.0
"""Seconds for one stream, with its resume."""
WHOLE: Final = "".join(f"{number} " for number in range(WORDS))


@dataclass(slots=True)
class Reader:
    """One client's view of a task.

    Attributes:
        task_id: of the task, once it is known.
        text: the answer so far.
        last_id: of the last event that had one; empty where none had.
        done: whether the task has ended well.
        exact: False once something came twice or in another order.
    """

    task_id: str = ""
    text: str = ""
    last_id: str = ""
    done: bool = False
    exact: bool = True

    async def read(self, reader: asyncio.StreamReader, enough: int) -> None:
        """Read events until the text has so many words, or the task has ended."""
        while not self.done and self.text.count(" ") < enough:
            line = await reader.readline()
            if not line:
                raise ConnectionError("the stream ended before the task did")
            if line.startswith(b"id: "):
                number = line[4:].strip().decode()
                self.exact = self.exact and (not self.last_id or int(number) > int(self.last_id))
                self.last_id = number
            elif line.startswith(b"data: "):
                self.take(orjson.loads(line[6:]))

    def take(self, event: dict[str, Any]) -> None:
        """Take a StreamResponse."""
        if task := event.get("task"):
            self.task_id = task["id"]
            text = "".join(part["text"] for artifact in task.get("artifacts", ()) for part in artifact["parts"])
            # The task as it is now holds all that was seen.
            self.exact = self.exact and text.startswith(self.text)
            self.text = text
            self.done = task["status"]["state"] == "TASK_STATE_COMPLETED"
        elif update := event.get("artifactUpdate"):
            text = update["artifact"]["parts"][0]["text"]
            self.text = self.text + text if update.get("append") else text
        elif update := event.get("statusUpdate"):
            self.done = update["status"]["state"] == "TASK_STATE_COMPLETED"


async def ask(port: int, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    """A new connection with its answer begun; and the head of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    return reader, writer, await reader.readuntil(b"\r\n\r\n")


async def resume(first: int, second: int, number: int) -> tuple[float, bool, bool]:
    """One stream: seconds until it went on, whether it was exact, and whether the task had ended meanwhile."""
    client = Reader()
    message = {"messageId": f"{time.time_ns()}-{number}", "role": "ROLE_USER", "parts": [{"text": f"{WORDS} {PAUSE}"}]}
    body = orjson.dumps({"message": message})
    reader, writer, answer = await ask(first, (head(STREAM_PATH) % len(body)).encode() + body)
    assert answer.startswith(b"HTTP/1.1 200"), answer
    await client.read(reader, random.randint(1, LATEST))  # noqa: S311 - where to cut guards nothing
    writer.transport.abort()
    had = client.text.count(" ")
    more = f"Last-Event-ID: {client.last_id}\r\n" if client.last_id else ""
    path = f"{A2A_PATH}/tasks/{client.task_id}"
    begin = time.perf_counter()
    reader, writer, answer = await ask(second, (head(f"{path}:subscribe", method="GET", more=more) % 0).encode())
    ended = not answer.startswith(b"HTTP/1.1 200")
    if ended:
        # A task that has ended has no stream any more; its result is there to be got.
        writer.transport.abort()
        reader, writer, answer = await ask(second, (head(path, method="GET") % 0).encode())
        length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        client.take({"task": orjson.loads(await reader.readexactly(length))})
    await client.read(reader, had + 1)
    took = time.perf_counter() - begin
    await client.read(reader, WORDS + 1)
    writer.transport.abort()
    return took, client.exact and client.text == WHOLE and client.done, ended


async def run(first: int, second: int, resumes: int, at_once: int) -> list[tuple[float, bool, bool] | str]:
    """All of them; text for one that failed."""
    left = iter(range(resumes))
    found: list[tuple[float, bool, bool] | str] = []

    async def client() -> None:
        for number in left:
            try:
                async with asyncio.timeout(PATIENCE):
                    found.append(await resume(first, second, number))
            except (OSError, EOFError, TimeoutError) as error:
                found.append(f"{type(error).__name__}: {error}")

    await asyncio.gather(*(client() for _ in range(at_once)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--resumes", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    programs = binaries()
    if programs is None:
        raise SystemExit(INSTALL)
    core, _ = cores()
    with running(programs) as server:
        environ = {"ELF_DATABASE_URL": server.url(server.database())}
        with served("elf-slow", core, environ) as (first, _), served("elf-slow", core, environ) as (second, _):
            found = uvloop.run(run(first, second, options.resumes, options.at_once))
    done = [one for one in found if not isinstance(one, str)]
    failed = [one for one in found if isinstance(one, str)]
    times = sorted(took * 1000 for took, _, _ in done)
    exact = sum(right for _, right, _ in done)
    row = {
        "resumes": options.resumes,
        "exact": exact,
        "ended_meanwhile": sum(ended for _, _, ended in done),
        "p50_ms": statistics.median(times),
        "p99_ms": times[int(len(times) * 0.99)],
        "max_ms": times[-1],
    }
    print(f"{'resumed on the other replica':<34}{'exact':>12}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}")
    print(
        f"{f'{options.at_once} streams at once':<34}{f'{exact} of {options.resumes}':>12}"
        f"{row['p50_ms']:>9.1f}{row['p99_ms']:>9.1f}{row['max_ms']:>9.1f}  wanted: all, and p50 at most {WANTED:g} ms"
    )
    print(f"{row['ended_meanwhile']} tasks had ended before they were subscribed to again, and were got whole")
    for reason in sorted(set(failed)):
        print(f"{failed.count(reason)} failed: {reason}", file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps({"cpus": os.cpu_count(), "resume": row}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
