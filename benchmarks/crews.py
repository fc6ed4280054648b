"""Crews at once in a served team: whether the server still answers meanwhile, what they hold, and how soon they begin.

    PYTHONPATH=. python benchmarks/crews.py [--crews 32] [--rounds 3] [--json FILE]

A team is a real process as `elf serve` starts it, its model another one, which says a word each 20 ms. All crews are
asked at once over A2A; `/health` and `/livez` are asked each 50 ms by a third process, also when the answers before
have not come. Beside it, in alternating rounds, CrewAI's own `kickoff_async` in the loop of a plain Starlette server.
All share the same cores, also the workers, unlike the other benchmarks: that is what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from benchmarks.a2a.process import cpu_seconds
from benchmarks.frameworks.memory import Memory, memory_of, processes
from benchmarks.frameworks.teams import CrewTeam, GraphTeam, PlainTeam
from benchmarks.start import answers
from elf_sdk.server.a2a.client import TeamClient
from elf_sdk.server.team_server import TeamServer
from elf_sdk.testing.process import TeamProcess, write_team

ROOT: Final = Path(__file__).parents[1]
PATHS: Final = ("/health", "/livez")
WORDS: Final = 100
"""Of an answer: two seconds at least."""
DELAY: Final = "20ms"
LONG: Final = "Say it at length."
"""Asks for twenty times as many words: 40 seconds, in which memory is looked at."""
BEGUN: Final = 35.0
"""Seconds within which all runs have to have begun to look at their memory."""
SPOKEN: Final = 4.0
"""Seconds after which the memory of a run is looked at that has begun."""
TEAMS: Final[Mapping[str, tuple[type[TeamServer], str]]] = {
    "CrewAI": (CrewTeam, "process"),
    "LangGraph": (GraphTeam, "process"),
    "function": (PlainTeam, "process"),
    "function in a thread": (PlainTeam, "thread"),
    "function in the loop": (PlainTeam, "inline"),
}


@dataclass(frozen=True, slots=True)
class Load:
    """Of one round.

    Attributes:
        seconds: from the first request to the last answer.
        first: seconds to the first word, of each run; nothing where words do not come by themselves.
        asked: seconds of each answer, by path.
    """

    seconds: float
    first: list[float]
    asked: dict[str, list[float]]


@contextmanager
def model(directory: Path) -> Iterator[str]:
    """The offline model as a process; its address."""
    script = directory / "offline.yaml"
    rules = [{"when": {"user": "at length"}, "say": "word " * 20 * WORDS}, {"say": "word " * WORDS}]
    script.write_text(yaml.safe_dump({"delay": DELAY, "rules": rules}), encoding="utf-8")
    command = [sys.executable, "-u", "-m", "elf_sdk", "model", "serve", "--script", str(script), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            found = re.search(r"http://\S+", process.stdout.readline().replace("; Ctrl-C", " "))
            assert found is not None
            yield found[0]
        finally:
            process.terminate()


def team(program: type[TeamServer], isolation: str, url: str, directory: Path) -> TeamProcess:
    """A process that serves the team, not started yet."""
    spec = {
        "format": "elf/v1",
        "name": "measured",
        "purpose": "To be measured.",
        "framework": program.adapter.name if program.adapter is not None else "",
        "members": [{"role": "lead", "is_manager": True}],
        "llm": {"provider": "compatible", "model": "scripted", "base_url": url, "timeout": "120s"},
        "runs": {"isolation": isolation},
    }
    environ = {
        "COMPATIBLE_API_KEY": "not-needed",
        "HOME": str(directory),
        "CREWAI_STORAGE_DIR": str(directory / "crewai"),
        "CREWAI_DISABLE_TELEMETRY": "true",
        "OTEL_SDK_DISABLED": "true",
    }
    return TeamProcess(write_team(program, spec, directory / "team"), directory, environ)


@asynccontextmanager
async def calling(process: TeamProcess) -> AsyncIterator[TeamClient]:
    """A client of the team."""
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(timeout=httpx.Timeout(120, read=None), limits=limits) as http:
        yield TeamClient(process.url, lambda: process.token("bench"), http, team=process.name)


async def run(client: TeamClient, text: str = "Hello") -> tuple[float, float]:
    """One run; seconds to its first word, and to its end."""
    begun, first, said = time.perf_counter(), 0.0, 0
    async with aclosing(client.send(text, message_id=uuid.uuid4().hex)) as updates:
        async for update in updates:
            if update.text_delta and not first:
                first = time.perf_counter() - begun
            said += len(update.text_delta)
    if not said:
        raise SystemExit("a run has said nothing")
    return first, time.perf_counter() - begun


async def watched(port: int, work: Callable[[], Awaitable[list[float]]]) -> Load:
    """Do it while the paths are asked."""
    probe = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.frameworks.probe", str(port), *PATHS),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**24,
    )
    await asyncio.sleep(1)  # it has begun
    begun = time.perf_counter()
    first = await work()
    seconds = time.perf_counter() - begun
    printed, _ = await probe.communicate(b"")  # which closes its input
    return Load(seconds, first, json.loads(printed))


async def served(process: TeamProcess, crews: int) -> Load:
    """All crews of a team at once."""

    async def work() -> list[float]:
        async with calling(process) as client:
            return [first for first, _ in await asyncio.gather(*(run(client) for _ in range(crews)))]

    return await watched(int(process.url.rpartition(":")[2]), work)


async def held_by(process: TeamProcess, crews: int) -> dict[str, Any]:
    """The memory of a team before, and while all crews speak. Their runs end with the process."""
    idle = memory(process.pid)
    async with calling(process) as client:
        runs = [asyncio.create_task(run(client, LONG)) for _ in range(crews)]
        until = time.perf_counter() + BEGUN
        while len(processes(process.pid)[1]) < crews and time.perf_counter() < until:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.2)
        await asyncio.wait(runs, timeout=SPOKEN)
        busy = await asyncio.to_thread(memory, process.pid)
        for task in runs:
            task.cancel()
        await asyncio.wait(runs)
    return {"idle": idle, "busy": busy}


@contextmanager
def reference(url: str, directory: Path) -> Iterator[int]:
    """The port of a plain server with a crew in its loop."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    environ = {**os.environ, "HOME": str(directory), "CREWAI_DISABLE_TELEMETRY": "true", "OTEL_SDK_DISABLED": "true"}
    command = [sys.executable, "-m", "benchmarks.frameworks.reference", str(port), url]
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + 120
            while not answers(port, "/livez"):
                if process.poll() is not None or time.monotonic() > until:
                    raise SystemExit("the plain server did not get ready")
                time.sleep(0.1)
            yield port
        finally:
            process.kill()


