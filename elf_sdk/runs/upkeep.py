"""Keeps a team's part of the database small: joins the text of ended runs, and forgets what has been kept long enough.

Each replica does it in the background, a small batch at a time. What one is working on the others leave out. Nothing
depends on when it happens, so a round that fails is left for the next one.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple

import orjson

from elf_sdk.errors import Conflict, ElfError, NotFound
from elf_sdk.runs.compaction import Joined, join
from elf_sdk.runs.events import Cancelled, Failed, TextDelta, decode, encode
from elf_sdk.runs.log import RunLog, RunState
from elf_sdk.store.database import Connection, Store, moment
from elf_sdk.team.kinds import duration_seconds
from elf_sdk.team.spec import TeamSpec

__all__ = ["Upkeep"]

log = logging.getLogger("elf.runs")

_EVERY: Final = 60.0
"""Seconds between two rounds; a quarter more or less, so that replicas do not do it all at once."""
_PAUSE: Final = 0.05
"""Seconds between two batches, in which others write."""
_BATCH: Final = 50
"""Runs in one batch."""
_EVENTS: Final = 1000
"""Events that one transaction deletes, more or less."""
_BATCHES: Final = 2000
"""Batches in one round."""
_COMPACT_AFTER: Final = 3_600_000
"""Milliseconds after the end of a run, when nobody is likely to follow it any more."""
_KEYS: Final = 7 * 86_400_000
"""Milliseconds for which a message is recognised, beside the longest deadline."""
_ENDED: Final = "state IN ('finished', 'failed', 'rejected', 'cancelled')"
"""Written as in the index of what is to be compacted, or SQLite would not use it."""
_WORKING: Final = frozenset({RunState.QUEUED, RunState.WORKING})
_PARKED: Final = (
    "SELECT id FROM runs WHERE team = ? AND state IN ('input_required', 'auth_required') AND changed_at < ? "
    "AND holder IS NULL LIMIT ?"
)
_OLD: Final = f"SELECT id FROM runs WHERE team = ? AND {_ENDED} AND changed_at < ? LIMIT ?"  # noqa: S608 - constants only
_TO_EMPTY: Final = (
    f"SELECT id FROM runs WHERE team = ? AND {_ENDED} AND changed_at >= ? AND changed_at < ? "  # noqa: S608 - constants only
    "AND compacted < 2 LIMIT ?"
)
_TO_COMPACT: Final = f"SELECT id FROM runs WHERE compacted = 0 AND {_ENDED} AND changed_at < ? LIMIT ?"  # noqa: S608 - constants only
_NOT_COMPACTED: Final = "SELECT id FROM runs WHERE id = ? AND compacted = 0"
_DELEGATIONS: Final = (
    "SELECT id FROM delegations WHERE team = ? AND state IN ('finished', 'failed', 'cancelled', 'rejected') "
    "AND updated_at < ? LIMIT ?"
)
_ENDED_RUN: Final = (
    "SELECT head, changed_at, EXISTS (SELECT 1 FROM idempotency_keys WHERE run_id = runs.id) "  # noqa: S608 - constants only
    f"FROM runs WHERE id = ? AND {_ENDED}"
)


@dataclass(frozen=True, slots=True)
class _Due:
    """What there is to do, as ids.

    Attributes:
        parked: runs for whose answer was waited long enough.
        old: runs that are to be deleted.
        to_empty: runs of which all but the key is to be deleted.
        delegations: that are to be deleted.
        to_compact: runs whose text is to be joined.
        kept_since: runs that changed before are not kept; milliseconds since 1970.
        keys_since: runs that ended before are not needed for their keys either.
    """

    parked: Sequence[str]
    old: Sequence[str]
    to_empty: Sequence[str]
    delegations: Sequence[str]
    to_compact: Sequence[str]
    kept_since: int
    keys_since: int

    def __bool__(self) -> bool:
        return bool(self.parked or self.old or self.to_empty or self.delegations or self.to_compact)


class _Plan(NamedTuple):
    """What becomes of one run's text, or a part of it; `done` where nothing is left behind this part."""

    run_id: str
    joined: Sequence[Joined]
    done: bool


