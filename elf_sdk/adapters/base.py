"""What adapters share: the bridge from callbacks to a stream, factories, and errors as sentences."""

from __future__ import annotations

import asyncio
import contextvars
import importlib.util
import inspect
import re
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing
from typing import Any, Final

import httpx

from elf_sdk.errors import BadInput, ElfError, Missing
from elf_sdk.models.llm import Endpoint
from elf_sdk.runs.adapter import RunContext, RunError, TurnMessage
from elf_sdk.runs.events import Event

__all__ = [
    "Bridge",
    "Closed",
    "bridged",
    "call_factory",
    "checked_factory",
    "in_thread",
    "need",
    "said",
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
        task = asyncio.create_task(work)
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

    def close(self) -> None:
        """From now on pushing raises `Closed`."""
        self._closed = True
        self._read.set()
        with self._room:
            self._room.notify_all()


async def bridged(ctx: RunContext, work: Callable[[Bridge], Coroutine[Any, Any, None]]) -> AsyncGenerator[Event, None]:
    """Run `work` with a bridge, and yield what comes over it. What it raises is said in one sentence.

    Raises:
        ElfError: see `said`.
    """
    bridge = Bridge()
    try:
        async with aclosing(bridge.events(work(bridge))) as events:
            async for event in events:
                yield event
    except Exception as error:
        raise said(error, ctx) from error


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
            failure = RunError(f"the team's code ended with {type(error).__name__}") if odd else error
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


def said(error: BaseException, ctx: RunContext) -> ElfError:
    """`error` as an error whose message is one sentence for the caller, without secrets.

    Looks through the chain of causes for what an HTTP client says about the model: a status, a timeout, a broken
    connection. Everything else is the team's own error, named by its type, its text and the line that raised it.
    """
    for link in _chain(error):
        if isinstance(link, ElfError):
            return link
        status = _status(link)
        if status is not None:
            return _model_error(status, link, ctx.endpoint)
        name = type(link).__name__
        if name == "APITimeoutError" or isinstance(link, httpx.TimeoutException):
            text = f"the model at {_host(ctx.endpoint)} did not answer within {ctx.endpoint.timeout:g} s"
            return RunError(f"{text}; try again, or raise llm.timeout", code="model", retryable=True)
        if name == "APIConnectionError" or isinstance(link, httpx.TransportError):
            text = f"the connection to the model at {_host(ctx.endpoint)} broke or could not be made"
            return RunError(f"{text}; try again, or check llm.base_url and the network", code="model", retryable=True)
    where = _where(error)
    text = _without_key(" ".join(str(error).split())[:500], ctx.endpoint)
    return RunError(f"{type(error).__name__}: {text}{where}" if text else f"{type(error).__name__}{where}")


_HINTS: Final = {
    400: "did not accept the request",
    401: "refused the key; check the provider's API key",
    403: "does not allow this key to do that; check the key's rights",
    404: "knows no such model or address; check llm.model and llm.base_url",
    413: "says that the conversation is too long for it",
    429: "is asked too often; try again later",
}


def _model_error(status: int, error: BaseException, endpoint: Endpoint) -> RunError:
    hint = _HINTS.get(status, "failed; try again later" if status >= 500 else "did not accept the request")
    text = f"the model {endpoint.model!r} at {_host(endpoint)} {hint} (HTTP {status})"
    if status in (400, 413, 422):
        text += f": {_without_key(' '.join(_model_text(error).split())[:300], endpoint)}"
    return RunError(text, code="model", retryable=status in (408, 409, 429) or status >= 500)


def _model_text(error: BaseException) -> str:
    """What the model itself says, in the shape of OpenAI's errors, else the client's words."""
    response = getattr(error, "response", None)
    try:
        said_by_model = response.json()["error"]["message"] if isinstance(response, httpx.Response) else str(error)
    except (ValueError, KeyError, TypeError, httpx.StreamError):
        return str(error)
    return str(said_by_model)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _status(error: BaseException) -> int | None:
    for holder in (error, getattr(error, "response", None)):
        status = getattr(holder, "status_code", None)
        if isinstance(status, int) and status >= 400:
            return status
    return None


def _host(endpoint: Endpoint) -> str:
    return httpx.URL(endpoint.base_url).netloc.decode()


def _without_key(text: str, endpoint: Endpoint) -> str:
    if len(endpoint.api_key) >= 8:
        text = text.replace(endpoint.api_key, "…")
    return re.sub(r"\b(sk-|Bearer )[\w.*-]{8,}", r"\1…", text)


def _where(error: BaseException) -> str:
    # The deepest frame outside installed packages and outside ELF is the author's own line.
    found = ""
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if "site-packages" not in file and "/elf_sdk/" not in file and "/lib/python" not in file and file[:1] != "<":
            found = f" ({file.rpartition('/')[2]}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return found
