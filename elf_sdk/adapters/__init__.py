"""Framework to events: the built-in adapters, one package each, and the names that an adapter of your own needs.

    from elf_sdk.adapters import AdapterCapabilities, Bridge, RunContext, TextDelta, bridged

Names that are not listed here are ELF's own, and may change. All of them load lazily: importing this package loads
none of the frameworks, nor anything else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elf_sdk.adapters.base import (
        Bridge,
        Closed,
        bridged,
        call_factory,
        checked_factory,
        in_thread,
        need,
        run_sync,
        transcript,
    )
    from elf_sdk.adapters.toolbox import open_tools
    from elf_sdk.adapters.tools import Tool, ToolError
    from elf_sdk.models.line import Line
    from elf_sdk.models.llm import Endpoint
    from elf_sdk.runs.adapter import Adapter, AdapterCapabilities, Delegate, Owner, RunContext, RunError, TurnMessage
    from elf_sdk.runs.checkpoints import Checkpoints
    from elf_sdk.runs.events import (
        Artifact,
        AuthRequired,
        DelegationProposed,
        Event,
        InputRequired,
        LoggedEvent,
        MessageOnly,
        Rewound,
        Step,
        TextDelta,
        ToolCall,
        ToolResult,
        Usage,
    )

__all__ = [
    "Adapter",
    "AdapterCapabilities",
    "Artifact",
    "AuthRequired",
    "Bridge",
    "Checkpoints",
    "Closed",
    "Delegate",
    "DelegationProposed",
    "Endpoint",
    "Event",
    "InputRequired",
    "Line",
    "LoggedEvent",
    "MessageOnly",
    "Owner",
    "Rewound",
    "RunContext",
    "RunError",
    "Step",
    "TextDelta",
    "Tool",
    "ToolCall",
    "ToolError",
    "ToolResult",
    "TurnMessage",
    "Usage",
    "bridged",
    "call_factory",
    "checked_factory",
    "in_thread",
    "need",
    "open_tools",
    "run_sync",
    "transcript",
]

_HOMES = {
    "Adapter": "elf_sdk.runs.adapter",
    "AdapterCapabilities": "elf_sdk.runs.adapter",
    "Artifact": "elf_sdk.runs.events",
    "AuthRequired": "elf_sdk.runs.events",
    "Bridge": "elf_sdk.adapters.base",
    "Checkpoints": "elf_sdk.runs.checkpoints",
    "Closed": "elf_sdk.adapters.base",
    "Delegate": "elf_sdk.runs.adapter",
    "DelegationProposed": "elf_sdk.runs.events",
    "Endpoint": "elf_sdk.models.llm",
    "Event": "elf_sdk.runs.events",
    "InputRequired": "elf_sdk.runs.events",
    "Line": "elf_sdk.models.line",
    "LoggedEvent": "elf_sdk.runs.events",
    "MessageOnly": "elf_sdk.runs.events",
    "Owner": "elf_sdk.runs.adapter",
    "Rewound": "elf_sdk.runs.events",
    "RunContext": "elf_sdk.runs.adapter",
    "RunError": "elf_sdk.runs.adapter",
    "Step": "elf_sdk.runs.events",
    "TextDelta": "elf_sdk.runs.events",
    "Tool": "elf_sdk.adapters.tools",
    "ToolCall": "elf_sdk.runs.events",
    "ToolError": "elf_sdk.adapters.tools",
    "ToolResult": "elf_sdk.runs.events",
    "TurnMessage": "elf_sdk.runs.adapter",
    "Usage": "elf_sdk.runs.events",
    "bridged": "elf_sdk.adapters.base",
    "call_factory": "elf_sdk.adapters.base",
    "checked_factory": "elf_sdk.adapters.base",
    "in_thread": "elf_sdk.adapters.base",
    "need": "elf_sdk.adapters.base",
    "open_tools": "elf_sdk.adapters.toolbox",
    "run_sync": "elf_sdk.adapters.base",
    "transcript": "elf_sdk.adapters.base",
}


def __getattr__(name: str) -> Any:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'elf_sdk.adapters' has no attribute {name!r}") from None
    return getattr(importlib.import_module(home), name)