class Upkeep:
    """One team's upkeep.

    Args:
        spec: the team, environment merged in; says how long runs are kept.
        run_log: where its runs are.
        store: what the log stands on.
    """

    def __init__(self, spec: TeamSpec, run_log: RunLog, store: Store) -> None:
        self._team = spec.name
        self._log = run_log
        self._store = store
        self._kept_for = spec.runs.retention
        self._retention = round(duration_seconds(spec.runs.retention) * 1000)
        self._keys = max(self._retention, round(duration_seconds(spec.runs.deadline) * 1000) + _KEYS)
        self._emptied_before = 0
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin; the first round comes when the team has served for a minute."""
        self._task = asyncio.create_task(self._keep(), name=f"upkeep of {self._team}")

    async def close(self) -> None:
        """Stop, after the batch that is being written."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(_EVERY * random.uniform(0.75, 1.25))  # noqa: S311 - hides nothing
            try:
                await self.tend()
            except ElfError as error:
                log.warning("the upkeep of %s waits for the next round: %s", self._team, error)
            except Exception:
                log.exception("the upkeep of %s failed, and is tried again in the next round", self._team)

    async def tend(self) -> None:
        """Do what there is to do. Where there is nothing this is one read.

        Raises:
            ElfError: the store cannot be reached.
        """
        for _ in range(_BATCHES):
            due = await self._store.read(self._look)
            if not due.to_empty:
                self._emptied_before = due.kept_since
            if not due or not await self._do(due):
                return
            await asyncio.sleep(_PAUSE)

    def _look(self, connection: Connection) -> _Due:
        # As a value, because no index is used for what a function gives anew for each row.
        (now,) = connection.execute("SELECT elf_now()").fetchone()
        kept, keys = now - self._retention, now - self._keys

        def ids(statement: str, *values: str | int) -> list[str]:
            return [found for (found,) in connection.execute(statement, (*values, _BATCH))]

        return _Due(
            parked=ids(_PARKED, self._team, kept),
            old=ids(_OLD, self._team, keys),
            to_empty=ids(_TO_EMPTY, self._team, max(keys, self._emptied_before), kept) if keys < kept else (),
            delegations=ids(_DELEGATIONS, self._team, keys),
            to_compact=ids(_TO_COMPACT, now - _COMPACT_AFTER),
            kept_since=kept,
            keys_since=keys,
        )

    async def _do(self, due: _Due) -> bool:
        """Do one batch of each; whether any of it could be done."""
        done = 0
        for run_id in due.parked:
            done += await self._give_up(run_id, moment(due.kept_since))
        if ids := [*due.old, *due.to_empty]:
            done += await self._store.write(partial(_forget, ids=ids, keys_since=due.keys_since))
        if due.delegations:
            done += await self._store.write(partial(_forget_delegations, ids=due.delegations))
        gone = {*due.old, *due.to_empty}
        if to_compact := [run_id for run_id in due.to_compact if run_id not in gone]:
            done += await self._compact(to_compact)
        return done > 0

    async def _give_up(self, run_id: str, before: datetime) -> int:
        """End a run that has waited for an answer since before then; 1 where it was ended."""
        run = await self._log.get(run_id)
        if run is None or run.state.terminal or run.state in _WORKING or run.changed_at >= before:
            return 0
        with suppress(Conflict, NotFound):
            await self._log.take(run, Cancelled(f"nobody answered within {self._kept_for}"))
            return 1
        return 0

    async def _compact(self, run_ids: Sequence[str]) -> int:
        """Join the text of runs; how many of them are done."""
        done = size = 0
        plans: list[_Plan] = []
        for run_id in run_ids:
            after, more = 0, True
            while more:
                deltas, ends = await self._store.read(partial(_deltas, run_id=run_id, after=after))
                more = len(deltas) == _EVENTS
                plans.append(_Plan(run_id, join(deltas, ends), not more))
                size += len(deltas)
                if size >= _EVENTS:
                    done += await self._store.write(partial(_store_joined, plans=plans))
                    plans, size = [], 0
                    await asyncio.sleep(_PAUSE)
                if more:
                    after = deltas[-1][0]
        return done + (await self._store.write(partial(_store_joined, plans=plans)) if plans else 0)


