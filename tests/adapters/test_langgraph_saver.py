"""LangGraph's checkpoints among those of a run."""

from __future__ import annotations

import asyncio
import enum
import sys
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from pydantic import BaseModel, SecretStr

from elf_sdk.adapters.langgraph.saver import RunSaver
from elf_sdk.adapters.langgraph.serializer import StrictSerializer
from elf_sdk.errors import Conflict
from elf_sdk.runs.adapter import RunError
from elf_sdk.runs.checkpoints import Checkpoints, MemoryCheckpoints
from elf_sdk.runs.durable import DurableLog
from elf_sdk.store import store_at
from tests.runs.support import ask


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def checkpoints(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Checkpoints, None]:
    if request.param == "memory":
        yield MemoryCheckpoints()
        return
    url = request.getfixturevalue("database") if request.param == "postgres" else ""
    store = store_at(tmp_path / "elf.db", url)
    await store.open()
    log = DurableLog(store)
    await log.open()
    run, _ = await log.create("r1", ask(), None)
    yield log.checkpoints(run)
    await log.close()
    await store.close()


def place(thread: str = "t", namespace: str = "", checkpoint_id: str | None = None) -> Any:
    config = {"thread_id": thread, "checkpoint_ns": namespace}
    return {"configurable": config if checkpoint_id is None else {**config, "checkpoint_id": checkpoint_id}}


async def put(
    saver: RunSaver, checkpoint_id: str, values: Mapping[str, Any], *, after: Any = None, step: int = 1, **where: str
) -> Any:
    """A checkpoint in which all values are new."""
    versions: dict[str, str | int | float] = {channel: saver.get_next_version(None, None) for channel in values}
    checkpoint: Any = {
        "v": 4,
        "id": checkpoint_id,
        "ts": "2026-01-01T00:00:00+00:00",
        "channel_values": dict(values),
        "channel_versions": versions,
        "versions_seen": {},
        "updated_channels": None,
    }
    return await saver.aput(after or place(**where), checkpoint, {"source": "loop", "step": step}, versions)


async def again(checkpoints: Checkpoints) -> RunSaver:
    """As another process would find it."""
    saver = RunSaver(checkpoints)
    await saver.open()
    return saver


async def test_what_was_put_is_read_by_another(checkpoints: Checkpoints) -> None:
    from langchain_core.messages import AIMessage, HumanMessage

    saver = RunSaver(checkpoints)
    first = await put(saver, "1", {"messages": [HumanMessage("hello", id="m1")], "n": 1})
    second = await put(saver, "2", {"n": 2}, after=first)
    await saver.aput_writes(second, [("n", 3), ("messages", [AIMessage("b", id="m2")])], "task-b", "~b, two")
    await saver.aput_writes(second, [("n", 4)], "task-a", "~a, one")
    for reader in (saver, await again(checkpoints)):
        latest = await reader.aget_tuple(place())
        assert latest is not None
        assert latest.checkpoint["channel_values"] == {"n": 2}
        assert latest.parent_config == first
        # In the order in which a step applies them.
        assert latest.pending_writes == [
            ("task-a", "n", 4),
            ("task-b", "n", 3),
            ("task-b", "messages", [AIMessage("b", id="m2")]),
        ]
        earlier = await reader.aget_tuple(first)
        assert earlier is not None
        assert earlier.checkpoint["channel_values"] == {"messages": [HumanMessage("hello", id="m1")], "n": 1}
        assert earlier.metadata["step"] == 1
        assert [one.checkpoint["id"] async for one in reader.alist(place())] == ["2", "1"]
        assert [one.checkpoint["id"] for one in reader.list(place(), before=second)] == ["1"]
        assert [one.checkpoint["id"] for one in reader.list(place(), limit=1)] == ["2"]
        assert [one.checkpoint["id"] for one in reader.list(None, filter={"step": 2})] == []
        assert await reader.aget_tuple(place("other")) is None
        assert await reader.aget_tuple(place(checkpoint_id="9")) is None
        assert reader.get_tuple(place(namespace="inner:1")) is None


async def test_the_latest_is_told_by_its_step_because_the_next_machine_may_have_another_time(
    checkpoints: Checkpoints,
) -> None:
    saver = RunSaver(checkpoints)
    first = await put(saver, "2", {"n": 1}, step=1)
    second = await put(saver, "1", {"n": 2}, after=first, step=2)
    for reader in (saver, await again(checkpoints)):
        latest = await reader.aget_tuple(place())
        assert latest is not None
        assert latest.config == second


async def test_a_write_counts_once_and_of_langgraphs_own_the_latest(checkpoints: Checkpoints) -> None:
    saver = RunSaver(checkpoints)
    at = await put(saver, "1", {})
    await saver.aput_writes(at, [("n", 1), ("__error__", "first")], "task")
    await saver.aput_writes(at, [("n", 2), ("__error__", "second"), ("m", 3)], "task")
    found = await (await again(checkpoints)).aget_tuple(place())
    assert found is not None
    assert sorted(found.pending_writes or [], key=str) == sorted(
        [("task", "n", 1), ("task", "__error__", "second"), ("task", "m", 3)], key=str
    )


