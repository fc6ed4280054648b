"""The volatile run log, for benchmarks and tests. It says so: `volatile` is true, and `/health` shows it."""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final

from typing_extensions import override

from elf_sdk.runs.checkpoints import Checkpoints, MemoryCheckpoints
from elf_sdk.runs.events import Event, LoggedEvent, Started, as_stored
from elf_sdk.runs.log import (
    WORK,
    IdempotencyKey,
    Place,
    Run,
    RunFilter,
    RunLog,
    RunPage,
    RunRequest,
    RunState,
    Waiters,
    check_end,
    check_same,
    crowded,
    goes_on,
    moved_on,
    next_state,
    refusal,
    stale,
)

__all__ = ["MemoryLog"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class MemoryLog(RunLog):
    """A `RunLog` that lives and dies with its process."""

    volatile = True
    shared = False

    def __init__(self) -> None:
        self.waiters = Waiters()
        self._holder = str(uuid.uuid4())
        self._runs: dict[str, Run] = {}
        self._events: dict[str, list[LoggedEvent]] = {}
        self._checkpoints: dict[str, MemoryCheckpoints] = {}
        self._keys: dict[tuple[str, str, IdempotencyKey], str] = {}
        # Who works in a conversation, then who waits, in order.
        self._turns: defaultdict[str, list[str]] = defaultdict(list)

    @property
    @override
    def holder(self) -> str:
        return self._holder

    @override
    def watch(self, alarm: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    @override
    def guard(self, alarm: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    @override
    async def create(
        self,
        run_id: str,
        request: RunRequest,
        key: IdempotencyKey | None,
        *,
        hold: bool = True,
        begin: bool = False,
        waiting: int = 10,
    ) -> tuple[Run, bool]:
        if key is not None:
            known = await self.find(request, key)
            if known is not None:
                return known, False
        turns = self._turns[request.conversation]
        if len(turns) > waiting:
            raise crowded(waiting)
        if key is not None:
            self._keys[(request.team, request.owner.key, key)] = run_id
        turns.append(run_id)
        now = datetime.now(UTC)
        turn = len(turns) == 1
        run = Run(run_id, request, RunState.QUEUED, 0, now, now, now, int(turn), turn and hold)
        self._events[run_id] = []
        if begin and run.held:
            self._events[run_id].append(LoggedEvent(run_id, 1, now, Started()))
            run = Run(run_id, request, RunState.WORKING, 1, now, now, now, 1, True)
        self._runs[run_id] = run
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
    async def append(
        self, run_id: str, events: Sequence[Event], *, epoch: int | None = None, park: bool = False
    ) -> tuple[LoggedEvent, ...]:
        run = self._runs.get(run_id)
        if (refused := refusal(run_id, run)) is not None:
            raise refused
        assert run is not None  # noqa: S101 - refused above
        if not run.held or epoch not in (None, run.epoch):
            raise stale(run_id)
        logged, run = self._store(run, events, park=park)
        if not run.held:
            self._hand_on(run)
        self.waiters.notify((run_id,), works=goes_on(run.state))
        return logged

    @override
    async def take(self, run: Run, event: Event) -> Run:
        now = self._runs.get(run.id)
        if (refused := refusal(run.id, now)) is not None:
            raise refused
        assert now is not None  # noqa: S101 - refused above
        if now.held or now.head != run.head:
            raise moved_on(run, now.head, held=now.held)
        parked = now.state.waits
        _, taken = self._store(now, [event])
        turns = self._turns[run.request.conversation]
        if taken.state.terminal:
            if not parked:
                self._hand_on(taken)
        else:
            turns.append(run.id)
            taken = self._runs[run.id] = replace(taken, epoch=taken.epoch + 1, held=len(turns) == 1)
        self.waiters.notify((run.id,), works=goes_on(taken.state))
        return taken

    def _store(self, run: Run, events: Sequence[Event], *, park: bool = False) -> tuple[tuple[LoggedEvent, ...], Run]:
        # So that this log shows what the durable one would.
        stored = [as_stored(event) for event in events]
        check_end(run.id, stored)
        now = datetime.now(UTC)
        logged = tuple(LoggedEvent(run.id, run.head + place, now, event) for place, event in enumerate(stored, start=1))
        self._events[run.id].extend(logged)
        state = next_state(run.state, stored)
        changed_at = now if state is not run.state else run.changed_at
        head = run.head + len(logged)
        held = run.held and not (park or state.terminal)
        moved = Run(run.id, run.request, state, head, run.created_at, now, changed_at, run.epoch, held)
        self._runs[run.id] = moved
        if state.terminal:
            self._checkpoints.pop(run.id, None)
        return logged, moved

    def _hand_on(self, run: Run) -> None:
        conversation = run.request.conversation
        turns = self._turns[conversation]
        if run.id in turns:
            turns.remove(run.id)
        if turns:
            self.waiters.notify((WORK,))
        else:
            del self._turns[conversation]

    @override
    async def claim(self, team: str, limit: int) -> tuple[Run, ...]:
        claimed: list[Run] = []
        for run in [self._runs[turns[0]] for turns in self._turns.values() if turns]:
            if len(claimed) < limit and not run.held and run.request.team == team:
                claimed.append(replace(run, epoch=run.epoch + 1, held=True))
                self._runs[run.id] = claimed[-1]
        return tuple(claimed)

    @override
    async def release(self, run: Run, *, unstarted: bool = False) -> None:
        now = self._runs[run.id]
        if not now.held or now.epoch != run.epoch:
            raise stale(run.id)
        state = RunState.QUEUED if unstarted else now.state
        self._runs[run.id] = replace(now, held=False, epoch=now.epoch + 1, state=state, changed_at=datetime.now(UTC))
        self.waiters.notify((WORK, run.id))

    @override
    def checkpoints(self, run: Run) -> Checkpoints:
        return self._checkpoints.setdefault(run.id, MemoryCheckpoints())

    @override
    async def command(self, run: Run, event: Event) -> None:
        """Nobody else holds a run of this log, so there is nobody to be asked."""

    @override
    async def commands(self) -> tuple[tuple[str, Event], ...]:
        return ()

    @override
    async def read(
        self, run_id: str, after: int = 0, limit: int = 1000, *, lately: bool = False
    ) -> tuple[LoggedEvent, ...]:
        return tuple(self._events.get(run_id, ())[after : after + limit])

    @override
    async def get(self, run_id: str, *, lately: bool = False) -> Run | None:
        return self._runs.get(run_id)

    @override
    async def list(self, which: RunFilter, limit: int = 100) -> tuple[Run, ...]:
        return tuple(islice((run for run in reversed(self._runs.values()) if _fits(run, which)), limit))

    @override
    async def page(self, which: RunFilter, limit: int, before: Place | None = None) -> RunPage:
        places = [
            (Place((run.changed_at - _EPOCH) // timedelta.resolution, number), run)
            for number, run in enumerate(self._runs.values())
            if _fits(run, which)
        ]
        behind = sorted((place for place in places if before is None or place[0] < before), reverse=True, key=_place)
        last = behind[limit - 1][0] if len(behind) > limit else None
        return RunPage(tuple(run for _, run in behind[:limit]), len(places), last)

    @override
    async def count(self, team: str) -> Mapping[RunState, int]:
        return Counter(run.state for run in self._runs.values() if run.request.team == team)


def _place(placed: tuple[Place, Run]) -> Place:
    return placed[0]


def _fits(run: Run, which: RunFilter) -> bool:
    request = run.request
    return (
        request.team == which.team
        and (which.owner is None or request.owner == which.owner)
        and (which.context_id is None or request.context_id == which.context_id)
        and (which.states is None or run.state in which.states)
        and (which.changed_since is None or run.changed_at >= which.changed_since)
    )
