"""ELF turns a team of AI agents into a service.

The public names load lazily, so that importing this package costs nothing and loads no agent framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from elf_sdk.adapters.crewai.adapter import CrewAIAdapter
    from elf_sdk.adapters.effects import effect_key
    from elf_sdk.adapters.function import FunctionAdapter, FunctionContext
    from elf_sdk.adapters.langgraph.adapter import LangGraphAdapter
    from elf_sdk.adapters.tools import Tool, ToolError, team_tools
    from elf_sdk.errors import ElfError
    from elf_sdk.server.team_server import TeamServer
    from elf_sdk.team.spec import TeamSpec

__all__ = [
    "CrewAIAdapter",
    "ElfError",
    "FunctionAdapter",
    "FunctionContext",
    "LangGraphAdapter",
    "TeamServer",
    "TeamSpec",
    "Tool",
    "ToolError",
    "__version__",
    "effect_key",
    "team_tools",
]

_HOMES = {
    "CrewAIAdapter": "elf_sdk.adapters.crewai.adapter",
    "ElfError": "elf_sdk.errors",
    "FunctionAdapter": "elf_sdk.adapters.function",
    "FunctionContext": "elf_sdk.adapters.function",
    "LangGraphAdapter": "elf_sdk.adapters.langgraph.adapter",
    "TeamServer": "elf_sdk.server.team_server",
    "TeamSpec": "elf_sdk.team.spec",
    "Tool": "elf_sdk.adapters.tools",
    "ToolError": "elf_sdk.adapters.tools",
    "effect_key": "elf_sdk.adapters.effects",
    "team_tools": "elf_sdk.adapters.tools",
}


def __getattr__(name: str) -> Any:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'elf_sdk' has no attribute {name!r}") from None
    return getattr(importlib.import_module(home), name)
