"""SendMessage: ELF beside bare Starlette and the A2A SDK's own default handler, in memory and durable on PostgreSQL.

    python -m benchmarks.a2a_send [--seconds 2] [--rounds 5] [--connections 16] [--json FILE] [--profile]

One uvicorn (uvloop, httptools) at a time, pinned to one core; the load and PostgreSQL are on another. Rounds alternate;
the table shows medians, with the server's CPU time a request. ELF is a whole team with authentication on and the
garbage collection that `serve` sets. What the load can do at most is the first row, a server that answers without
reading. The SDK keeps its tasks in the same PostgreSQL by its DatabaseTaskStore and asyncpg.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pstats
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

from benchmarks.a2a.load import send
from benchmarks.a2a.process import cores, cpu_seconds, served
from tests.postgres import INSTALL, binaries, running


class Contender(NamedTuple):
    """Who takes part.

    Attributes:
        server: one of `servers.SERVERS`.
        environ: that the server gets.
        wanted: how many times another's rate, by its label.
    """

    server: str
    environ: Mapping[str, str] = {}
    wanted: Mapping[str, float] = {}


class Round(NamedTuple):
    """What one round showed.

    Attributes:
        rate: requests a second.
        latency: median, in milliseconds.
        cpu: of the server, in microseconds a request.
        busy: the load generator's share of its core.
    """

    rate: float
    latency: float
    cpu: float
    busy: float


BARE = "bare Starlette, JSON echo"
SDK = "a2a-sdk, in memory"
SDK_POSTGRES = "a2a-sdk, PostgreSQL"


def measure(contender: Contender, core: int, connections: int, seconds: float, profile: str = "") -> Round:
    """One round."""
    with (
        served(contender.server, core, contender.environ, profile) as (port, pid),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        # One alone: the SDK makes its tables with the first.
        runner.run(send(port, 1, requests=1))
        runner.run(send(port, connections, min(seconds, 0.5)))
        before, own, start = cpu_seconds(pid), time.process_time(), time.perf_counter()
        rate, latencies = runner.run(send(port, connections, seconds))
        busy = (time.process_time() - own) / (time.perf_counter() - start)
        cpu = (cpu_seconds(pid) - before) / len(latencies)
    return Round(rate, statistics.median(latencies) * 1000, cpu * 1e6, busy)


def top(profile: str, count: int = 25) -> list[tuple[str, float]]:
    """Where the time goes: functions by their own share, the loop's waiting left out."""
    stats: Any = pstats.Stats(profile)
    rows = [
        (f"{Path(file).parent.name}/{Path(file).name}:{line} {function}", own)
        for (file, line, function), (_, _, own, _, _) in stats.stats.items()
        if "run_until_complete" not in function
    ]
    total = sum(own for _, own in rows)
    return [(name, own / total) for name, own in sorted(rows, key=lambda row: -row[1])[:count]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--only", default="", help="the contenders whose label holds this, and their references")
    parser.add_argument("--profile", action="store_true", help="one more round of ELF under cProfile")
    options = parser.parse_args()
    core, _ = cores()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="elf-bench-")))
        contenders = {
            "fixed answer (limit of server and load)": Contender("fixed"),
            BARE: Contender("starlette"),
            "ELF, in memory": Contender("elf", {}, {BARE: 0.5, SDK: 10}),
            SDK: Contender("a2a-sdk"),
            "ELF, SQLite": Contender("elf", {"ELF_STORE": str(directory / "elf.db")}),
        }
        programs = binaries()
        if programs is None:
            print(f"no rows of PostgreSQL: {INSTALL}")
        else:
            database = stack.enter_context(running(programs))
            theirs, ours = ({"ELF_DATABASE_URL": database.url(database.database())} for _ in range(2))
            contenders[SDK_POSTGRES] = Contender("a2a-sdk", theirs)
            contenders["ELF, PostgreSQL"] = Contender("elf", ours, {SDK_POSTGRES: 10})
        chosen = {label for label in contenders if options.only in label}
        chosen |= {other for label in chosen for other in contenders[label].wanted}
        contenders = {label: contender for label, contender in contenders.items() if label in chosen}
        rounds: dict[str, list[Round]] = {label: [] for label in contenders}
        for number in range(options.rounds):
            for label, contender in contenders.items():
                print(f"round {number + 1}/{options.rounds}: {label} …", file=sys.stderr)
                rounds[label].append(measure(contender, core, options.connections, options.seconds))
        middle = {label: Round(*map(statistics.median, zip(*found, strict=True))) for label, found in rounds.items()}
        print(f"{'SendMessage':<42}{'req/s':>9}{'p50 ms':>9}{'CPU µs':>9}{'load core':>11}")
        for label, row in middle.items():
            note = "  load is the limit" if row.busy > 0.9 else ""
            print(f"{label:<42}{row.rate:>9,.0f}{row.latency:>9.2f}{row.cpu:>9.0f}{row.busy:>10.0%}{note}")
        ratios = compared(contenders, rounds)
        print(f"\n{'times the rate of':<42}{'rate':>9}{'wanted':>9}{'CPU':>9}")
        for ratio in ratios:
            pair = f"{ratio['label']} / {ratio['of']}"
            print(f"{pair:<42}{ratio['rate']:>9.2f}{ratio['wanted']:>9g}{ratio['cpu']:>9.2f}")
        profile: list[tuple[str, float]] = []
        if options.profile:
            label = next(label for label in reversed(contenders) if label.startswith("ELF"))
            saved = directory / "profile"
            measure(contenders[label], core, options.connections, options.seconds, str(saved))
            profile = top(str(saved))
            print(f"\n{label} by function's own time (cProfile, which doubles small calls; the loop's thread):")
            for function, share in profile:
                print(f"{share:>7.1%}  {function}")
    if options.json:
        figures = {label: {**row._asdict(), "rounds": rounds[label]} for label, row in middle.items()}
        result = {
            "connections": options.connections,
            "cpus": os.cpu_count(),
            "send": figures,
            "ratios": ratios,
            "profile": profile,
        }
        options.json.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def compared(contenders: Mapping[str, Contender], rounds: Mapping[str, list[Round]]) -> list[dict[str, Any]]:
    """Rate and CPU time as multiples of others', round by round, because the machine changes; their medians."""
    found: list[dict[str, Any]] = []
    for label, contender in contenders.items():
        for other, wanted in contender.wanted.items():
            pairs = list(zip(rounds[label], rounds[other], strict=True))
            rate = statistics.median(ours.rate / theirs.rate for ours, theirs in pairs)
            cpu = statistics.median(ours.cpu / theirs.cpu for ours, theirs in pairs)
            found.append({"label": label, "of": other, "rate": rate, "wanted": wanted, "cpu": cpu})
    return found


if __name__ == "__main__":
    main()
