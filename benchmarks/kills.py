"""Two replicas under load, one of which is killed with SIGKILL over and over; what was acknowledged is then looked for.

    PYTHONPATH=. python benchmarks/kills.py [--kills 200] [--minutes 12] [--clients 6] [--seed 1] [--json FILE]

Half of the kills hit a team whose work can go on elsewhere, half one whose work cannot; both are served at the same
time, by two replicas each, on one PostgreSQL. Victims and moments are random, seeded; a replica is killed only when the
other has served for long enough to take over. Clients do what they may: send the same message again, and subscribe
again. Everything that they were told is compared with the log. `resumed` is the time from a kill to the next event of
a run that it cut off.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.faults.client import load
from tests.faults.killing import kill_at_random
from tests.faults.replicas import serving, user_token
from tests.faults.verdict import judge
from tests.postgres import INSTALL, binaries, running


async def measure(
    directory: Path, database: str, *, recover: bool, kills: int, seconds: float, clients: int, seed: int
) -> dict[str, Any]:
    """Kill replicas of one team, and count."""
    began = time.monotonic()
    async with serving(directory, database, recover=recover) as site:
        async with load(site.urls, user_token(), seed=seed, clients=clients) as ledger:
            killed = await kill_at_random(site, seed=seed, seconds=seconds, most=kills)
        verdict = await judge(database, ledger, site.effects, kills=killed, recover=recover)
    for line in verdict.lost + verdict.doubled:
        print(line)
    return {
        "work": "goes on" if recover else "is interrupted",
        "kills": len(killed),
        "seconds": time.monotonic() - began,
        "messages": verdict.messages,
        "acknowledged": verdict.acknowledged,
        "lost": len(verdict.lost),
        "doubled": len(verdict.doubled),
        "ends": dict(verdict.ends),
        "steps_repeated": verdict.repeated,
        "resumed": len(verdict.resumed),
        "resumed_p50_s": statistics.median(verdict.resumed or [0]),
        "resumed_max_s": max(verdict.resumed, default=0),
    }


async def measure_both(directory: Path, urls: list[str], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Both teams at the same time."""
    return await asyncio.gather(
        *(
            measure(
                directory / str(number),
                url,
                recover=recover,
                kills=arguments.kills // 2,
                seconds=arguments.minutes * 60,
                clients=arguments.clients,
                seed=arguments.seed + number,
            )
            for number, (url, recover) in enumerate(zip(urls, (True, False), strict=True))
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--clients", type=int, default=6, help="of each team")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    programs = binaries()
    if programs is None:
        raise SystemExit(INSTALL)
    with tempfile.TemporaryDirectory(prefix="elf-bench-") as directory, running(programs) as server:
        urls = [server.url(server.database()) for _ in range(2)]
        rows = asyncio.run(measure_both(Path(directory), urls, arguments))
    print(
        f"{'work':<16}{'kills':>6}{'messages':>10}{'acknowledged':>14}{'lost':>6}{'doubled':>9}"
        f"{'interrupted':>13}{'resumed':>9}{'p50 s':>7}{'max s':>7}"
    )
    for row in rows:
        print(
            f"{row['work']:<16}{row['kills']:>6}{row['messages']:>10,}{row['acknowledged']:>14,}{row['lost']:>6}"
            f"{row['doubled']:>9}{row['ends'].get('interrupted', 0):>13}{row['resumed']:>9}"
            f"{row['resumed_p50_s']:>7.1f}{row['resumed_max_s']:>7.1f}"
        )
    print(
        f"steps that were cut off and done again: {rows[0]['steps_repeated']} where work goes on, "
        f"{rows[1]['steps_repeated']} where it is interrupted"
    )
    if arguments.json:
        result = {"cpus": os.cpu_count(), "seed": arguments.seed, "kills": rows}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
