"""The adapter for one Python function.

An async generator yields its answer piece by piece, and so does a plain one; a coroutine returns it whole, and so does
a plain function. What is plain runs in a process of its own, or where `runs.isolation` says.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Sequence
from contextlib import aclosing, nullcontext
from dataclasses import replace
from typing import Any

from elf_sdk.adapters.base import Bridge, bridged, run_sync
from elf_sdk.adapters.function.context import FunctionContext, SyncFunctionContext
from elf_sdk.adapters.function.portal import Portal, loop_beside
from elf_sdk.adapters.function.questions import Asked, Questions
from elf_sdk.adapters.toolbox import open_tools
from elf_sdk.adapters.tools import Tool, offered
from elf_sdk.errors import BadInput
from elf_sdk.runs.adapter import AdapterCapabilities, RunContext, RunError, TurnMessage
from elf_sdk.runs.events import Event, TextDelta

__all__ = ["FunctionAdapter"]

Answer = str | None
Piece = str | Event
TeamFunction = (
    Callable[[FunctionContext], AsyncGenerator[Piece, None]]
    | Callable[[FunctionContext], Awaitable[Answer]]
    | Callable[[SyncFunctionContext], Generator[Piece, None, None]]
    | Callable[[SyncFunctionContext], Answer]
)


class FunctionAdapter:
    """Runs one function as a team.

    Args:
        function: an async generator of text (or events), or a coroutine that returns text, which takes a
            `FunctionContext`; or a plain generator or function that does the same, which takes a `SyncFunctionContext`.

    Example:
        async def answer(ctx: FunctionContext) -> AsyncGenerator[str]:
            async for piece in ctx.stream():
                yield piece

        adapter = FunctionAdapter(answer)
    """

    name = "function"

    def __init__(self, function: TeamFunction) -> None:
        if not callable(function):
            raise BadInput(f"FunctionAdapter takes a function, not {type(function).__name__}")
        self._function: Callable[[Any], Any] = function
        # An object that is called like a function says by its method what it is.
        called = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
        kinds = [
            any(is_kind(each) for each in (function, called))
            for is_kind in (inspect.isasyncgenfunction, inspect.iscoroutinefunction, inspect.isgeneratorfunction)
        ]
        self._streams, self._awaits, self._generates = kinds
        plain = not (self._streams or self._awaits)
        self.capabilities = AdapterCapabilities(
            stream=self._streams or self._generates,
            human=True,
            cancel="cooperative" if plain else "certain",
            recover=False,
            blocking=plain,
        )

    def warm(self) -> None:
        """Load what most runs need, before the first."""
        for module in ("elf_sdk.models.chat", "elf_sdk.adapters.failure"):
            importlib.import_module(module)

    def run(self, ctx: RunContext) -> AsyncGenerator[Event, None]:
        """Do the work of one run; see `Adapter.run`."""
        return bridged(ctx, lambda bridge: self._work(ctx, bridge))

    async def _work(self, ctx: RunContext, bridge: Bridge) -> None:
        questions = Questions(ctx.answers, ctx.before)

        def emit(event: Event) -> None:
            if questions.is_new(event):
                bridge.push(event)

        try:
            async with open_tools(ctx, emit) as tools:
                if self.capabilities.blocking:
                    await self._call(ctx, bridge, questions, tools)
                else:
                    await self._await(ctx, bridge, questions, tools)
        except Asked:
            pass
        except (Exception, BaseExceptionGroup):
            # What a function raises on its way out of a question is no answer to it; a group of tasks wraps it.
            if not questions.open:
                raise
        for event in (*questions.open.values(), *questions.amends()):
            await bridge.put(event)

    async def _await(self, ctx: RunContext, bridge: Bridge, questions: Questions, tools: Sequence[Tool]) -> None:
        context = FunctionContext(ctx, questions, bridge.push, lambda: bridge.closed, tools)
        offered.set(context.tools)
        try:
            if self._streams:
                async with aclosing(self._function(context)) as pieces:
                    async for piece in pieces:
                        if questions.is_new(event := _event(piece)):
                            await bridge.put(event)
            elif (answer := await self._function(context)) is not None and questions.is_new(event := _event(answer)):
                await bridge.put(event)
        finally:
            await context.aclose()

    async def _call(self, ctx: RunContext, bridge: Bridge, questions: Questions, tools: Sequence[Tool]) -> None:
        inline = ctx.spec.runs.isolation == "inline"
        if inline:
            ctx = replace(ctx, history=_known(await ctx.history()))
        said: deque[Event] = deque()
        # A function that holds this loop has what it waits for run in another, which cannot wait for who reads in this.
        with loop_beside() if inline else nullcontext(bridge.loop) as loop:
            push = said.append if inline else bridge.push
            context = FunctionContext(ctx, questions, push, lambda: bridge.closed, tools)
            portal = Portal(loop)

            def wait(work: Coroutine[Any, Any, Any]) -> Any:
                result = portal.wait(work)
                while said:
                    bridge.push(said.popleft())
                return result

            try:
                plain = SyncFunctionContext(context, wait, bridge.push)
                offered.set(plain.tools)
                await run_sync(ctx, self._through, plain)
            finally:
                portal.close()
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(context.aclose(), loop))

    def _through(self, context: SyncFunctionContext) -> None:
        """Call the plain function, and say what it gives, in whatever thread this is."""
        try:
            result = self._function(context)
            if self._generates:
                for piece in result:
                    context.emit(_event(piece))
            elif inspect.isawaitable(result) or inspect.isasyncgen(result):
                if inspect.iscoroutine(result):
                    result.close()
                raise RunError("the team's function gave what has to be awaited; define it with `async def`")
            elif result is not None:
                context.emit(_event(result))
        except Asked:
            pass


def _known(earlier: tuple[TurnMessage, ...]) -> Callable[[], Awaitable[tuple[TurnMessage, ...]]]:
    async def history() -> tuple[TurnMessage, ...]:
        return earlier

    return history


def _event(piece: Any) -> Event:
    if isinstance(piece, str):
        return TextDelta(piece)
    if isinstance(piece, Event):
        return piece
    raise RunError(f"the team's function gave a {type(piece).__name__}; give text (str) or an event")
