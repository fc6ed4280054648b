"""The team that every pod of the tests runs: it echoes, and proposes work to the team that it is told."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from elf_sdk.runs.adapter import AdapterCapabilities, RunContext
from elf_sdk.runs.events import DelegationProposed, Event, TextDelta
from elf_sdk.server.team_server import TeamServer

__all__ = ["Messenger"]


class _Echo:
    name = "function"
    capabilities = AdapterCapabilities(stream=True, human=False, cancel="certain", recover=False)

    async def run(self, ctx: RunContext) -> AsyncGenerator[Event, None]:
        told, _, target = ctx.text.partition(" to ")
        if told == "hand it":
            known = ", ".join(delegate.name for delegate in ctx.delegates)
            yield TextDelta(f"I know {known}.")
            yield DelegationProposed(proposal_id="p1", target=target, title="Do it", description="All of it.")
        else:
            yield TextDelta(f"{ctx.spec.name} heard: {ctx.text}")


class Messenger(TeamServer):
    """Echoes."""

    adapter = _Echo()