async def test_a_thread_that_is_deleted_is_gone_and_no_other(checkpoints: Checkpoints) -> None:
    saver = RunSaver(checkpoints)
    for thread in ("t", "u"):
        for namespace in ("", "inner:1"):
            at = await put(saver, "1", {"n": thread}, thread=thread, namespace=namespace)
            await saver.aput_writes(at, [("n", 2)], "task")
    await saver.adelete_thread("t")
    for reader in (saver, await again(checkpoints)):
        assert await reader.aget_tuple(place("t")) is None
        found = await reader.aget_tuple(place("u", "inner:1"))
        assert found is not None
        assert found.pending_writes == [("task", "n", 2)]


async def test_graphs_in_other_threads_wait_for_the_loop(checkpoints: Checkpoints) -> None:
    saver = RunSaver(checkpoints)
    at = await put(saver, "1", {})

    def work(number: int) -> None:
        saver.put_writes(at, [("n", number)], f"task-{number}")
        # It has returned, so it is there for another.
        found = asyncio.run_coroutine_threadsafe(again(checkpoints), loop).result().get_tuple(place())
        assert found is not None
        assert (f"task-{number}", "n", number) in (found.pending_writes or [])

    loop = asyncio.get_running_loop()
    await asyncio.gather(*(asyncio.to_thread(work, number) for number in range(20)))


async def test_many_writes_of_one_moment_are_one_save() -> None:
    class Counting(MemoryCheckpoints):
        saves = 0

        async def save(self, entries: Mapping[str, bytes | None]) -> None:
            self.saves += 1
            await asyncio.sleep(0)
            await super().save(entries)

    checkpoints = Counting()
    saver = RunSaver(checkpoints)
    at = await put(saver, "0", {}, step=0)
    assert checkpoints.saves == 0, "no node is done"
    await asyncio.gather(*(saver.aput_writes(at, [("n", number)], f"task-{number}") for number in range(10)))
    assert checkpoints.saves == 1
    found = (await again(checkpoints)).get_tuple(place())
    assert found is not None
    assert len(found.pending_writes or []) == 10


async def test_who_has_lost_the_run_is_told_so_and_saves_nothing(tmp_path: Path) -> None:
    store = store_at(tmp_path / "elf.db", "")
    await store.open()
    log = DurableLog(store)
    await log.open()
    run, _ = await log.create("r1", ask(), None, begin=True)
    saver = RunSaver(log.checkpoints(run))
    await put(saver, "1", {"n": 1})
    await log.release(run)
    (claimed,) = await log.claim("test-team", 1)
    with pytest.raises(Conflict, match="not held by this process any more"):
        await put(saver, "2", {"n": 2})
    found = (await again(log.checkpoints(claimed))).get_tuple(place())
    assert found is not None
    assert found.checkpoint["id"] == "1"
    await log.close()
    await store.close()


class Colour(enum.Enum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Plan:
    steps: list[str]
    colour: Colour = Colour.RED


class Report(BaseModel):
    plan: Plan
    at: datetime


class Handle:
    """Neither data nor anything else that can be built again."""

    def dict(self) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize(
    "value",
    [
        Plan(["a"]),
        Report(plan=Plan(["a"]), at=datetime(2026, 1, 1, tzinfo=UTC)),
        [Colour.RED, Point(1, 2), {1, 2}, UUID(int=1), b"\x00", Path("a/b"), None],
        {"nested": {"deep": [Plan(["b"])]}},
    ],
    ids=["dataclass", "model", "several", "nested"],
)
def test_data_comes_back_as_what_it_was(value: Any) -> None:
    written = StrictSerializer().dumps_typed(value)
    assert StrictSerializer().loads_typed(written) == value


@pytest.mark.parametrize("value", [Handle(), [{"deep": Handle()}]], ids=["class", "nested"])
def test_what_cannot_be_built_again_is_warned_of_when_it_is_written(
    value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    written = StrictSerializer().dumps_typed(value)
    assert "tests.adapters.test_langgraph_saver.Handle, which cannot be built again" in caplog.text
    with pytest.raises(RunError, match=r"the run cannot go on, .* holds tests\.adapters\.test_langgraph_saver\.Handle"):
        StrictSerializer().loads_typed(written)


def test_a_secret_is_refused() -> None:
    with pytest.raises(RunError, match="it is a secret"):
        StrictSerializer().dumps_typed({"key": SecretStr("x")})


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 5])
def test_bytes_of_a_database_call_nothing(code: int, tmp_path: Path) -> None:
    """Forged, as somebody could who can write to the database; by LangGraph's default it is executed."""
    import ormsgpack

    mark = tmp_path / "called"
    argument: Any = {0: str(mark), 1: [str(mark)], 2: {"name": str(mark)}, 3: str(mark)}.get(code, {"name": str(mark)})
    inner = ormsgpack.packb(["os", "mkdir", argument, "__call__"])
    forged = ormsgpack.packb({"a": [ormsgpack.Ext(code, inner)]})
    with pytest.raises(RunError, match=r"holds os\.mkdir, which cannot be built again"):
        StrictSerializer().loads_typed(("msgpack", forged))
    module = ormsgpack.packb(["antigravity", "Anything", {}, ""])
    with pytest.raises(RunError, match=r"holds antigravity\.Anything"):
        StrictSerializer().loads_typed(("msgpack", ormsgpack.packb(ormsgpack.Ext(code, module))))
    with pytest.raises(NotImplementedError):
        StrictSerializer().loads_typed(("pickle", b"\x80\x04N."))
    assert not mark.exists()
    assert "antigravity" not in sys.modules
