"""What a worker does: one run, told over a channel to the server, and then it is gone.

The server's word reaches it as frames (`wire`): the context, replies to calls, a cancel, the question where it stands.
When the channel ends, the server or the run is gone, and so is this process with all that it started.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import pickle
import signal
import socket
import sys
from collections.abc import Collection, Iterator
from contextlib import aclosing, suppress
from typing import Any, Final

from elf_sdk import errors
from elf_sdk.errors import ElfError, Retryable
from elf_sdk.models.variables import variables_of
from elf_sdk.runs.adapter import Adapter, RunContext, RunError
from elf_sdk.runs.current import current_run
from elf_sdk.runs.events import Event, TextDelta, clean, encode, is_terminal, stored_kind
from elf_sdk.runs.places import present_place, raised_place
from elf_sdk.runs.worker.context import unpack
from elf_sdk.runs.worker.wire import BUFFER, MAX_TOLD, frame, read_frame

__all__ = ["failure", "work"]

log = logging.getLogger("elf.runs")

_PIECE: Final = 16_000
"""Characters of text in one event, well below its bound."""
_MESSAGE: Final = 2000
"""Characters of a message."""


def work(adapter: Adapter, sock: socket.socket, lent: Collection[str] = ()) -> None:
    """Do the run that the server sends over `sock`; returns when the server knows how it went.

    Args:
        adapter: the team's.
        sock: the run's channel.
        lent: environment variables that were set for clients of the team's own code when it was loaded.

    Raises:
        SystemExit: the team's code wants to end the process.
    """
    asyncio.run(_work(adapter, sock, lent))


async def _work(adapter: Adapter, sock: socket.socket, lent: Collection[str]) -> None:
    channel = _Channel(*await asyncio.open_unix_connection(sock=sock, limit=BUFFER))
    first = await read_frame(channel.reader, limit=MAX_TOLD)
    if first is None or "cancel" in first[0]:
        return
    ctx = unpack(first[1], channel.ask)
    current_run.set(ctx.run_id)
    for values in variables_of(ctx.endpoint).values():
        # A key may have been changed since.
        os.environ.update({name: value for name, value in values.items() if name in lent})
    os.register_at_fork(after_in_child=_leave_later(asyncio.get_running_loop(), sock))
    doing = asyncio.create_task(_stream(adapter, ctx, channel))
    listening = asyncio.create_task(channel.listen(doing))
    await asyncio.wait({doing})
    listening.cancel()
    await channel.send({"failed": failure(error)} if (error := doing.result()) is not None else {"done": True})
    channel.writer.close()
    with suppress(ConnectionError):
        await channel.writer.wait_closed()


async def _stream(adapter: Adapter, ctx: RunContext, channel: _Channel) -> BaseException | None:
    """Send the events of the run; what it raised, where it did."""
    try:
        async with aclosing(adapter.run(ctx)) as events:
            async for event in events:
                if is_terminal(event):
                    raise TypeError(
                        f"{type(adapter).__name__} yielded a {event.kind} event; only the engine ends a run"
                    )
                for piece in _pieces(event):
                    await channel.send({"event": stored_kind(piece)}, encode(piece))
    except BaseException as error:
        if not isinstance(error, ElfError | asyncio.CancelledError):
            log.error("the run failed in the team's code", exc_info=error)
        return error
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
    return None


def _pieces(event: Event) -> Iterator[Event]:
    if not isinstance(event, TextDelta) or len(event.text) <= _PIECE:
        yield event
        return
    for start in range(0, len(event.text), _PIECE):
        yield TextDelta(event.text[start : start + _PIECE])


def failure(error: BaseException) -> dict[str, Any]:
    """What a server is told of an error: what is needed to make a `RunError` of it."""
    try:
        message = str(clean(str(error)[:_MESSAGE]))
    except Exception:  # noqa: BLE001 - the team's own __str__
        message = ""
    if isinstance(error, RunError):
        return {"message": message, "code": error.code, "retryable": error.retryable}
    if isinstance(error, ElfError):
        return {"message": message, "code": "team", "retryable": isinstance(error, Retryable)}
    place = f" ({place})" if (place := raised_place(error)) else ""
    if isinstance(error, asyncio.CancelledError):
        return {"message": "the team's code cancelled itself", "code": "team", "retryable": False}
    if isinstance(error, SystemExit):
        message = f"the team's code ended its process with exit code {error.code or 0}{place}"
    else:
        message = f"the team's code raised {type(error).__name__}: {message}{place}"
    return {"message": message, "code": "team", "retryable": False}


class _Channel:
    """The worker's end of the channel."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}

    async def send(self, header: dict[str, Any], body: bytes = b"") -> None:
        """Hand a frame over; waits while the server is behind."""
        self.writer.write(frame(header, body))
        await self.writer.drain()

    async def ask(self, method: str, body: bytes = b"", **arguments: Any) -> Any:
        """Call a method at the server.

        Raises:
            ElfError: what the method raised there.
            ValueError: it is too much for one call.
        """
        number = next(self._numbers)
        self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            await self.send({"call": number, "method": method, "arguments": arguments}, body)
            return await self._asked[number]
        finally:
            del self._asked[number]

    async def listen(self, doing: asyncio.Task[Any]) -> None:
        """Obey the server for as long as the run takes."""
        while (received := await read_frame(self.reader, limit=MAX_TOLD)) is not None:
            header, body = received
            if "reply" in header:
                self._settle(header, body)
            elif "cancel" in header:
                doing.cancel()
            elif "where" in header:
                self.writer.write(frame({"place": present_place()}))
        # Nobody is there for whom it would be done.
        os.killpg(0, signal.SIGKILL)

    def _settle(self, header: dict[str, Any], body: bytes) -> None:
        waiting = self._asked.get(header["reply"])
        if waiting is None or waiting.done():
            return
        if "error" in header:
            waiting.set_exception(getattr(errors, header["error"], errors.Failure)(header["message"]))
        else:
            waiting.set_result(pickle.loads(body))  # noqa: S301 - from the server itself


def _leave_later(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> Any:
    """What a process does that the team's code forks off from this one: it leaves the run alone.

    When it comes back to the loop, or to the end of its thread, it has nothing more to do.
    """

    def leave() -> None:
        with suppress(OSError):
            os.close(sock.fileno())
        with suppress(RuntimeError):
            loop.call_soon(os._exit, 0)

    return leave
