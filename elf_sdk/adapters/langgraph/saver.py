"""LangGraph's checkpoints, among those of a run."""

from __future__ import annotations

import inspect
import random
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
    get_checkpoint_metadata,
    writes_sort_key,
)
from langgraph.checkpoint.serde.types import INTERRUPT
from typing_extensions import override

from elf_sdk.adapters.langgraph.kept import PREFIX, Kept, Typed, Writes, ends, key_of, latest, place_of
from elf_sdk.adapters.langgraph.saving import Saving
from elf_sdk.adapters.langgraph.serializer import StrictSerializer
from elf_sdk.runs.adapter import RunError
from elf_sdk.runs.checkpoints import Checkpoints

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.types import Interrupt

__all__ = ["Finished", "RunSaver"]

_START: Final = "__start__"
"""The node that takes the input apart."""

Finished = Callable[[str, str | None], Mapping[str, bytes]]
"""Told of a namespace whose step is done, or of a task that is; gives what is to be kept together with that."""


class RunSaver(BaseCheckpointSaver[str]):
    """A graph's checkpointer for one run. It reads from memory, and writes through to the run's checkpoints.

    A write has returned when it is durable. The synchronous methods are for graphs that run in other threads, and wait
    for the loop; only where such a graph holds up the loop itself they cannot, and the next write waits for them.

    Args:
        checkpoints: of the run.
        serializer: may be shared by runs; it remembers what it has looked at.

    Attributes:
        finished: asked, with each write that ends something, what is to be kept with it.
    """

    serde: StrictSerializer

    def __init__(self, checkpoints: Checkpoints, serializer: StrictSerializer | None = None) -> None:
        super().__init__(serde=serializer or StrictSerializer())
        self.finished: Finished = _nothing
        self._refused: RunError | None = None
        self._checkpoints = checkpoints
        self._saving = Saving(checkpoints)
        self._lock = threading.RLock()
        self._kept: defaultdict[tuple[str, str], dict[str, Kept]] = defaultdict(dict)
        self._writes: defaultdict[tuple[str, str, str], dict[str, Writes]] = defaultdict(dict)
        self._blobs: dict[tuple[str, str, str, str], Typed] = {}

    async def open(self) -> None:
        """Read what was kept before.

        Raises:
            Retryable: the database is away.
        """
        for key, packed in (await self._checkpoints.load(PREFIX)).items():
            kind, thread, namespace, checkpoint_id, *task = place_of(key)
            if kind == "checkpoint":
                self._add((thread, namespace), checkpoint_id, Kept.unpack(packed, self._step))
            else:
                self._writes[thread, namespace, checkpoint_id][task[0]] = Writes.unpack(packed)

    def _step(self, metadata: Typed) -> int:
        step: int = self.serde.loads_typed(metadata)["step"]
        return step

    def begun(self, thread: str) -> bool:
        """Whether the graph of this thread has a checkpoint to go on from."""
        return bool(self._kept.get((thread, "")))

    def pending(self, thread: str) -> list[Interrupt]:
        """The interrupts for whose answers the graph of this thread waits, each once.

        It repeats those of the graphs inside, and may be behind them: what one of those has gone on from is not waited
        for, and what one asks that it has not told of yet is asked again when it runs.
        """
        asked = self._asked((thread, ""))
        answered = {
            interrupt_id
            for place, kept in self._kept.items()
            for writes in (self._writes.get((*place, latest(kept)), {}) if asked and place[1] else {}).values()
            for interrupt_id in writes.asked
            if writes.finished or interrupt_id not in writes.waits
        }
        return [interrupt for interrupt in asked if interrupt.id not in answered]

    def _asked(self, place: tuple[str, str]) -> list[Interrupt]:
        """What tasks of a graph wait for that are not done."""
        kept = self._kept.get(place)
        found: dict[str, Interrupt] = {}
        for writes in self._writes.get((*place, latest(kept)), {}).values() if kept else ():
            value = writes.rows.get(WRITES_IDX_MAP[INTERRUPT])
            if value is not None and not writes.finished:
                found |= {interrupt.id: interrupt for interrupt in _interrupts(self.serde.loads_typed(value[1]))}
        return list(found.values())

    # Reading.

    @override
    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        # A graph begins with this.
        self._saving.read_by_thread()
        return self._tuple(*_place(config), get_checkpoint_id(config))

    @override
    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self._tuple(*_place(config), get_checkpoint_id(config))

    @override
    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        wanted = {} if config is None else config["configurable"]
        with self._lock:
            found = sorted(
                (
                    (checkpoint_id, thread, namespace)
                    for (thread, namespace), kept in self._kept.items()
                    for checkpoint_id in kept
                    if wanted.get("thread_id") in (None, thread)
                    and wanted.get("checkpoint_ns") in (None, namespace)
                    and wanted.get("checkpoint_id") in (None, checkpoint_id)
                ),
                reverse=True,
            )
        until = None if before is None else get_checkpoint_id(before)
        for checkpoint_id, thread, namespace in found:
            if limit is not None and limit <= 0:
                return
            if until is not None and checkpoint_id >= until:
                continue
            one = self._tuple(thread, namespace, checkpoint_id)
            if one is None or any(one.metadata.get(key) != value for key, value in (filter or {}).items()):
                continue
            limit = None if limit is None else limit - 1
            yield one

    @override
    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        for one in self.list(config, filter=filter, before=before, limit=limit):
            yield one

    def _tuple(self, thread: str, namespace: str, checkpoint_id: str | None) -> CheckpointTuple | None:
        with self._lock:
            checkpoints = self._kept.get((thread, namespace))
            if not checkpoints:
                return None
            checkpoint_id = checkpoint_id or latest(checkpoints)
            kept = checkpoints.get(checkpoint_id)
            if kept is None:
                return None
            checkpoint: Checkpoint = self.serde.loads_typed(kept.checkpoint)
            values = {}
            for channel, version in checkpoint["channel_versions"].items():
                blob = self._blobs.get((thread, namespace, channel, str(version)))
                if blob is not None and blob[0] != "empty":
                    values[channel] = self.serde.loads_typed(blob)
            checkpoint["channel_values"] = values
            rows = sorted(
                (
                    (writes_sort_key(writes.path, task_id, index), task_id, channel, typed)
                    for task_id, writes in self._writes.get((thread, namespace, checkpoint_id), {}).items()
                    for index, (channel, typed) in writes.rows.items()
                ),
                key=lambda row: row[0],
            )
            return CheckpointTuple(
                _config(thread, namespace, checkpoint_id),
                checkpoint,
                self.serde.loads_typed(kept.metadata),
                None if kept.parent is None else _config(thread, namespace, kept.parent),
                [(task_id, channel, self.serde.loads_typed(typed)) for _, task_id, channel, typed in rows],
            )

    # Writing.

    @override
    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        stored = self._put(config, checkpoint, metadata, new_versions)
        if metadata["step"] > 0:
            await self._saving.save()
        # Before that no node of the graph is done: without it the graph begins anew, and has lost nothing.
        return stored

    @override
    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        stored = self._put(config, checkpoint, metadata, new_versions)
        self._saving.save_from_thread()
        return stored

    @override
    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        self._put_writes(config, writes, task_id, task_path)
        if not task_path.endswith(_START):
            await self._saving.save()

    @override
    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        self._put_writes(config, writes, task_id, task_path)
        self._saving.save_from_thread()

    @override
    async def adelete_thread(self, thread_id: str) -> None:
        self._delete_thread(thread_id)
        await self._saving.save()

    @override
    def delete_thread(self, thread_id: str) -> None:
        self._delete_thread(thread_id)
        self._saving.save_from_thread()

    @override
    def get_next_version(self, current: str | None, channel: None) -> str:
        # With a tail, so that two branches of a history do not give one number to two values.
        number = 0 if current is None else int(current.partition(".")[0])
        return f"{number + 1:032}.{random.randrange(10**16):016}"  # noqa: S311 - tells apart, hides nothing

    @override
    def with_allowlist(self, extra_allowlist: Any) -> RunSaver:
        # What may be built is decided by what it is.
        return self

    def _put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        if self._refused is not None:
            # LangGraph goes on when what a node gave could not be kept, and the error of the step does not name it.
            raise self._refused
        thread, namespace = _place(config)
        values = checkpoint["channel_values"]
        blobs = {
            channel: (str(version), self._dump(values[channel], channel) if channel in values else ("empty", b""))
            for channel, version in new_versions.items()
        }
        bare = {key: value for key, value in checkpoint.items() if key != "channel_values"}
        kept = Kept(
            metadata["step"],
            self.serde.dumps_typed(bare),
            self.serde.dumps_typed(get_checkpoint_metadata(config, metadata)),
            get_checkpoint_id(config),
            blobs,
        )
        # Without the lock, because it may wait for the reader.
        beside = self.finished(namespace, None)
        with self._lock:
            self._add((thread, namespace), checkpoint["id"], kept)
            self._saving.add({key_of("checkpoint", thread, namespace, checkpoint["id"]): kept.pack(), **beside})
        return _config(thread, namespace, checkpoint["id"])

    def _put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str
    ) -> None:
        thread, namespace = _place(config)
        checkpoint_id = config["configurable"]["checkpoint_id"]
        rows = {
            WRITES_IDX_MAP.get(channel, place): (channel, self._dump(value, channel, task_path))
            for place, (channel, value) in enumerate(writes)
        }
        beside = self.finished(namespace, task_id) if ends({channel for channel, _ in writes}) else {}
        with self._lock:
            kept = self._writes[thread, namespace, checkpoint_id].setdefault(task_id, Writes(task_path))
            # Written once is written; of LangGraph's own the latest counts.
            kept.rows |= {index: row for index, row in rows.items() if index < 0 or index not in kept.rows}
            for channel, value in writes:
                if channel == INTERRUPT:
                    kept.waits = [one.id for one in _interrupts(value) if hasattr(one, "id")]
                    kept.asked += kept.waits
            self._saving.add({key_of("writes", thread, namespace, checkpoint_id, task_id): kept.pack(), **beside})

    def _delete_thread(self, thread_id: str) -> None:
        with self._lock:
            forgotten: list[str] = []
            for place in [place for place in self._kept if place[0] == thread_id]:
                forgotten += [key_of("checkpoint", *place, checkpoint_id) for checkpoint_id in self._kept.pop(place)]
            for writes in [writes for writes in self._writes if writes[0] == thread_id]:
                forgotten += [key_of("writes", *writes, task_id) for task_id in self._writes.pop(writes)]
            self._blobs = {place: blob for place, blob in self._blobs.items() if place[0] != thread_id}
            self._saving.add(dict.fromkeys(forgotten))

    def _add(self, place: tuple[str, str], checkpoint_id: str, kept: Kept) -> None:
        self._kept[place][checkpoint_id] = kept
        for channel, (version, blob) in kept.blobs.items():
            self._blobs[(*place, channel, version)] = blob

    def _dump(self, value: Any, channel: str, task_path: str = "") -> Typed:
        try:
            return self.serde.dumps_typed(value)
        except (TypeError, RunError) as error:
            node = task_path.rpartition(", ")[2]
            whose = f"the node {node!r} left" if node else "there is"
            self._refused = RunError(
                f"{whose} something in {channel!r} of the graph's state that cannot be kept ({error}): put plain data "
                "there, or annotate it as UntrackedValue, which is empty when a run goes on after a crash or a question"
            )
            raise self._refused from error


# LangGraph asks in each run what it takes, and to find that out costs more than all else that it asks.
vars(RunSaver)["aput_writes"].__signature__ = inspect.signature(RunSaver.aput_writes)


def _nothing(namespace: str, task_id: str | None) -> Mapping[str, bytes]:
    return {}


def _place(config: RunnableConfig) -> tuple[str, str]:
    configurable = config["configurable"]
    return configurable["thread_id"], configurable.get("checkpoint_ns", "")


def _config(thread: str, namespace: str, checkpoint_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": namespace, "checkpoint_id": checkpoint_id}}


def _interrupts(value: Any) -> Sequence[Interrupt]:
    return value if isinstance(value, list | tuple) else [value]