async def kicked_off(port: int, crews: int) -> Load:
    """All crews of the plain server at once."""

    async def work() -> list[float]:
        async with httpx.AsyncClient(timeout=300, limits=httpx.Limits(max_connections=200)) as client:
            url = f"http://127.0.0.1:{port}/run"
            answers = await asyncio.gather(*(client.post(url, content="Hello") for _ in range(crews)))
            for answer in answers:
                answer.raise_for_status()
            return []

    return await watched(port, work)


def memory(pid: int) -> dict[str, Any]:
    """Of a team's processes."""
    fork, workers = processes(pid)
    found = [each for each in map(memory_of, workers) if each is not None]
    middle = (
        Memory(*(statistics.median(getattr(each, name) for each in found) for name in ("rss", "pss", "private")))
        if found
        else None
    )
    server, forked = memory_of(pid), memory_of(fork) if fork else None
    total = sum(each.pss for each in (server, forked, *found) if each is not None)
    return {
        "server": asdict(server) if server else None,
        "fork_server": asdict(forked) if forked else None,
        "workers": len(found),
        "worker": asdict(middle) if middle else None,
        "pss_of_all": total,
    }


async def settled(process: TeamProcess) -> float:
    """Wait until the workers can be forked; seconds."""
    begun = time.perf_counter()
    async with httpx.AsyncClient() as client:
        while "loading" in (await client.get(f"{process.url}/health")).text:
            if time.perf_counter() > begun + 120:
                raise SystemExit("the team's code is not loaded within two minutes")
            await asyncio.sleep(0.05)
    return time.perf_counter() - begun


async def measure_start(name: str, url: str, directory: Path, runs: int) -> dict[str, Any]:
    """How soon the first run of a team begins, and the next ones, one after the other; and what the team holds."""
    program, isolation = TEAMS[name]
    process = team(program, isolation, url, directory)
    try:
        process.start()
        async with calling(process) as client:
            cold = await run(client)
            warm = [await run(client) for _ in range(runs)]
            fork, _ = processes(process.pid)
            row = {
                "team": name,
                "cold_first_s": cold[0],
                "warm_first_s": statistics.median(first for first, _ in warm),
                "warm_end_s": statistics.median(end for _, end in warm),
                "load_cpu_s": cpu_seconds(fork) if fork else None,
                "idle": memory(process.pid),
            }
            if program is not PlainTeam:
                # It ends with the process.
                task = asyncio.create_task(run(client, LONG))
                await asyncio.wait({task}, timeout=SPOKEN)
                row["busy"] = memory(process.pid)
                task.cancel()
                await asyncio.wait({task})
    finally:
        process.close()
    return row


