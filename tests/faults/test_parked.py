"""Tasks that wait for a person: they cost no asyncio task and no lease, and they outlive their servers."""

from __future__ import annotations

import time
from pathlib import Path

import psycopg
import pytest

from tests.faults.client import Caller, Ledger
from tests.faults.parking import park
from tests.faults.replicas import serving, user_token

pytestmark = pytest.mark.timeout(180)

MANY = 10_000


async def test_ten_thousand_parked_tasks_cost_no_asyncio_task_and_survive_their_servers(
    tmp_path: Path, database: str
) -> None:
    async with serving(tmp_path, database, recover=False) as site:
        first, second = site.replicas
        before = int((await first.checks())["tasks"])
        began = time.monotonic()
        tasks = await park(site.urls, user_token(), MANY)
        took = time.monotonic() - began
        after = [int((await replica.checks())["tasks"]) for replica in site.replicas]
        print(f"{MANY:,} parked in {took:.0f} s; asyncio tasks: {before} before, {after} after")  # noqa: T201 - a figure
        assert len(set(tasks)) == MANY
        # Those that there are belong to connections and to the server itself.
        assert max(after) < before + 50
        for replica in site.replicas:
            replica.kill()
        for replica in site.replicas:
            replica.start()
        await site.ready()
        with psycopg.connect(database) as connection:
            states = connection.execute("SELECT state, count(*), count(holder) FROM runs GROUP BY state").fetchall()
        assert states == [("input_required", MANY, 0)]
        assert int((await second.checks())["tasks"]) < before + 10
        async with Caller([second.url], user_token(), seed=1) as caller:
            for task in (tasks[0], tasks[MANY // 2], tasks[-1]):
                told = Ledger().open("ask")
                told.tasks.add(task)
                await caller.get(told)
                assert told.state == "TASK_STATE_INPUT_REQUIRED"
                await caller.answer(told, "that one")
                assert told.state == "TASK_STATE_COMPLETED"
                assert told.seen[-1][0]["task"]["artifacts"][0]["parts"][0]["text"] == "that one"
