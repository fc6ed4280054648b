"""Checkpoints on the store, written only by who holds the run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from typing_extensions import override

from elf_sdk.errors import Conflict, ElfError, Retryable
from elf_sdk.runs.checkpoints import Checkpoints
from elf_sdk.runs.log import stale
from elf_sdk.store.database import Connection, Group, Store

__all__ = ["DurableCheckpoints", "drop_checkpoints"]

_ROWS: Final = 100
"""Entries in one statement."""
_LOAD: Final = "SELECT key, value FROM checkpoints WHERE run_id = ? AND substr(key, 1, ?) = ?"


class DurableCheckpoints(Checkpoints):
    """What the adapter of one run keeps, for as long as this process holds it.

    Args:
        store: of the run's log.
        run_id: whose.
        holder: this process, as the log knows it.
        epoch: of the hold.
        kept: takes the run's id before anything is saved, so that its end knows what to drop.
    """

    def __init__(self, store: Store, run_id: str, holder: str, epoch: int, kept: set[str]) -> None:
        self._store = store
        self._run_id = run_id
        self._holder = holder
        self._epoch = epoch
        self._kept = kept

    @override
    async def load(self, prefix: str = "") -> dict[str, bytes]:
        values = (self._run_id, len(prefix), prefix)
        found = await self._store.read(lambda connection: connection.execute(_LOAD, values).fetchall())
        # Here, because databases order text by the rules of a language.
        return {key: bytes(value) for key, value in sorted(found)}

    @override
    async def save(self, entries: Mapping[str, bytes | None]) -> None:
        if not entries:
            return
        self._kept.add(self._run_id)
        try:
            await self._store.join(_SAVE, _Saved(self._run_id, self._holder, self._epoch, dict(entries)))
        except Conflict:
            self._kept.discard(self._run_id)
            raise


@dataclass(frozen=True, slots=True)
class _Saved:
    """Entries of a run that this holder holds in this epoch."""

    run_id: str
    holder: str
    epoch: int
    entries: Mapping[str, bytes | None]


def _save(connection: Connection, items: Sequence[_Saved]) -> list[ElfError | None]:
    runs = connection.lock_runs({item.run_id for item in items})
    # One statement may touch a row only once; what was saved later counts.
    entries: defaultdict[str, dict[str, bytes | None]] = defaultdict(dict)
    outcomes: list[ElfError | None] = []
    for item in items:
        run = runs.get(item.run_id)
        if run is None and item.run_id in runs:
            outcomes.append(Retryable(f"the run {item.run_id!r} is held by another process; try again"))
        elif run is None or (run.holder, run.epoch) != (item.holder, item.epoch):
            outcomes.append(stale(item.run_id))
        else:
            entries[item.run_id].update(item.entries)
            outcomes.append(None)
    for run_id, kept in entries.items():
        _forget(connection, run_id, [key for key, value in kept.items() if value is None])
    rows = [
        (run_id, key, value) for run_id, kept in entries.items() for key, value in kept.items() if value is not None
    ]
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        values: list[Any] = [value for row in part for value in row]
        connection.execute(
            f"INSERT INTO checkpoints (run_id, key, value) VALUES {', '.join(['(?, ?, ?)'] * len(part))} "  # noqa: S608 - values are bound
            "ON CONFLICT (run_id, key) DO UPDATE SET value = excluded.value",
            values,
        )
    return outcomes


def _forget(connection: Connection, run_id: str, keys: Sequence[str]) -> None:
    for start in range(0, len(keys), _ROWS):
        part = keys[start : start + _ROWS]
        places = ", ".join("?" * len(part))
        connection.execute(f"DELETE FROM checkpoints WHERE run_id = ? AND key IN ({places})", (run_id, *part))  # noqa: S608 - values are bound


# Behind the events, which lock the same rows in the same order.
_SAVE: Final = Group(3, _save)


def drop_checkpoints(connection: Connection, run_ids: Iterable[str]) -> None:
    """Forget what was kept of runs that have ended."""
    ids = sorted(run_ids)
    if ids:
        places = ", ".join("?" * len(ids))
        connection.execute(f"DELETE FROM checkpoints WHERE run_id IN ({places})", ids)  # noqa: S608 - values are bound
