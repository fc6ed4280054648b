"""Tools as LangChain knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elf_sdk.adapters.delegation import DelegateArguments, DelegateTool

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

__all__ = ["graph_tool"]


def graph_tool(tool: DelegateTool) -> BaseTool:
    """A tool for a graph."""
    from langchain_core.tools import StructuredTool

    return StructuredTool.from_function(
        func=tool.call, name=tool.name, description=tool.description, args_schema=DelegateArguments
    )
