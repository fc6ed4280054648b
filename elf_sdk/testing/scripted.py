"""An adapter that plays a script, in the place of a framework."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence

from elf_sdk.runs.adapter import AdapterCapabilities, RunContext
from elf_sdk.runs.events import Event, TextDelta

__all__ = ["ScriptedAdapter"]

Script = Sequence[Event | float | Exception]
"""What happens in order: an event, a pause in seconds, or an exception to raise."""


class ScriptedAdapter:
    """An adapter that plays a script, chosen by what was asked.

    Args:
        scripts: from the text of the message to its script; `"*"` for any other text, by default an echo.
        name: the framework that it stands for.
    """

    capabilities = AdapterCapabilities(stream=True, human=False, cancel="certain", recover=False)

    def __init__(self, scripts: Mapping[str, Script] | None = None, name: str = "function") -> None:
        self.name = name
        self.contexts: list[RunContext] = []
        self.closed: list[str] = []
        """Ids of the runs whose iterator was closed, in order."""
        self._scripts = dict(scripts or {})

    async def run(self, ctx: RunContext) -> AsyncGenerator[Event, None]:
        """Play the script for `ctx.text`."""
        self.contexts.append(ctx)
        try:
            for item in self._scripts.get(ctx.text, self._scripts.get("*", (TextDelta(f"you said: {ctx.text}"),))):
                if isinstance(item, Exception):
                    raise item
                if isinstance(item, float | int):
                    await asyncio.sleep(item)
                else:
                    yield item
        finally:
            self.closed.append(ctx.run_id)
