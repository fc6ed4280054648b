"""Tools as LangChain knows them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from elf_sdk.adapters.tools import Tool, ToolError

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

__all__ = ["graph_place", "graph_tool"]


class _Said(str):
    """What a tool that failed says to the model, marked as LangChain marks a message about it."""

    __slots__ = ()
    status = "error"


@functools.cache
def _kind() -> Callable[[Tool], BaseTool]:
    from langchain_core.tools import BaseTool, ToolException
    from pydantic import PrivateAttr

    # Not a StructuredTool: that one cannot pass on arguments named `config` or `run_manager`.
    class TeamTool(BaseTool):
        _tool: Tool = PrivateAttr()

        def __init__(self, tool: Tool) -> None:
            super().__init__(
                name=tool.name,
                description=tool.description,
                args_schema=dict(tool.parameters),
                handle_tool_error=lambda error: _Said(error),
            )
            self._tool = tool

        def _run(self, /, **arguments: Any) -> str:
            try:
                return self._tool.call_blocking(arguments)
            except ToolError as error:
                raise ToolException(str(error)) from error

        async def _arun(self, /, **arguments: Any) -> str:
            try:
                return await self._tool.call(arguments)
            except ToolError as error:
                raise ToolException(str(error)) from error

    return TeamTool


def graph_tool(tool: Tool) -> BaseTool:
    """A tool for a graph. When it fails the model is told why, and the graph goes on."""
    return _kind()(tool)


def graph_place() -> tuple[str, int]:
    """The node that is at work, at which checkpoint, and in which attempt at it: the same when it is repeated."""
    from langgraph.config import get_config
    from langgraph.runtime import get_runtime

    try:
        namespace = str(get_config()["metadata"]["langgraph_checkpoint_ns"])
    except (RuntimeError, KeyError):
        return "", 1  # outside of a node, such as in the factory
    info = get_runtime().execution_info
    return namespace, info.node_attempt if info else 1
