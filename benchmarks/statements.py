"""SQL statements and commits for one unary task, as PostgreSQL itself counts them.

    python -m benchmarks.statements [--tasks 1000] [--connections 16] [--json FILE]

Of ELF and of the A2A SDK with its DatabaseTaskStore, each on a database of its own. Everything counts that comes in
that time, also what looks after leases and looks for work; BEGIN, COMMIT and ROLLBACK are counted by themselves. The
count is that of pg_stat_statements, an extension of PostgreSQL's own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any, Final

import psycopg
import uvloop

from benchmarks.a2a.load import send
from benchmarks.a2a.process import cores, served
from tests.postgres import INSTALL, Server, binaries, running

SETTLE: Final = 0.5
"""Seconds after the last answer, for what comes behind it."""
_COUNT: Final = (
    "SELECT query, calls FROM pg_stat_statements "
    "WHERE dbid = (SELECT oid FROM pg_database WHERE datname = '{}') ORDER BY calls DESC"
)
_ENDS: Final = ("BEGIN", "COMMIT", "ROLLBACK")


async def counted(server: Server, database: str, port: int, connections: int, tasks: int) -> dict[str, Any]:
    """Statements and transactions' ends for one task, and which statements they were."""
    await send(port, 1, requests=1)
    await send(port, connections, requests=200)
    await asyncio.sleep(SETTLE)
    await asyncio.to_thread(server.execute, "SELECT pg_stat_statements_reset()")
    await send(port, connections, requests=tasks)
    await asyncio.sleep(SETTLE)
    found = await asyncio.to_thread(server.execute, _COUNT.format(database))
    calls = {" ".join(str(query).split()): int(str(number)) for query, number in found}
    ends = {query: number for query, number in calls.items() if query.replace(";", " ").split()[0] in _ENDS}
    return {
        "statements": (sum(calls.values()) - sum(ends.values())) / tasks,
        "commits": sum(number for query, number in ends.items() if query.startswith("COMMIT")) / tasks,
        "ends": {query: number / tasks for query, number in ends.items()},
        "by_statement": {query[:200]: number / tasks for query, number in calls.items() if query not in ends},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    programs = binaries()
    if programs is None:
        raise SystemExit(INSTALL)
    core, _ = cores()
    rows: dict[str, dict[str, Any]] = {}
    with running(programs) as server:
        server.execute("ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'")
        server.stop()
        server.start()
        try:
            server.execute("CREATE EXTENSION pg_stat_statements")
        except psycopg.Error as error:
            raise SystemExit(f"this PostgreSQL does not count statements ({error}); install its contrib") from None
        for label, name in (("ELF", "elf"), ("a2a-sdk, DatabaseTaskStore", "a2a-sdk")):
            print(f"{label} …", file=sys.stderr)
            database = server.database()
            with served(name, core, {"ELF_DATABASE_URL": server.url(database)}) as (port, _):
                rows[label] = uvloop.run(counted(server, database, port, options.connections, options.tasks))
    print(f"{f'{options.tasks} tasks, {options.connections} connections':<34}{'statements':>12}{'commits':>9}   a task")
    for label, row in rows.items():
        note = "  wanted: at most 2 and 1" if label == "ELF" else ""
        print(f"{label:<34}{row['statements']:>12.2f}{row['commits']:>9.2f}{note}")
    for label, row in rows.items():
        print(f"\n{label}, statements a task")
        for query, number in list(row["by_statement"].items())[:8]:
            print(f"{number:>9.3f}  {query[:90]}")
    if options.json:
        result = {"tasks": options.tasks, "connections": options.connections, "a_task": rows}
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
