"""Which adapter a team's `framework:` means: a built-in one, or one that another package brings.

Another package brings an adapter by an entry point in the group `elf.adapters` that names its class.
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import Any, Final

from elf_sdk.errors import BadInput

__all__ = ["GROUP", "adapter_for", "adapter_names"]

GROUP: Final = "elf.adapters"
_BUILT_IN: Final = {
    "crewai": ("elf_sdk.adapters.crewai", "CrewAIAdapter"),
    "function": ("elf_sdk.adapters.function", "FunctionAdapter"),
    "langgraph": ("elf_sdk.adapters.langgraph", "LangGraphAdapter"),
}


def adapter_names() -> list[str]:
    """Everything that `framework:` may be here, sorted."""
    return sorted({*_BUILT_IN, *(entry.name for entry in entry_points(group=GROUP))})


def adapter_for(framework: str) -> type[Any]:
    """The class of the adapter; calling it with the team's crew, graph or function makes an `Adapter`.

    Raises:
        BadInput: there is none of that name; the message lists those there are.
    """
    if framework in _BUILT_IN:
        module, name = _BUILT_IN[framework]
        cls: type[Any] = getattr(importlib.import_module(module), name)
        return cls
    for entry in entry_points(group=GROUP, name=framework):
        loaded: type[Any] = entry.load()
        return loaded
    raise BadInput(
        f"framework: there is no adapter {framework!r} here; use one of {', '.join(adapter_names())}, "
        f"or install the package that brings it (entry point group {GROUP!r})"
    )
