"""The volatile run log, for benchmarks and tests. It says so: `volatile` is true, and `/health` shows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from typing_extensions import override

from elf_sdk.runs.events import Event, LoggedEvent, as_stored
from elf_sdk.runs.log import (
    IdempotencyKey,
    Run,
    RunFilter,
    RunLog,
    RunRequest,
    RunState,
    Waiters,
    check_end,
    check_same,
    goes_on,
    next_state,
    refusal,
)

__all__ = ["MemoryLog"]


class MemoryLog(RunLog):
    """A `RunLog` that lives and dies with its process."""

    volatile = True

    def __init__(self) -> None:
        self.waiters = Waiters()
        self._runs: dict[str, Run] = {}
        self._events: dict[str, list[LoggedEvent]] = {}
        self._keys: dict[tuple[str, str, IdempotencyKey], str] = {}

    @override
    async def claim(self, team: str) -> None:
        """Nothing is to be done: nobody else has this log."""

    @override
    async def create(self, run_id: str, request: RunRequest, key: IdempotencyKey | None) -> tuple[Run, bool]:
        if key is not None:
            known = await self.find(request, key)
            if known is not None:
                return known, False
            self._keys[(request.team, request.owner.key, key)] = run_id
        now = datetime.now(UTC)
        run = Run(run_id, request, RunState.QUEUED, 0, now, now)
        self._runs[run_id] = run
        self._events[run_id] = []
        return run, True

    @override
    async def find(self, request: RunRequest, key: IdempotencyKey) -> Run | None:
        known = self._keys.get((request.team, request.owner.key, key))
        if known is None:
            return None
        run = self._runs[known]
        check_same(key, run.request.digest, request)
        return run

    @override
    async def append(self, run_id: str, events: Sequence[Event], head: int | None = None) -> tuple[LoggedEvent, ...]:
        run = self._runs.get(run_id)
        if run is None or run.state.terminal or head not in (None, run.head):
            raise refusal(run_id, run)
        # So that this log shows what the durable one would.
        stored = [as_stored(event) for event in events]
        check_end(run_id, stored)
        now = datetime.now(UTC)
        logged = tuple(LoggedEvent(run_id, run.head + place, now, event) for place, event in enumerate(stored, start=1))
        self._events[run_id].extend(logged)
        state = next_state(run.state, stored)
        self._runs[run_id] = Run(run_id, run.request, state, run.head + len(logged), run.created_at, now)
        self.waiters.notify((run_id,), works=goes_on(state))
        return logged

    @override
    async def read(self, run_id: str, after: int = 0, limit: int = 1000) -> tuple[LoggedEvent, ...]:
        return tuple(self._events.get(run_id, ())[after : after + limit])

    @override
    async def get(self, run_id: str) -> Run | None:
        return self._runs.get(run_id)

    @override
    async def list(self, which: RunFilter, limit: int = 100) -> tuple[Run, ...]:
        found: list[Run] = []
        for run in reversed(self._runs.values()):
            request = run.request
            if (
                request.team == which.team
                and (which.owner is None or request.owner == which.owner)
                and (which.context_id is None or request.context_id == which.context_id)
                and (which.states is None or run.state in which.states)
            ):
                found.append(run)
                if len(found) == limit:
                    break
        return tuple(found)

    @override
    async def count(self, team: str) -> Mapping[RunState, int]:
        return Counter(run.state for run in self._runs.values() if run.request.team == team)
