"""The tools of all of a team's MCP servers, in one run."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import itertools
import logging
import re
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from elf_sdk.adapters.base import in_thread, need
from elf_sdk.adapters.mcp.results import artifacts_of, text_of
from elf_sdk.adapters.tools import Tool, ToolError
from elf_sdk.errors import ElfError
from elf_sdk.runs.adapter import RunContext, RunError
from elf_sdk.runs.events import Event

if TYPE_CHECKING:
    from mcp.types import Tool as ServerTool

    from elf_sdk.adapters.mcp.connection import Connection

__all__ = ["load", "mcp_tools"]

log = logging.getLogger("elf_sdk.mcp")

_LONGEST: Final = 64
"""Characters of a tool's name that every provider of models takes."""


def load() -> None:
    """Import the SDK, and what it would import with the first answer of a tool; takes a second.

    Raises:
        Missing: it is not installed.
    """
    need("mcp", "elf-sdk[mcp]")
    for module in ("elf_sdk.adapters.mcp.connection", "jsonschema", "referencing"):
        importlib.import_module(module)


@asynccontextmanager
async def mcp_tools(
    ctx: RunContext, emit: Callable[[Event], None], taken: Collection[str]
) -> AsyncGenerator[list[Tool], None]:
    """Connect with the team's MCP servers, all at once, and yield their tools.

    Args:
        ctx: of the run; its spec names the servers.
        emit: takes the artifacts among the tools' results.
        taken: names of the team's other tools.

    Raises:
        RunError: a server that is not optional is out of reach, or one lacks a tool that the spec names.
        Missing: the SDK is not installed, or a variable that the spec names is not set.
    """
    await in_thread(load)
    from elf_sdk.adapters.mcp.connection import Connection

    connections = [Connection(server) for server in ctx.spec.mcp]
    try:
        found = await asyncio.gather(*(_opened(connection) for connection in connections))
        ordinals = itertools.count(1)
        offers = [
            (connection, tool)
            for connection, tools in zip(connections, found, strict=True)
            for tool in _chosen(connection, tools)
        ]
        names = _names([(connection.server.name, tool.name) for connection, tool in offers], taken)
        yield [
            _tool(ctx, connection, tool, name, emit, ordinals)
            for (connection, tool), name in zip(offers, names, strict=True)
        ]
    finally:
        await asyncio.gather(*(connection.close() for connection in connections))


async def _opened(connection: Connection) -> list[ServerTool] | None:
    """Its tools; None for an optional server that is out of reach."""
    try:
        return await connection.open()
    except ElfError as error:
        if connection.server.optional:
            log.warning("%s; the run goes on without its tools", error)
            return None
        if isinstance(error, ToolError):
            raise RunError(f"{error}; try again, or write `optional: true` for it", retryable=True) from None
        raise


def _chosen(connection: Connection, tools: list[ServerTool] | None) -> list[ServerTool]:
    named = connection.server.tools
    if tools is None or not named:
        return tools or []
    there = {tool.name: tool for tool in tools}
    missing = [name for name in named if name not in there]
    if missing:
        raise RunError(
            f"{connection.where} has no tool {', '.join(map(repr, missing))}, which mcp[].tools names; it has: "
            f"{', '.join(sorted(there)) or 'none'}"
        )
    return [there[name] for name in dict.fromkeys(named)]


def _names(tools: list[tuple[str, str]], taken: Collection[str]) -> list[str]:
    """A name for each (server, tool): the tool's own, with the server's before it where two are alike."""
    often = Counter(_clean(tool) for _, tool in tools) + Counter(taken)
    names: list[str] = []
    for server, tool in tools:
        name = _clean(tool) if often[_clean(tool)] == 1 and tool else _clean(f"{server}_{tool}")
        if name in taken or name in names:
            name = _shortened(f"{server}_{tool}", name)
        names.append(name)
    return names


def _clean(name: str) -> str:
    clean = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    return clean if len(clean) <= _LONGEST else _shortened(name, clean)


def _shortened(name: str, clean: str) -> str:
    """`clean`, with a mark of its own at the end."""
    return f"{clean[: _LONGEST - 9]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _tool(
    ctx: RunContext,
    connection: Connection,
    tool: ServerTool,
    name: str,
    emit: Callable[[Event], None],
    ordinals: itertools.count[int],
) -> Tool:
    async def work(arguments: Mapping[str, Any]) -> str:
        result = await connection.call(tool.name, arguments)
        text = text_of(result)
        if result.isError:
            raise ToolError(text or f"the tool {name} failed, and its MCP server does not say why")
        for artifact in artifacts_of(result, f"{ctx.run_id}-file-{next(ordinals)}", tool.title or tool.name):
            emit(artifact)
        return text

    parameters = tool.inputSchema if tool.inputSchema.get("type") == "object" else {"type": "object", "properties": {}}
    return Tool(name, tool.description or tool.title or tool.name, parameters, work)
