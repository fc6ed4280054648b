"""Tools as CrewAI knows them."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, PrivateAttr

from elf_sdk.adapters.tools import Tool, ToolError

if TYPE_CHECKING:
    from crewai.tools import BaseTool

__all__ = ["crew_tool"]


def _arguments(tool: Tool) -> type[BaseModel]:
    """A model with the tool's own JSON Schema, which takes what it is given: the tool itself checks."""

    class Arguments(BaseModel):
        model_config = ConfigDict(extra="allow")

        @classmethod
        def model_json_schema(cls, *_: Any, **__: Any) -> dict[str, Any]:
            return copy.deepcopy({"title": tool.name, **tool.parameters})  # CrewAI changes what it gets

    return Arguments


@functools.cache
def _kind() -> Callable[[Tool], BaseTool]:
    from crewai.tools import BaseTool
    from crewai.tools.tool_failure import ToolFailure

    class TeamTool(BaseTool):
        _tool: Tool = PrivateAttr()

        def __init__(self, tool: Tool) -> None:
            super().__init__(
                name=tool.name,
                description=tool.description,
                args_schema=_arguments(tool),
                cache_function=_never,
            )
            self._tool = tool

        def _run(self, /, **arguments: Any) -> Any:
            try:
                return self._tool.call_blocking(arguments)
            except ToolError as error:
                # Raised, CrewAI would try again twice where a model writes its calls as text.
                return ToolFailure(message=str(error))

        async def _arun(self, /, **arguments: Any) -> Any:
            try:
                return await self._tool.call(arguments)
            except ToolError as error:
                return ToolFailure(message=str(error))

    return TeamTool


def _never(_arguments: Any = None, _result: Any = None) -> bool:
    """Whether an answer is kept for the next call with the same arguments: a tool may have effects."""
    return False


def crew_tool(tool: Tool) -> BaseTool:
    """A tool for an agent of a crew. When it fails the model is told why, and the crew goes on."""
    return _kind()(tool)
