"""Tools as CrewAI knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from elf_sdk.adapters.delegation import DelegateArguments, DelegateTool

if TYPE_CHECKING:
    from crewai.tools import BaseTool

__all__ = ["crew_tool"]


def crew_tool(tool: DelegateTool) -> BaseTool:
    """A tool for an agent of a crew."""
    from crewai.tools import BaseTool

    class Delegate(BaseTool):
        args_schema: type[BaseModel] = DelegateArguments

        def _run(self, **arguments: Any) -> str:
            return tool.call(**arguments)

    return Delegate(name=tool.name, description=tool.description)
