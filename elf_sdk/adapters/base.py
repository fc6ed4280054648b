"""What adapters share: the bridge from callbacks to a stream, and factories."""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import importlib.util
import inspect
import re
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any

from elf_sdk.errors import BadInput, Missing
from elf_sdk.runs.adapter import RunContext, RunError, TurnMessage
from elf_sdk.runs.events import Event
from elf_sdk.runs.places import raised_place, task_place

__all__ = [
    "Bridge",
    "Closed",
    "bridged",
    "call_factory",
    "checked_factory",
    "checked_name",
    "in_thread",
    "named",
    "need",
    "run_sync",
    "transcript",
]


class Closed(BaseException):
    """The run was closed. Not an `Exception`, so that a framework's own error handling lets it through."""


class Bridge:
    """Merges the events of an adapter's own stream with those that tools and callbacks push from any thread.

    It is bounded: a thread that pushes, and a coroutine that puts, wait while the reader is behind.

    Args:
        limit: how many events may wait for the reader.
    """

    def __init__(self, limit: int = 1000) -> None:
        self.loop = asyncio.get_running_loop()
        self._limit = limit
        self._thread = threading.get_ident()
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._waiting = 0  # counted under `_room`: what a thread hands over is not in the queue at once
        self._room = threading.Condition()
        self._read = asyncio.Event()
        self._closed = False
        self._work: asyncio.Task[None] | None = None

    @property
    def closed(self) -> bool:
        """Whether the reader has gone."""
        return self._closed

    def push(self, event: Event) -> None:
        """Hand over one event, from any thread.

        Raises:
            Closed: the reader has gone; the work should end.
        """
        in_loop = threading.get_ident() == self._thread
        with self._room:
            if not in_loop:
                self._room.wait_for(lambda: self._closed or self._waiting < self._limit)
            if self._closed:
                raise Closed
            self._waiting += 1
            if in_loop:
                self._queue.put_nowait(event)
            else:
                self.loop.call_soon_threadsafe(self._queue.put_nowait, event)

    async def put(self, event: Event) -> None:
        """Hand over one event from the loop, waiting while the reader is behind."""
        while self._waiting >= self._limit:
            self._read.clear()
            await self._read.wait()
        self.push(event)

    async def events(self, work: Coroutine[Any, Any, None]) -> AsyncGenerator[Event, None]:
        """Run `work` and yield what it and its callbacks hand over, until it is done.

        Closing this iterator cancels `work` and waits for it. What `work` raises is raised here.
        """
        self._work = task = asyncio.create_task(_contained(work))
        # The end travels through the queue, behind everything that was handed over before it.
        task.add_done_callback(lambda _: self._queue.put_nowait(None))
        try:
            while (event := await self._queue.get()) is not None:
                self._read.set()
                with self._room:
                    self._waiting -= 1
                    self._room.notify_all()
                yield event
            task.result()
        finally:
            self.close()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def place(self) -> str:
        """Where the work waits, such as `crew.py, line 12`; empty where that is not known."""
        return task_place(self._work) if self._work is not None else ""

    def close(self) -> None:
        """From now on pushing raises `Closed`."""
        self._closed = True
        self._read.set()
        with self._room:
            self._room.notify_all()