def _deltas(connection: Connection, run_id: str, after: int) -> tuple[list[tuple[int, str]], set[int]]:
    """Numbers and data of a run's text, and the numbers to which it was rewound."""
    deltas = connection.execute(
        "SELECT seq, data FROM events WHERE run_id = ? AND seq > ? AND kind = ? ORDER BY seq LIMIT ?",
        (run_id, after, TextDelta.kind, _EVENTS),
    ).fetchall()
    rewound = connection.execute("SELECT data FROM events WHERE run_id = ? AND kind = 'rewound'", (run_id,)).fetchall()
    return deltas, {orjson.loads(data)["to_seq"] for (data,) in rewound}


def _store_joined(connection: Connection, plans: Sequence[_Plan]) -> int:
    done = 0
    given_up: set[str] = set()
    for run_id, joined, last in plans:
        free = connection.execute(f"{_NOT_COMPACTED} {connection.skip_locked}", (run_id,)).fetchone()
        if free is None or run_id in given_up:
            continue
        for one in joined:
            where: tuple[Any, ...] = (run_id, one.first, one.last)
            (there,) = connection.execute(
                "SELECT COUNT(*) FROM events WHERE run_id = ? AND seq BETWEEN ? AND ?", where
            ).fetchone()
            if there != one.last - one.first + 1:
                # Another replica has joined them since; the next round sees what is left to do.
                given_up.add(run_id)
                break
            connection.execute("DELETE FROM events WHERE run_id = ? AND seq >= ? AND seq < ?", where)
            connection.execute("UPDATE events SET data = ? WHERE run_id = ? AND seq = ?", (one.data, run_id, one.last))
        if last and run_id not in given_up:
            connection.execute("UPDATE runs SET compacted = 1 WHERE id = ?", (run_id,))
            done += 1
    return done


def _forget(connection: Connection, ids: Sequence[str], keys_since: int) -> int:
    """Delete runs, or all of them that their keys do not need; how many were touched."""
    touched = 0
    room = _EVENTS
    for run_id in ids:
        run = connection.execute(f"{_ENDED_RUN} {connection.skip_locked}", (run_id,)).fetchone()
        if run is None:
            continue
        head, changed_at, has_key = run
        touched += 1
        (first,) = connection.execute("SELECT MIN(seq) FROM events WHERE run_id = ?", (run_id,)).fetchone()
        if first is not None and head - first >= room:
            # Too much for one transaction: its beginning now, the rest with the next batch.
            connection.execute("DELETE FROM events WHERE run_id = ? AND seq < ?", (run_id, first + room))
            break
        room -= 1 if first is None else head - first + 1
        if has_key and changed_at >= keys_since:
            _empty(connection, run_id, head)
        else:
            connection.execute("DELETE FROM runs WHERE id = ?", (run_id,))
        if room <= 0:
            break
    return touched


def _empty(connection: Connection, run_id: str, head: int) -> None:
    """Leave of a run its ids, its state and a bare end, by which a repeat of its message still finds it."""
    connection.execute("UPDATE runs SET text = '', metadata = '{}', compacted = 2 WHERE id = ?", (run_id,))
    connection.execute("DELETE FROM events WHERE run_id = ? AND seq < ?", (run_id, head))
    connection.execute("DELETE FROM push_configs WHERE run_id = ?", (run_id,))
    row = connection.execute("SELECT kind, data FROM events WHERE run_id = ? AND seq = ?", (run_id, head)).fetchone()
    if row is None:
        return
    end = decode(*row)
    if isinstance(end, Failed):
        end = Failed(end.code, "what it said was deleted, because it ended too long ago", end.retryable)
    elif isinstance(end, Cancelled):
        end = Cancelled()
    connection.execute("UPDATE events SET data = ? WHERE run_id = ? AND seq = ?", (encode(end).decode(), run_id, head))


def _forget_delegations(connection: Connection, ids: Sequence[str]) -> int:
    for delegation_id in ids:
        connection.execute("DELETE FROM delegations WHERE id = ?", (delegation_id,))
    return len(ids)