async def measure_load(url: str, directory: Path, crews: int, rounds: int) -> tuple[dict[str, Load], dict[str, Any]]:
    """Both servers in turn; all rounds of each as one. And what a team holds."""
    process = team(CrewTeam, "process", url, directory)
    found: dict[str, list[Load]] = {"elf serve": [], "kickoff_async": []}
    process.start()
    try:
        print(f"loaded {await settled(process):.1f} s after it was ready", file=sys.stderr)
        async with calling(process) as client:
            await run(client)
        with reference(url, directory) as port:
            await kicked_off(port, 1)
            for number in range(rounds):
                print(f"round {number + 1}/{rounds} …", file=sys.stderr)
                found["elf serve"].append(await served(process, crews))
                found["kickoff_async"].append(await kicked_off(port, crews))
        held = await held_by(process, crews)
    finally:
        process.close()
    joined = {
        name: Load(
            statistics.median(load.seconds for load in loads),
            [first for load in loads for first in load.first],
            {path: [seconds for load in loads for seconds in load.asked[path]] for path in PATHS},
        )
        for name, loads in found.items()
    }
    return joined, held


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """In milliseconds."""
    ordered = sorted(values)
    return {
        "p50_ms": statistics.median(ordered) * 1000,
        "p99_ms": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000,
        "max_ms": ordered[-1] * 1000,
        "asked": len(ordered),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--crews", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result: dict[str, Any] = {"cpus": os.cpu_count(), "load": os.getloadavg(), "crews": options.crews}
    with tempfile.TemporaryDirectory(prefix="elf-bench-") as temporary:
        directory = Path(temporary)
        with model(directory) as url:
            loads, held = asyncio.run(measure_load(url, directory / "load", options.crews, options.rounds))
            title = f"{options.crews} crews at once"
            print(f"{title:<26}{'seconds':>9}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}{'asked':>7}")
            for name, load in loads.items():
                for path in PATHS:
                    row = percentiles(load.asked[path])
                    result.setdefault("health", []).append({"server": name, "path": path, "s": load.seconds, **row})
                    print(
                        f"{name + ' ' + path:<26}{load.seconds:>9.1f}{row['p50_ms']:>9.1f}{row['p99_ms']:>9.1f}"
                        f"{row['max_ms']:>9.1f}{row['asked']:>7}"
                    )
            first = percentiles(loads["elf serve"].first)
            print(f"first word of each crew: p50 {first['p50_ms']:.0f} ms, p99 {first['p99_ms']:.0f} ms")
            result |= {"first_word": first, "memory": held}
            print_memory(held)
            print(
                f"\n{'one run after the other':<26}{'cold first ms':>14}{'warm first ms':>14}{'warm end ms':>12}"
                f"{'load CPU s':>11}{'idle PSS MB':>12}{'of a run':>9}"
            )
            for name in TEAMS:
                one = asyncio.run(measure_start(name, url, directory / name.replace(" ", "-"), options.runs))
                result.setdefault("start", []).append(one)
                figures = (1000 * one[key] for key in ("cold_first_s", "warm_first_s", "warm_end_s"))
                loading = "" if one["load_cpu_s"] is None else f"{one['load_cpu_s']:.1f}"
                worker = one.get("busy", {}).get("worker")
                alone = "" if worker is None else f"{worker['private']:.0f}"
                print(
                    f"{name:<26}{next(figures):>14.0f}{next(figures):>14.0f}{next(figures):>12.0f}"
                    f"{loading:>11}{one['idle']['pss_of_all']:>12.0f}{alone:>9}"
                )
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def print_memory(held: Mapping[str, Any]) -> None:
    """A team's processes, idle and at work."""
    print(f"\n{'memory, MB':<26}{'RSS':>8}{'PSS':>8}{'alone':>8}")
    for state, found in held.items():
        if not found:
            continue
        for name in ("server", "fork_server", "worker"):
            if each := found[name]:
                print(f"{state + ': ' + name:<26}{each['rss']:>8.0f}{each['pss']:>8.0f}{each['private']:>8.0f}")
        print(f"{state + ': all, ' + str(found['workers']) + ' workers':<34}{found['pss_of_all']:>8.0f}")


if __name__ == "__main__":
    main()