async def _contained(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except (SystemExit, KeyboardInterrupt) as error:
        # A task would hand it on to the event loop, and with it end the server.
        raise RunError(_ended_by(error)) from error


def _ended_by(error: BaseException) -> str:
    place = raised_place(error)
    text = " ".join(str(error).split())[:500]
    return f"the team's code ended with {type(error).__name__}{text and f': {text}'}{place and f' ({place})'}"


async def bridged(ctx: RunContext, work: Callable[[Bridge], Coroutine[Any, Any, None]]) -> AsyncGenerator[Event, None]:
    """Run `work` with a bridge, and yield what comes over it. What it raises is said in one sentence.

    Raises:
        ElfError: see `failure.said`.
    """
    bridge = Bridge()
    ctx.whereabouts.tell = bridge.place
    try:
        async with aclosing(bridge.events(work(bridge))) as events:
            async for event in events:
                yield event
    except Exception as error:
        # With the HTTP client, which most processes need only now or with the first question to a model.
        from elf_sdk.adapters.failure import said

        raise said(error, ctx) from error


async def run_sync(ctx: RunContext, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call synchronous code where the team wants it: in this loop (`runs.isolation: inline`), or else in a thread.

    In a process of its own that is a thread too, so that the process can still be told to stop.
    """
    if ctx.spec.runs.isolation == "inline":
        return function(*arguments)
    return await in_thread(function, *arguments)


async def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call `function` in a thread of its own, with a copy of the context variables, and wait for its result.

    Cancelling the wait does not stop the thread. It is a daemon, so that one which never ends cannot hold the process.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def settle(result: Any, error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)

    def work() -> None:
        result, failure = None, None
        try:
            result = context.run(function, *arguments)
        except Closed:
            return
        except BaseException as error:  # noqa: BLE001 - carried over to the thread that waits
            # A future refuses StopIteration, and an exit is the thread's business and not the server's.
            odd = isinstance(error, StopIteration) or not isinstance(error, Exception)
            failure = RunError(_ended_by(error)) if odd else error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=work, name="elf-run", daemon=True).start()
    return await done


def checked_factory(factory: Callable[..., Any], offered: Sequence[str], kind: str) -> Callable[..., Any]:
    """`factory`, once it is sure that it asks for nothing but what is offered.

    Raises:
        BadInput: it has a required parameter of another name; the message lists the names there are.
    """
    for parameter in inspect.signature(factory).parameters.values():
        required = parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        )
        if required and (parameter.name not in offered or parameter.kind is parameter.POSITIONAL_ONLY):
            name = getattr(factory, "__qualname__", repr(factory))
            raise BadInput(
                f"{name} has the parameter {parameter.name!r}, and the {kind} adapter gives nothing of that name; "
                f"use any of {', '.join(offered)}"
            )
    return factory


def call_factory(factory: Callable[..., Any], **offered: Any) -> Any:
    """Call `factory` with those of `offered` that it names among its parameters."""
    parameters = inspect.signature(factory).parameters
    return factory(**{name: value for name, value in offered.items() if name in parameters})


def checked_name(name: str, example: str) -> str:
    """`name`, once it is sure that it can name something in a module, such as `shop.graph:graph`.

    Raises:
        BadInput: it cannot.
    """
    # A directory may have a name that no import statement takes, such as `101`.
    if not re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", name):
        raise BadInput(f"{name!r} names nothing in a module; write the module, a colon and the name: {example!r}")
    return name


def named(name: str) -> Any:
    """What a name such as `shop.graph:graph` stands for; its module is imported now.

    Raises:
        RunError: there is no such module, or nothing of that name in it; the message says which.
        Exception: what the module itself raises.
    """
    module, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise RunError(
            f"{name!r} names the module {module}, and there is none on the path of the run's process: it is looked for "
            "beside team.py and in src/ there, which needs runs.isolation: process"
        ) from error
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise RunError(f"{name!r}: there is no {part!r} in {found.__name__}") from None
    return found


def need(package: str, install: str) -> None:
    """Make sure that a framework's package is there, without importing it.

    Raises:
        Missing: it is not installed; the message says what to install.
    """
    if importlib.util.find_spec(package) is None:
        raise Missing(f"this team uses {package}, which is not installed; run: pip install '{install}'")


def transcript(history: Sequence[TurnMessage]) -> str:
    """Earlier messages as text, for frameworks that take a prompt and not messages."""
    return "\n".join(f"{'Person' if turn.role == 'user' else 'Team'}: {turn.text}" for turn in history)
