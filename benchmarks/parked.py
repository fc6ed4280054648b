"""What a task costs while it waits for a person: memory and asyncio tasks of the server, rows of the database.

    PYTHONPATH=. python benchmarks/parked.py [--tasks 10000] [--json FILE]

Two replicas on PostgreSQL are asked, by A2A, for what they have to ask back. Then both are killed with SIGKILL and
started again, and a task is answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

from tests.faults.client import Caller, Ledger
from tests.faults.parking import park
from tests.faults.replicas import Site, serving, user_token
from tests.postgres import INSTALL, binaries, running


async def measure(directory: Path, database: str, number: int) -> dict[str, Any]:
    """Park so many tasks."""
    async with serving(directory, database, recover=False) as site:
        # What the first requests load is no task's.
        await park(site.urls, user_token("bob"), 500)
        before, tasks_before = _memory(site), await _tasks(site)
        began = time.perf_counter()
        tasks = await park(site.urls, user_token(), number)
        seconds = time.perf_counter() - began
        after, tasks_after = _memory(site), await _tasks(site)
        for replica in site.replicas:
            replica.kill()
        began = time.perf_counter()
        for replica in site.replicas:
            replica.start()
        await site.ready()
        ready = time.perf_counter() - began
        with psycopg.connect(database) as connection:
            row = connection.execute("SELECT count(*) FROM runs WHERE state = 'input_required'").fetchone()
            assert row == (number + 500,)
            size = connection.execute(
                "SELECT sum(pg_total_relation_size(name::regclass)) FROM unnest(%s::text[]) AS name",
                [["runs", "events", "idempotency_keys", "turns"]],
            ).fetchone()
            assert size is not None
        restarted, tasks_restarted = _memory(site), await _tasks(site)
        told = Ledger().open("ask")
        async with Caller(site.urls, user_token(), seed=1) as caller:
            told.tasks.add(tasks[number // 2])
            began = time.perf_counter()
            await caller.answer(told, "that one")
            answered = time.perf_counter() - began
        assert told.state == "TASK_STATE_COMPLETED"
    return {
        "tasks": number,
        "parked_per_s": number / seconds,
        "bytes_a_task": (after - before) / number,
        "megabytes_before": before / 1e6,
        "megabytes_after": after / 1e6,
        "megabytes_after_restart": restarted / 1e6,
        "asyncio_tasks_before": tasks_before,
        "asyncio_tasks_after": tasks_after,
        "asyncio_tasks_after_restart": tasks_restarted,
        "database_bytes_a_task": int(size[0]) / (number + 500),
        "restart_s": ready,
        "answer_ms": answered * 1000,
    }


def _memory(site: Site) -> int:
    return sum(replica.resident for replica in site.replicas)


async def _tasks(site: Site) -> int:
    return sum([int((await replica.checks())["tasks"]) for replica in site.replicas])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    programs = binaries()
    if programs is None:
        raise SystemExit(INSTALL)
    with tempfile.TemporaryDirectory(prefix="elf-bench-") as directory, running(programs) as server:
        found = asyncio.run(measure(Path(directory), server.url(server.database()), arguments.tasks))
    print(f"{found['tasks']:,} tasks parked at two replicas, {found['parked_per_s']:,.0f}/s")
    print(f"{'':<20}{'before':>10}{'after':>10}{'restarted':>11}")
    print(
        f"{'MB, both':<20}{found['megabytes_before']:>10.1f}{found['megabytes_after']:>10.1f}"
        f"{found['megabytes_after_restart']:>11.1f}"
    )
    print(
        f"{'asyncio tasks, both':<20}{found['asyncio_tasks_before']:>10}{found['asyncio_tasks_after']:>10}"
        f"{found['asyncio_tasks_after_restart']:>11}"
    )
    memory, stored = found["bytes_a_task"], found["database_bytes_a_task"]
    print(f"memory a task: {memory:,.0f} bytes; in the database {stored:,.0f} bytes")
    print(
        f"ready again after {found['restart_s']:.1f} s; an answer and the rest of the work {found['answer_ms']:.0f} ms"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps({"cpus": os.cpu_count(), **found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
