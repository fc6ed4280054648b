"""The load: raw sockets on asyncio, one request after the other on each connection."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable

import orjson

from benchmarks.a2a.process import token
from benchmarks.a2a.servers import SPEC, STREAM_PATH
from elf_sdk.server.a2a.card import A2A_PATH

__all__ = ["head", "send", "stream"]


def head(path: str, *, method: str = "POST", more: str = "") -> str:
    """The head of a request, with `%d` for the length of its body."""
    return (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token(SPEC.name)}\r\n"
        f"A2A-Version: 1.0\r\n{more}Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )


def _message(message_id: str) -> dict[str, object]:
    return {"messageId": message_id, "role": "ROLE_USER", "parts": [{"text": "hello"}]}


async def send(
    port: int, connections: int, seconds: float = float("inf"), requests: int | None = None
) -> tuple[float, list[float]]:
    """SendMessage over and over: requests a second, and the latencies in seconds.

    Args:
        port: of the server.
        connections: that work at the same time.
        seconds: after which no request is begun any more.
        requests: how many of them at most; None for no bound.
    """
    begin = head(A2A_PATH)
    latencies: list[float] = []
    stop = time.perf_counter() + seconds
    left = requests if requests is not None else -1

    async def connection(number: int) -> None:
        nonlocal left
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        count = 0
        while (start := time.perf_counter()) < stop and left != 0:
            left -= 1
            count += 1
            params = {"message": _message(f"{start}-{number}-{count}")}
            body = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": params})
            writer.write((begin % len(body)).encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200"), answer
            length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            content = await reader.readexactly(length)
            assert b'"error"' not in content, content
            latencies.append(time.perf_counter() - start)
        writer.close()
        await writer.wait_closed()

    start = time.perf_counter()
    await asyncio.gather(*(connection(number) for number in range(connections)))
    return len(latencies) / (time.perf_counter() - start), latencies


async def stream(port: int, seconds: float, beside: Callable[[], object] | None = None) -> tuple[float, float, float]:
    """Medians of the seconds until a stream's first event and until its last, at one connection, and of `beside`.

    Args:
        port: of the server.
        seconds: after which no request is begun any more.
        beside: done between two streams, to be compared with them.
    """
    begin = head(STREAM_PATH)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    firsts: list[float] = []
    lasts: list[float] = []
    others: list[float] = []
    stop = time.perf_counter() + seconds
    while (start := time.perf_counter()) < stop:
        body = orjson.dumps({"message": _message(f"{start}")})
        writer.write((begin % len(body)).encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200"), answer
        await reader.readuntil(b"data: ")
        firsts.append(time.perf_counter() - start)
        rest = await reader.readuntil(b"\r\n0\r\n\r\n")
        lasts.append(time.perf_counter() - start)
        assert rest.count(b"data: ") >= 3, rest  # the SDK says in four events what takes ELF five
        if beside is not None:
            start = time.perf_counter()
            beside()
            others.append(time.perf_counter() - start)
    writer.close()
    await writer.wait_closed()
    return statistics.median(firsts), statistics.median(lasts), statistics.median(others or [0.0])
