"""Appends to the run log: SQLite beside PostgreSQL, in alternating rounds; the table shows medians.

    PYTHONPATH=. python benchmarks/run_log.py [--seconds 2] [--rounds 5] [--writers 16] [--json FILE]

Each writer has a run of its own and appends one event, waits until it is durable, and appends the next. Both stores
are on the same disk with all their syncs. PostgreSQL is the system's, in a directory of its own; without one its rows
say so.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import uvloop

from elf_sdk.runs.adapter import Owner
from elf_sdk.runs.durable import DurableLog
from elf_sdk.runs.events import TextDelta
from elf_sdk.runs.log import RunRequest
from elf_sdk.store import Store, store_at
from tests.postgres import INSTALL, binaries, running

OWNER = Owner("https://issuer.example", "ada")


async def measure(store: Store, writers: int, seconds: float) -> dict[str, float]:
    """Appends a second, the median of one in milliseconds, and CPU time an append in microseconds."""
    await store.open()
    log = DurableLog(store)
    name = f"{time.time_ns()}"
    for number in range(writers):
        await log.create(f"{name}-{number}", RunRequest("bench", OWNER, "c", "hello"), None)
    times: list[float] = []
    begin, cpu = time.perf_counter(), time.process_time()

    async def write(run_id: str) -> None:
        while (before := time.perf_counter()) < begin + seconds:
            await log.append(run_id, [TextDelta("hello, world")])
            times.append(time.perf_counter() - before)

    await asyncio.gather(*(write(f"{name}-{number}") for number in range(writers)))
    took, spent = time.perf_counter() - begin, time.process_time() - cpu
    await store.close()
    return {
        "appends_per_s": len(times) / took,
        "p50_ms": statistics.median(times) * 1000,
        "cpu_us": spent / len(times) * 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--writers", type=int, default=16)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="elf-bench-")))
        urls = {"sqlite": ""}
        programs = binaries()
        if programs is None:
            print(f"postgres: {INSTALL}")
        else:
            server = stack.enter_context(running(programs))
            urls["postgres"] = server.url(server.database())
        rounds: dict[tuple[str, int], list[dict[str, float]]] = {}
        for _ in range(arguments.rounds):
            for writers in (1, arguments.writers):
                for kind, url in urls.items():
                    store = store_at(directory / "elf.db", url)
                    figures = uvloop.run(measure(store, writers, arguments.seconds))
                    rounds.setdefault((kind, writers), []).append(figures)
    rows: list[dict[str, Any]] = []
    print(f"{'store':<10}{'writers':>8}{'appends/s':>12}{'p50 ms':>9}{'CPU us':>9}")
    for (kind, writers), found in rounds.items():
        row = {name: statistics.median(figures[name] for figures in found) for name in found[0]}
        rows.append({"store": kind, "writers": writers, **row})
        print(f"{kind:<10}{writers:>8}{row['appends_per_s']:>12,.0f}{row['p50_ms']:>9.2f}{row['cpu_us']:>9.0f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
