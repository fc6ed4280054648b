"""The suite's programs as plain Python: one that streams, one that is synchronous."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import httpx

from elf_sdk.adapters.function import FunctionAdapter, FunctionContext, SyncFunctionContext
from elf_sdk.runs.events import ToolCall, ToolResult, Usage
from elf_sdk.server.team_server import TeamServer
from elf_sdk.testing.tools import ASYNC_TOOLS, TOOLS, asked_for


async def streaming(ctx: FunctionContext) -> AsyncGenerator[str, None]:
    """Streams what the model says. It uses the tool that it is told to, because its model calls none."""
    if "propose" in ctx.text:
        ctx.delegate("brand-team", "A tone of voice", "For it.", requirements=["short"])
    if (asked := asked_for(ctx.text)) is None:
        async for piece in ctx.stream():
            yield piece
        return
    name, arguments = asked
    [tool] = [tool for tool in ASYNC_TOOLS if tool.__name__ == name]
    ctx.emit(ToolCall("call-1", name, arguments))
    try:
        result = await tool(**arguments)
    except ValueError as error:
        ctx.emit(ToolResult("call-1", str(error), is_error=True))
        yield "It failed."
    else:
        ctx.emit(ToolResult("call-1", result))
        yield f"It says: {result}"


def plain(ctx: SyncFunctionContext) -> str:
    """The same without a loop of its own, and with tools that block and worse."""
    if (asked := asked_for(ctx.text)) is None:
        if "propose" in ctx.text:
            ctx.delegate("brand-team", "A tone of voice", "For it.", requirements=["short"])
        return _completed(ctx)
    name, arguments = asked
    [tool] = [tool for tool in TOOLS if tool.__name__ == name]
    ctx.emit(ToolCall("call-1", name, arguments))
    try:
        result = tool(**arguments)
    except ValueError as error:
        ctx.emit(ToolResult("call-1", str(error), is_error=True))
        return "It failed."
    ctx.emit(ToolResult("call-1", result))
    return f"It says: {result}"


def _completed(ctx: SyncFunctionContext) -> str:
    """The model's answer, by a client that blocks."""
    endpoint = ctx.run.endpoint
    answer = httpx.post(
        f"{endpoint.base_url}/chat/completions",
        json={"model": endpoint.model, "messages": [{"role": "user", "content": ctx.text}]},
        headers={"Authorization": f"Bearer {endpoint.api_key}"},
        timeout=endpoint.timeout,
    )
    body = answer.raise_for_status().json()
    used = body["usage"]
    ctx.emit(Usage(endpoint.model, used["prompt_tokens"], used["completion_tokens"]))
    return str(body["choices"][0]["message"]["content"])


async def failing(ctx: FunctionContext) -> str:
    raise ValueError("no such thing")


async def mistaken(ctx: FunctionContext) -> Any:
    return 5


async def asking(ctx: Any) -> str:
    colour = await ctx.ask("Which colour?")
    answer: str = await ctx.complete(f"It shall be {colour}.")
    return answer


def endless(ctx: SyncFunctionContext) -> str:
    while True:
        sum(range(1000))


class Streaming(TeamServer):
    adapter = FunctionAdapter(streaming)


class Plain(TeamServer):
    adapter = FunctionAdapter(plain)


class Failing(TeamServer):
    adapter = FunctionAdapter(failing)


class Mistaken(TeamServer):
    adapter = FunctionAdapter(mistaken)


class Endless(TeamServer):
    adapter = FunctionAdapter(endless)


class Asking(TeamServer):
    adapter = FunctionAdapter(asking)
