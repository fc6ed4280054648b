"""What is kept of a graph's run: its checkpoints, and what tasks have written behind them, as values and as bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Final, Self

import orjson
import ormsgpack
from langgraph.checkpoint.base import WRITES_IDX_MAP
from langgraph.checkpoint.serde.types import ERROR

__all__ = ["PREFIX", "Kept", "Typed", "Writes", "ends", "key_of", "latest", "place_of"]

PREFIX: Final = "langgraph/"
"""Of the keys, among those of the run."""
_CONTROL: Final = frozenset({*WRITES_IDX_MAP, "__error_source_node__"})
"""Channels that say what became of a task, and not what it gave."""

Typed = tuple[str, bytes]
"""A value as LangGraph's serializer gives it: how it is written, and the bytes."""


@dataclass(slots=True)
class Kept:
    """One checkpoint; the values of its channels are beside it, because most are those of the one before.

    Attributes:
        step: how many-th of its graph's, from one life of the run to the next. Its id holds the time, which is another
            one on another machine.
        checkpoint: all but the values.
        metadata: as LangGraph gives it.
        parent: id of the one before.
        blobs: new values by channel, each with its version.
    """

    step: int
    checkpoint: Typed
    metadata: Typed
    parent: str | None
    blobs: dict[str, tuple[str, Typed]] = field(default_factory=dict)

    def pack(self) -> bytes:
        """As bytes; the step is in the metadata."""
        return ormsgpack.packb([self.checkpoint, self.metadata, self.parent, self.blobs])

    @classmethod
    def unpack(cls, packed: bytes, step: Callable[[Typed], int]) -> Self:
        """What `pack` gave.

        Args:
            packed: the bytes.
            step: reads it from the metadata.
        """
        checkpoint, metadata, parent, blobs = ormsgpack.unpackb(packed)
        return cls(
            step(_typed(metadata)),
            _typed(checkpoint),
            _typed(metadata),
            parent,
            {channel: (version, _typed(blob)) for channel, (version, blob) in blobs.items()},
        )


@dataclass(slots=True)
class Writes:
    """What one task has written behind a checkpoint.

    Attributes:
        path: orders it among the others.
        asked: ids of all its interrupts so far.
        waits: ids of those that wait for an answer, as far as it was told.
        rows: channel and value by index; LangGraph's own channels have negative ones.
    """

    path: str
    asked: list[str] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)
    rows: dict[int, tuple[str, Typed]] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether the task has come to its end."""
        return ends({channel for channel, _ in self.rows.values()})

    def pack(self) -> bytes:
        """As bytes."""
        rows = [[index, channel, typed] for index, (channel, typed) in self.rows.items()]
        return ormsgpack.packb([self.path, self.asked, self.waits, rows])

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        """What `pack` gave."""
        path, asked, waits, rows = ormsgpack.unpackb(packed)
        return cls(path, asked, waits, {index: (channel, _typed(blob)) for index, channel, blob in rows})


def ends(channels: Set[str]) -> bool:
    """Whether what was written to these channels ends a task well."""
    return ERROR not in channels and bool(channels - _CONTROL)


def latest(kept: Mapping[str, Kept]) -> str:
    """The id of a graph's latest checkpoint, of those by id."""
    return max(kept, key=lambda checkpoint_id: (kept[checkpoint_id].step, checkpoint_id))


def key_of(*place: str) -> str:
    """The key of what is kept at a place: its kind, its thread, its namespace, its checkpoint, its task."""
    # As JSON, because a name may hold any separator.
    return PREFIX + orjson.dumps(place).decode()


def place_of(key: str) -> list[str]:
    """The place of a key."""
    place: list[str] = orjson.loads(key.removeprefix(PREFIX))
    return place


def _typed(pair: Sequence[Any]) -> Typed:
    kind, data = pair
    return kind, data
