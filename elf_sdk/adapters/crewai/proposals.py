"""Proposals of a run that goes on: numbered behind those that still hold, so that each keeps its id."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from elf_sdk.adapters.base import Bridge
from elf_sdk.adapters.crewai.kept import still
from elf_sdk.runs.adapter import RunContext
from elf_sdk.runs.events import DelegationProposed, Event, LoggedEvent

__all__ = ["Proposals"]


class Proposals:
    """Hands over what the `delegate` tools propose.

    Tasks that were finished before are not done again, and so do not count their proposals anew.
    """

    def __init__(self, ctx: RunContext, bridge: Bridge) -> None:
        self._run_id = ctx.run_id
        self._bridge = bridge
        self._made = 0
        self.go_on_behind(still(ctx.before))

    def go_on_behind(self, holding: Iterable[LoggedEvent]) -> None:
        """Give the next one the number behind those that are logged here."""
        self._made = sum(isinstance(logged.event, DelegationProposed) for logged in holding)

    def push(self, event: Event) -> None:
        """Hand over one event, from any thread.

        Raises:
            Closed: the run was closed.
        """
        if isinstance(event, DelegationProposed):
            self._made += 1
            event = replace(event, proposal_id=f"{self._run_id}-{self._made}")
        self._bridge.push(event)
