"""Replicas of a team as processes of their own, and in front of them one address that goes round."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from urllib.parse import urlsplit

__all__ = ["replicas", "round_robin"]

_START = 30.0
_STOP = 20.0


@asynccontextmanager
async def round_robin() -> AsyncIterator[tuple[str, list[str]]]:
    """An address, and the list of those behind it, which the caller fills: each connection goes to the next of them."""
    behind: list[str] = []
    turns = itertools.count()
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        task.add_done_callback(connections.discard)
        target = urlsplit(behind[next(turns) % len(behind)])
        upstream_reader, upstream_writer = await asyncio.open_connection(target.hostname, target.port)
        pumps = {
            asyncio.create_task(_pump(reader, upstream_writer)),
            asyncio.create_task(_pump(upstream_reader, writer)),
        }
        try:
            # The server closes each connection when it has answered; a client that goes takes its request with it.
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for end in (writer, upstream_writer):
                end.close()
                with suppress(OSError):
                    await end.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        async with server:
            yield "http://{}:{}".format(*server.sockets[0].getsockname()[:2]), behind
            server.close()
            for task in connections:
                task.cancel()
            await asyncio.gather(*connections, return_exceptions=True)
    finally:
        for task in connections:
            task.cancel()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def replicas(module: str, number: int, environment: Mapping[str, str]) -> AsyncIterator[str]:
    """The one address of `number` processes that run `module`, which prints where it listens as its first line."""
    async with AsyncExitStack() as stack:
        url, behind = await stack.enter_async_context(round_robin())
        variables = {**os.environ, "ELF_HOST": "127.0.0.1", "ELF_PORT": "0", "ELF_PUBLIC_URL": url, **environment}
        for _ in range(number):
            behind.append(await stack.enter_async_context(_replica(module, variables)))
        yield url


@asynccontextmanager
async def _replica(module: str, variables: Mapping[str, str]) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, env=variables, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_START):
            line = await process.stdout.readline()
            assert line, f"{module} ended before it listened"
        yield line.decode().strip()
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
