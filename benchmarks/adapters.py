"""What an adapter adds to its framework: a run of a graph with one coroutine node, beside LangGraph alone.

    PYTHONPATH=. python benchmarks/adapters.py [--runs 300] [--rounds 7] [--json FILE]

The rows alternate in each round; the table shows medians. The first row is LangGraph with nothing around it. The next
ones are LangGraph with what a served run needs of it: its streams, callbacks, and its checkpointer in memory. Then the
adapter, with checkpoints that are lost with the process, and with durable ones on SQLite, where a run waits for the
disk.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph

from elf_sdk.adapters.langgraph import LangGraphAdapter
from elf_sdk.models.llm import Endpoint
from elf_sdk.runs.adapter import Owner, RunContext
from elf_sdk.runs.checkpoints import Checkpoints, MemoryCheckpoints
from elf_sdk.runs.durable import DurableLog
from elf_sdk.runs.log import RunRequest
from elf_sdk.store import store_at
from elf_sdk.team.spec import TeamSpec

OWNER = Owner("https://issuer.example", "ada")
SPEC = TeamSpec.model_validate({"name": "bench", "members": [{"role": "Manager", "is_manager": True}]})
ENDPOINT = Endpoint("offline", "offline", "http://127.0.0.1:1/v1", "not-needed")
MODES: Any = ["messages", "custom", "values"]
_THREADS = itertools.count()

Work = Callable[[], Awaitable[None]]


async def node(state: MessagesState) -> dict[str, Any]:
    """The one node."""
    return {"messages": [AIMessage("hello")]}


def graph() -> Any:
    """The graph."""
    builder = StateGraph(MessagesState)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    builder.add_edge("node", END)
    return builder.compile()


class Watching(BaseCallbackHandler):
    """Callbacks that do nothing, which LangGraph has to make all the same."""

    run_inline = True


async def drained(items: AsyncIterator[Any]) -> None:
    """To the end."""
    async for _ in items:
        pass


def config(**more: Any) -> Any:
    """Of a thread of its own."""
    return {"configurable": {"thread_id": str(next(_THREADS))}, **more}


def rows(compiled: Any, durable: Checkpoints) -> dict[str, Work]:
    """What is measured, by name."""
    adapter = LangGraphAdapter(compiled)
    asked = {"messages": [HumanMessage("hello")]}

    def context(checkpoints: Checkpoints) -> RunContext:
        return RunContext("r", SPEC, OWNER, "c", "hello", ENDPOINT, checkpoints=checkpoints)

    async def alone() -> None:
        await compiled.ainvoke(asked)

    async def streams() -> None:
        await drained(compiled.astream(asked, stream_mode=MODES, subgraphs=True))

    async def with_memory() -> None:
        own = compiled.copy(update={"checkpointer": InMemorySaver()})
        watched = config(callbacks=[Watching()])
        await drained(own.astream(asked, watched, stream_mode=MODES, subgraphs=True, durability="sync"))

    async def volatile() -> None:
        await drained(adapter.run(context(MemoryCheckpoints())))

    async def on_disk() -> None:
        await drained(adapter.run(context(durable)))

    return {
        "LangGraph": alone,
        "LangGraph, streams": streams,
        "LangGraph, streams, its memory": with_memory,
        "adapter": volatile,
        "adapter, SQLite": on_disk,
    }


async def timed(work: Work, runs: int) -> dict[str, float]:
    """CPU and wall time of a run, in milliseconds, one after the other."""
    gc.collect()
    began, spent = time.perf_counter(), time.process_time()
    for _ in range(runs):
        await work()
    return {
        "cpu_ms": (time.process_time() - spent) / runs * 1000,
        "wall_ms": (time.perf_counter() - began) / runs * 1000,
    }


async def measure(runs: int, rounds: int, directory: Path) -> dict[str, list[dict[str, float]]]:
    """Each row's figures, round by round."""
    async with AsyncExitStack() as stack:
        store = store_at(directory / "elf.db", "")
        await store.open()
        stack.push_async_callback(store.close)
        log = DurableLog(store)
        await log.open()
        stack.push_async_callback(log.close)
        run, _ = await log.create("r", RunRequest("bench", OWNER, "c", "hello"), None)
        works = rows(graph(), log.checkpoints(run))
        found: dict[str, list[dict[str, float]]] = {name: [] for name in works}
        for work in works.values():
            await timed(work, 20)
        for _ in range(rounds):
            for name, work in works.items():
                found[name].append(await timed(work, runs))
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="elf-bench-") as directory:
        found = asyncio.run(measure(arguments.runs, arguments.rounds, Path(directory)))
    medians = {
        name: {unit: statistics.median(figures[unit] for figures in rounds) for unit in rounds[0]}
        for name, rounds in found.items()
    }
    bare = medians["LangGraph"]["cpu_ms"]
    print(f"{'one run of a graph with one node':<34}{'CPU ms':>8}{'x':>7}{'wall ms':>9}")
    table = []
    for name, row in medians.items():
        table.append({"row": name, **row, "times": row["cpu_ms"] / bare})
        print(f"{name:<34}{row['cpu_ms']:>8.2f}{row['cpu_ms'] / bare:>7.2f}{row['wall_ms']:>9.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
