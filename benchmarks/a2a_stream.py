"""A stream of five events, one request after the other: when the first event is there, and when the last.

    python -m benchmarks.a2a_stream [--seconds 1] [--rounds 5] [--json FILE]

ELF in memory beside bare Starlette, and durable beside bare Starlette plus one commit, since nobody is told of a task
that is not stored. The commit is measured between the streams: one row in a table of its own, on the same disk, by the
same driver. The A2A SDK's default handler is there for comparison.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import uvloop

from benchmarks.a2a.load import send, stream
from benchmarks.a2a.process import cores, served
from tests.postgres import INSTALL, binaries, running

BARE = "bare Starlette, StreamingResponse"
FACTOR = 3.0
"""Times the bare server's, wanted of ELF; durable, one commit more."""


class Contender(NamedTuple):
    """Who takes part.

    Attributes:
        server: one of `servers.SERVERS`.
        environ: that the server gets.
        commit: commits one row; None where nothing is committed.
    """

    server: str
    environ: Mapping[str, str] = {}
    commit: Callable[[], object] | None = None


class Round(NamedTuple):
    """What one round showed, in milliseconds: until the first event, until the last, and one commit."""

    first: float
    last: float
    commit: float


def measure(contender: Contender, core: int, seconds: float) -> Round:
    """One round."""
    with (
        served(contender.server, core, contender.environ) as (port, _),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(send(port, 1, requests=1))
        runner.run(stream(port, min(seconds, 0.3)))
        return Round(*(taken * 1000 for taken in runner.run(stream(port, seconds, contender.commit))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    core, _ = cores()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="elf-bench-")))
        file = sqlite3.connect(directory / "commit.db", isolation_level=None)
        stack.callback(file.close)
        file.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE one (row TEXT)")
        insert = "INSERT INTO one VALUES ('hello')"
        contenders = {
            BARE: Contender("starlette"),
            "ELF, in memory": Contender("elf"),
            "a2a-sdk, in memory": Contender("a2a-sdk"),
            "ELF, SQLite": Contender("elf", {"ELF_STORE": str(directory / "elf.db")}, lambda: file.execute(insert)),
        }
        programs = binaries()
        if programs is None:
            print(f"no rows of PostgreSQL: {INSTALL}")
        else:
            server = stack.enter_context(running(programs))
            theirs, ours, beside = (server.url(server.database()) for _ in range(3))
            connection = stack.enter_context(psycopg.connect(beside, autocommit=True))
            connection.execute("CREATE TABLE one (row text)")
            for label, name, url in (("a2a-sdk", "a2a-sdk", theirs), ("ELF", "elf", ours)):
                contenders[f"{label}, PostgreSQL"] = Contender(
                    name, {"ELF_DATABASE_URL": url}, lambda: connection.execute(insert)
                )
        rounds: dict[str, list[Round]] = {label: [] for label in contenders}
        for number in range(options.rounds):
            for label, contender in contenders.items():
                print(f"round {number + 1}/{options.rounds}: {label} …", file=sys.stderr)
                rounds[label].append(measure(contender, core, options.seconds))
    rows = {label: figures(found, rounds[BARE]) for label, found in rounds.items()}
    print(f"{'stream of five events, one connection':<42}{'first ms':>9}{'last ms':>9}{'commit':>9}{'of bare':>9}")
    for label, row in rows.items():
        note = f"  wanted: {FACTOR:g}" if label.startswith("ELF") else ""
        print(f"{label:<42}{row['first']:>9.2f}{row['last']:>9.2f}{row['commit']:>9.2f}{row['of_bare']:>9.2f}{note}")
    print("\nof bare: what is left of the first event's time without the commit, as a multiple of the bare server's")
    if options.json:
        result = {"cpus": os.cpu_count(), "stream_ms": rows}
        options.json.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def figures(found: list[Round], bare: list[Round]) -> dict[str, Any]:
    """Medians, and the ratio to the bare server round by round."""
    middle = Round(*map(statistics.median, zip(*found, strict=True)))
    ratios = [(own.first - own.commit) / other.first for own, other in zip(found, bare, strict=True)]
    return {**middle._asdict(), "of_bare": statistics.median(ratios), "rounds": found}


if __name__ == "__main__":
    main()
