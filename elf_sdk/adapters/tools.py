"""A tool, before it is any framework's: what the model is told of it, and what it does.

Each framework's adapter makes its own kind of tool from it. What went wrong is said to the model, and is no reason for
the run to fail: a tool raises `ToolError`, and its text is what the model reads.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import itertools
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson
from pydantic import ValidationError

from elf_sdk.adapters.base import Closed
from elf_sdk.adapters.origin import author_line
from elf_sdk.errors import BadInput, Failure
from elf_sdk.runs.events import Event, ToolCall, ToolResult, clean

__all__ = ["NO_JSON", "Tool", "ToolError", "called", "failed", "offered", "reported", "returned", "team_tools"]

_LONGEST: Final = 40_000
"""Characters of a tool's output or arguments in an event: of six bytes each at most, so below an event's bound."""


NO_JSON: Final = "the model gave arguments that are no JSON"
"""Why a call came to nothing before it began."""


class ToolError(Failure):
    """A tool did not do what it was asked; the text says why, for the model and for people."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool of the team in one run, made in the run's event loop.

    Attributes:
        name: at most 64 letters, digits, `_` and `-`, which every provider of models takes.
        description: for the model.
        parameters: JSON Schema of the arguments, an object.
        work: does it, with the arguments that the model gave; returns the text for the model, or an awaitable of it.
        loop: where an awaitable is awaited.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    work: Callable[[Mapping[str, Any]], str | Awaitable[str]] = field(repr=False)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop, repr=False)

    async def call(self, arguments: Mapping[str, Any]) -> str:
        """Do it, from a coroutine in whatever loop.

        Raises:
            ToolError: it failed, or the arguments do not fit.
        """
        given = self._begun(arguments)
        if isinstance(given, str):
            return given
        if asyncio.get_running_loop() is self.loop:
            return await given
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_awaited(given), self.loop))

    def call_blocking(self, arguments: Mapping[str, Any]) -> str:
        """Do it, from a thread that is not the run's event loop.

        Raises:
            ToolError: it failed, the arguments do not fit, or the loop would wait for itself.
            Closed: the run was closed meanwhile.
        """
        given = self._begun(arguments)
        if isinstance(given, str):
            return given
        if _running() is self.loop:
            if inspect.iscoroutine(given):
                given.close()  # it has not begun
            raise ToolError(
                f"the tool {self.name} was called synchronously in the run's event loop, which would wait for itself; "
                "await it, or set runs.isolation to process or thread"
            )
        try:
            return asyncio.run_coroutine_threadsafe(_awaited(given), self.loop).result()
        except concurrent.futures.CancelledError:
            raise Closed from None

    def _begun(self, arguments: Mapping[str, Any]) -> str | Awaitable[str]:
        try:
            return self.work(arguments)
        except ValidationError as error:
            raise ToolError(f"the arguments of {self.name} do not fit: {_misfits(error)}") from None


async def _awaited(given: Awaitable[str]) -> str:
    return await given


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _misfits(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, one['loc'])) or 'all'}: {one['msg']}" for one in error.errors())


offered: Final[ContextVar[tuple[Any, ...] | None]] = ContextVar("offered", default=None)
"""The team's tools in this run, as the framework that runs it takes them; set by the adapter."""


def team_tools() -> list[Any]:
    """The team's tools, for code that is not given them: a node of a compiled graph, a method of a `@CrewBase` class.

    Those of its MCP servers, and one for each team that work may be proposed to, as the framework of the run takes
    them: LangChain's in a graph, CrewAI's in a crew, `Tool` in a function.

    Raises:
        BadInput: no run of a team is under way here.
    """
    tools = offered.get()
    if tools is None:
        raise BadInput(
            "team_tools() was called outside of a run; call it where the work is done, such as in a graph's node, or "
            "give the adapter a function with the parameter `tools`"
        )
    return list(tools)


def called(call_id: str, name: str, arguments: Any) -> ToolCall:
    """The event of a call, whatever the model gave as its arguments; what is too large for an event is cut."""
    if isinstance(arguments, str):
        try:
            arguments = orjson.loads(arguments)
        except orjson.JSONDecodeError:
            arguments = {"input": arguments}
    if not isinstance(arguments, Mapping):
        arguments = {"input": arguments}
    encoded = orjson.dumps(clean(arguments), default=str, option=orjson.OPT_NON_STR_KEYS)
    if len(encoded) > _LONGEST:
        return ToolCall(call_id, name, {"input": _cut(encoded.decode())})
    return ToolCall(call_id, name, orjson.loads(encoded))


def returned(call_id: str, output: str, *, is_error: bool = False) -> ToolResult:
    """The event of what a tool answered, cut to what an event holds. The model was given all of it."""
    return ToolResult(call_id, _cut(output), is_error)


def reported(tools: Sequence[Tool], emit: Callable[[Event], None]) -> tuple[Tool, ...]:
    """The same tools, each call of which and its result are events: for code that no framework watches.

    Args:
        tools: of the run.
        emit: takes the events, from whatever thread.
    """
    ordinals = itertools.count(1)
    return tuple(_reported(tool, emit, ordinals) for tool in tools)


def _reported(tool: Tool, emit: Callable[[Event], None], ordinals: Iterator[int]) -> Tool:
    def work(arguments: Mapping[str, Any]) -> str | Awaitable[str]:
        call_id = f"call-{next(ordinals)}"
        emit(called(call_id, tool.name, arguments))
        try:
            given = tool.work(arguments)
        except Exception as error:
            emit(failed(call_id, error))
            raise
        if not isinstance(given, str):
            return _told(given, call_id, emit)
        emit(returned(call_id, given))
        return given

    return replace(tool, work=work)


async def _told(given: Awaitable[str], call_id: str, emit: Callable[[Event], None]) -> str:
    try:
        text = await given
    except Exception as error:
        emit(failed(call_id, error))
        raise
    emit(returned(call_id, text))
    return text


def failed(call_id: str, error: BaseException | str) -> ToolResult:
    """The event of a tool that raised: what, and in which of the author's lines."""
    if isinstance(error, BaseException) and not isinstance(error, ToolError):
        text = _misfits(error) if isinstance(error, ValidationError) else str(error)
        named = f"{type(error).__name__}: {text}" if text else type(error).__name__
        return returned(call_id, f"{named}{author_line(error)}", is_error=True)
    return returned(call_id, str(error), is_error=True)


def _cut(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]}\n[cut: {len(text)} characters, of which the first {_LONGEST} are kept here]"
