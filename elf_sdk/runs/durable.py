"""The durable run log, on the store. What it has returned is on the disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from typing_extensions import override

from elf_sdk.runs.checkpoints import Checkpoints
from elf_sdk.runs.compaction import decode_rest
from elf_sdk.runs.durable_changes import APPEND, CREATE, Appended, New, Outcome
from elf_sdk.runs.durable_checkpoints import DurableCheckpoints
from elf_sdk.runs.durable_rows import KEPT, RUN, condition, find_known, find_run, run_of
from elf_sdk.runs.events import Event, LoggedEvent, Started, decode, encode, stored_kind
from elf_sdk.runs.lease import Lease
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
    check_end,
    goes_on,
    next_state,
    stale,
)
from elf_sdk.runs.recent import Recent
from elf_sdk.store.database import Connection, Store, moment

__all__ = ["DurableLog"]

_READ: Final = "SELECT seq, at, kind, data FROM events WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?"
_CLAIMABLE: Final = (
    "FROM runs WHERE team = ? AND holder IS NULL AND state IN ('queued', 'working') "
    "AND EXISTS (SELECT 1 FROM turns WHERE turns.run_id = runs.id)"
)
_CLAIMED: Final = f"SELECT id {_CLAIMABLE} ORDER BY number LIMIT ?"
_MINE: Final = f"SELECT {RUN} FROM runs WHERE id = ? AND holder = ?"  # noqa: S608 - constants only
_RELEASE: Final = (
    "UPDATE runs SET holder = NULL, epoch = epoch + 1, state = COALESCE(?, state), changed_at = elf_now() "
    "WHERE id = ? AND holder = ? AND epoch = ? RETURNING id"
)
_COMMANDS: Final = (
    "SELECT run_id, kind, data FROM commands WHERE run_id IN (SELECT id FROM runs WHERE holder = ?) ORDER BY number"
)


class DurableLog(RunLog):
    """A `RunLog` that survives its process.

    Args:
        store: open already; others may use it too.
    """

    volatile = False

    def __init__(self, store: Store) -> None:
        self.waiters = store.waiters
        self.shared = store.shared
        self.lease = Lease(store, lambda: self.waiters.notify((WORK, self.holder)))
        self._store = store
        self._recent = Recent()
        # Runs of which something was saved here.
        self._kept: set[str] = set()
        self.lease.watch(self._recent.forget_held)

    @property
    @override
    def holder(self) -> str:
        return self.lease.holder

    async def open(self) -> None:
        """Begin to hold a lease, without which others would take away what this process holds.

        Raises:
            Retryable: the database is away.
        """
        await self.lease.open()

    async def close(self) -> None:
        """Let go of all that is still held, for others to claim."""
        await self.lease.close()

    @override
    def watch(self, alarm: Callable[[], None]) -> Callable[[], None]:
        return self.lease.watch(alarm)

    @override
    def guard(self, alarm: Callable[[], None]) -> Callable[[], None]:
        return self.lease.guard(alarm)

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
        holder = self.holder
        item = New(run_id, request, key, holder if hold else None, begin and hold, waiting)
        run, created = await self._store.join(CREATE, item)
        run = self._still(run, holder)
        if run.held and created:
            begun = (LoggedEvent(run_id, 1, run.created_at, Started()),) if run.head == 1 else ()
            self._recent.add(run, begun)
        return run, created

    @override
    async def find(self, request: RunRequest, key: IdempotencyKey) -> Run | None:
        return await self._store.read(lambda connection: find_known(connection, request, key))

    @override
    async def append(
        self, run_id: str, events: Sequence[Event], *, epoch: int | None = None, park: bool = False
    ) -> tuple[LoggedEvent, ...]:
        rows = [(stored_kind(event), encode(event).decode()) for event in events]
        stored = [decode(kind, data) for kind, data in rows]
        check_end(run_id, stored)
        item = Appended(run_id, rows, stored, self.holder, epoch, park, kept=run_id in self._kept)
        self._recent.send(run_id)
        try:
            outcome = await self._store.join(APPEND, item, self._stored)
        except BaseException:
            # Refused, the run is somebody else's; cancelled, it is stored all the same, and nobody waits to hear when.
            self._recent.forget(run_id)
            raise
        return outcome.logged

    @override
    async def take(self, run: Run, event: Event) -> Run:
        row = (stored_kind(event), encode(event).decode())
        holder = self.holder
        item = Appended(run.id, [row], [decode(*row)], holder, None, taken=run)
        outcome = await self._store.join(APPEND, item, self._stored)
        taken = Run(
            run.id,
            run.request,
            RunState(outcome.moved.state),
            outcome.moved.head,
            run.created_at,
            moment(outcome.moved.at),
            moment(outcome.moved.changed_at),
            outcome.moved.epoch,
            outcome.moved.holder is not None,
        )
        taken = self._still(taken, holder)
        if taken.held:
            self._recent.add(taken)
        return taken

    def _still(self, run: Run, holder: str) -> Run:
        """The run, held only if this process's life is still the one that began to hold it."""
        return run if holder == self.holder else replace(run, held=False)

    def _stored(self, outcome: Outcome) -> None:
        """Tell who waits here of what was committed."""
        moved = outcome.moved
        if moved.holder is None:
            self._kept.discard(moved.id)
        if outcome.logged:
            self._recent.extend(moved.id, outcome.logged, let_go=moved.holder is None)
        self.waiters.notify((moved.id,), works=goes_on(next_state(None, [logged.event for logged in outcome.logged])))
        if outcome.handed_on:
            self.waiters.notify((WORK,))

    @override
    async def claim(self, team: str, limit: int) -> tuple[Run, ...]:
        holder = self.holder

        tried: dict[str, None] = {}

        def change(connection: Connection) -> tuple[Run, ...]:
            found = connection.execute(f"{_CLAIMED} {connection.skip_locked}", (team, limit)).fetchall()
            for (run_id,) in found:
                connection.execute("UPDATE runs SET holder = ?, epoch = epoch + 1 WHERE id = ?", (holder, run_id))
                tried[run_id] = None
            # With them, what an earlier try has claimed, when the answer to its commit got lost.
            rows = [connection.execute(_MINE, (run_id, holder)).fetchone() for run_id in tried]
            return tuple(run_of(row, holder) for row in rows if row is not None)

        free = f"SELECT 1 {_CLAIMABLE} LIMIT 1"
        # Who may have lost its lease would claim what it believes to hold.
        if (
            limit < 1
            or not self.lease.valid
            or await self._store.read(lambda connection: connection.execute(free, (team,)).fetchone()) is None
        ):
            return ()
        runs = await self._store.write(change)
        if holder != self.holder:
            return ()
        for run in runs:
            self._recent.add(run)
        return runs

    @override
    async def release(self, run: Run, *, unstarted: bool = False) -> None:
        state = RunState.QUEUED if unstarted else None
        values = (state, run.id, self.holder, run.epoch)

        def change(connection: Connection) -> None:
            if connection.execute(_RELEASE, values).fetchone() is None:
                raise stale(run.id)
            connection.notify((WORK, run.id))

        self._recent.forget(run.id)
        self._kept.discard(run.id)
        await self._store.write(change, lambda _: self.waiters.notify((WORK, run.id)))

    @override
    def checkpoints(self, run: Run) -> Checkpoints:
        return DurableCheckpoints(self._store, run.id, self.holder, run.epoch, self._kept)

    @override
    async def command(self, run: Run, event: Event) -> None:
        values = (run.id, stored_kind(event), encode(event).decode())

        def change(connection: Connection) -> str | None:
            row = connection.execute("SELECT holder, state FROM runs WHERE id = ?", (run.id,)).fetchone()
            if row is None or RunState(row[1]).terminal:
                return None
            connection.execute(
                "INSERT INTO commands (run_id, kind, data, created_at) VALUES (?, ?, ?, elf_now())", values
            )
            holder: str | None = row[0]
            connection.notify((holder or WORK,))
            return holder

        await self._store.write(change, lambda holder: self.waiters.notify((holder or WORK,)))

    @override
    async def commands(self) -> tuple[tuple[str, Event], ...]:
        found = await self._store.read(lambda connection: connection.execute(_COMMANDS, (self.holder,)).fetchall())
        return tuple((run_id, decode(kind, data)) for run_id, kind, data in found)

    @override
    async def read(
        self, run_id: str, after: int = 0, limit: int = 1000, *, lately: bool = False
    ) -> tuple[LoggedEvent, ...]:
        kept = self._recent.read(run_id, after, limit, held=self.lease.valid, lately=lately)
        if kept is not None:
            return kept
        return await self._store.read(
            lambda connection: tuple(
                LoggedEvent(run_id, seq, moment(at), decode_rest(kind, data, seq, after))
                for seq, at, kind, data in connection.execute(_READ, (run_id, after, limit))
            )
        )

    @override
    async def get(self, run_id: str, *, lately: bool = False) -> Run | None:
        kept = self._recent.get(run_id, held=self.lease.valid, lately=lately)
        return kept or await self._store.read(lambda connection: find_run(connection, run_id, self.holder))

    @override
    async def list(self, which: RunFilter, limit: int = 100) -> tuple[Run, ...]:
        fits, values = condition(which)
        statement = f"SELECT {RUN} FROM runs WHERE {fits} ORDER BY number DESC LIMIT ?"  # noqa: S608 - values are bound
        return await self._store.read(
            lambda connection: tuple(
                run_of(row, self.holder) for row in connection.execute(statement, (*values, limit))
            )
        )

    @override
    async def page(self, which: RunFilter, limit: int, before: Place | None = None) -> RunPage:
        fits, values = condition(which)
        behind = "" if before is None else "AND (changed_at, number) < (?, ?)"
        statement = (
            f"SELECT changed_at, number, {RUN} FROM runs WHERE {fits} {behind} "  # noqa: S608 - values are bound
            "ORDER BY changed_at DESC, number DESC LIMIT ?"
        )
        total = f"SELECT COUNT(*) FROM runs WHERE {fits}"  # noqa: S608 - values are bound

        def read(connection: Connection) -> RunPage:
            rows = connection.execute(statement, (*values, *(before or ()), limit + 1)).fetchall()
            (number,) = connection.execute(total, values).fetchone()
            last = Place(*rows[limit - 1][:2]) if len(rows) > limit else None
            return RunPage(tuple(run_of(row[2:], self.holder) for row in rows[:limit]), number, last)

        return await self._store.read(read)

    @override
    async def count(self, team: str) -> Mapping[RunState, int]:
        statement = f"SELECT state, COUNT(*) FROM runs WHERE team = ? AND {KEPT} GROUP BY state"  # noqa: S608 - constants only
        return await self._store.read(
            lambda connection: {RunState(state): count for state, count in connection.execute(statement, (team,))}
        )
