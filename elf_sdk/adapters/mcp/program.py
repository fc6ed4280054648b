"""An MCP server that is a program: it reads messages from its input and writes them to its output, one a line."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from elf_sdk.adapters.mcp import keeper

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp.shared.message import SessionMessage

    Streams = tuple[MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]]

__all__ = ["LONGEST", "running"]

log = logging.getLogger("elf_sdk.mcp")

LONGEST: Final = 16 * 1024 * 1024
"""Bytes of one message that are taken from a server."""
_GRACE: Final = 0.5
"""Seconds for the program to end by itself once its input has ended."""
_SAID: Final = 2000
"""Characters of what it last wrote as errors that are told when it fails."""


@asynccontextmanager
async def running(
    name: str, command: Sequence[str], environment: Mapping[str, str], lost: Callable[[str], None]
) -> AsyncGenerator[Streams, None]:
    """Start it, and yield the streams of its messages, as the SDK's session takes them.

    It is not running any more when this is left, nor is anything that it started: its input ends, then it is asked to
    end, then it is killed, within a second or so. It ends as well when this process is killed. (The SDK's own way would
    wait for two seconds at each step, read lines without a bound, and leave the program behind when this process is
    killed.)

    Args:
        name: of the server, for the log.
        command: the program and its arguments.
        environment: all variables that it gets.
        lost: is told, in a few words, when the program is gone or does not keep to the protocol.
    """
    import anyio
    from mcp.shared.message import SessionMessage
    from mcp.types import JSONRPCMessage

    theirs, lifeline = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            str(Path(keeper.__file__)),
            str(theirs),
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=dict(environment),
            pass_fds=(theirs,),
            start_new_session=True,  # so that what ends this process's group does not end the keeper before its work
            limit=LONGEST,
        )
    except BaseException:
        os.close(lifeline)
        raise
    finally:
        os.close(theirs)
    given, taken = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    sent, sending = anyio.create_memory_object_stream[SessionMessage](0)
    said, leaving = "", False

    async def read() -> None:
        assert process.stdout is not None  # noqa: S101 - asked for above
        with given:
            try:
                while line := await process.stdout.readline():
                    try:
                        message = JSONRPCMessage.model_validate_json(line)
                    except ValueError:
                        log.debug("the MCP server %s wrote what is no message: %.200r", name, line)
                        continue
                    await given.send(SessionMessage(message))
            except ValueError:
                lost(f"it sent a message of over {LONGEST >> 20} MB")
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await process.wait()
            if said and not leaving:
                log.warning("the MCP server %s ended; it last wrote: %s", name, said)
            code = process.returncode
            lost("it ended" if code is None else f"it ended with exit code {code}")

    async def write() -> None:
        assert process.stdin is not None  # noqa: S101 - asked for above
        with sending, suppress(ConnectionError):  # when it is gone, its output says so
            async for message in sending:
                process.stdin.write(message.message.model_dump_json(by_alias=True, exclude_none=True).encode() + b"\n")
                await process.stdin.drain()

    async def listen() -> None:
        nonlocal said
        assert process.stderr is not None  # noqa: S101 - asked for above
        while piece := await process.stderr.read(4096):
            text = piece.decode(errors="replace")
            log.debug("the MCP server %s wrote: %s", name, text.rstrip())
            said = (said + text)[-_SAID:]

    work = [asyncio.create_task(one) for one in (read(), write(), listen())]
    try:
        yield taken, sent
    finally:
        leaving = True
        try:
            await _leave(process)
        finally:
            os.close(lifeline)
            await _wait(process)
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            for stream in (given, taken, sent, sending):
                stream.close()
            _transport(process).close()  # what escaped with the pipes in its hands cannot keep them open here


async def _leave(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    with suppress(TimeoutError):
        async with asyncio.timeout(_GRACE):
            await process.wait()


async def _wait(process: asyncio.subprocess.Process) -> None:
    try:
        async with asyncio.timeout(2 * _GRACE + 1):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()


def _transport(process: asyncio.subprocess.Process) -> Any:
    return process._transport  # type: ignore[attr-defined]
