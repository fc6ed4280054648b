"""All tools of a team, for one run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from elf_sdk.adapters.delegation import Proposals, delegate_tools
from elf_sdk.adapters.effects import Effects, Place, current_effects
from elf_sdk.adapters.tools import Tool, offered
from elf_sdk.runs.adapter import RunContext
from elf_sdk.runs.events import Event

__all__ = ["open_tools"]


@asynccontextmanager
async def open_tools(
    ctx: RunContext, emit: Callable[[Event], None], *, place: Place | None = None
) -> AsyncGenerator[tuple[Tool, ...], None]:
    """The team's tools: one for each team that work may be proposed to, and those of its MCP servers.

    The servers are connected with when this is entered, and disconnected from, or ended, when it is left.

    Args:
        ctx: of the run.
        emit: takes the events of tools (proposals and artifacts), from whatever thread.
        place: where in the work its caller is, where the framework goes on after a crash.

    Raises:
        RunError: a server is out of reach, or lacks a tool that the team's `mcp:` names.
        Missing: the package `mcp` is not installed, or a token is not set.
    """
    effects = Effects(ctx.run_id, place) if place else Effects(ctx.run_id)
    current_effects.set(effects)
    tools = delegate_tools(ctx, Proposals(effects, emit))
    async with AsyncExitStack() as stack:
        if ctx.spec.mcp:
            from elf_sdk.adapters.mcp.toolset import mcp_tools

            taken = frozenset(tool.name for tool in tools)
            tools += await stack.enter_async_context(mcp_tools(ctx, emit, taken))
        offered.set(tuple(tools))
        yield tuple(tools)
