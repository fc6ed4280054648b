"""A2A over HTTP: ELF beside bare Starlette and beside the SDK's own default handler.

    PYTHONPATH=. python benchmarks/a2a_send.py [--seconds 3] [--rounds 3] [--connections 16] [--json FILE] [--profile]

One uvicorn (uvloop, httptools) at a time, pinned to one core, the load on another, in alternating rounds; the tables
show medians. The first is SendMessage at a number of connections, with the server's CPU time a request. The second is
a stream of five events, one request after the other: when the first event is there, and when the last. ELF is measured
with authentication, metrics and request ids on, the volatile log, so without a commit, and the garbage collection that
`serve` sets. The load generator is raw sockets on asyncio; what it can do at most is the first row, a server that
answers without reading.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import os
import pstats
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import uvicorn
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_jsonrpc_routes, create_rest_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import AgentCard, Part, Task, TaskState, TaskStatus
from google.protobuf.json_format import ParseDict
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from elf_sdk.models.llm import Endpoint
from elf_sdk.runs.adapter import AdapterCapabilities, RunContext
from elf_sdk.runs.engine import Engine
from elf_sdk.runs.events import Event, TextDelta
from elf_sdk.runs.memory import MemoryLog
from elf_sdk.server.a2a.card import A2A_PATH, agent_card
from elf_sdk.server.a2a.routes import a2a_routes
from elf_sdk.server.auth import Issuer, Principal, Verifier, bearer_token
from elf_sdk.server.listen import calm_garbage_collection
from elf_sdk.server.metrics.process import Metrics
from elf_sdk.server.requests import IdentifiedRequests
from elf_sdk.team.spec import TeamSpec
from elf_sdk.team.work import Member, Runs

STREAM_PATH = f"{A2A_PATH}/message:stream"
SECRET = "only-for-this-benchmark-" + "x" * 16
SPEC = TeamSpec(name="echo", members=(Member(role="echo", is_manager=True),), runs=Runs(concurrency=1000, queue=10_000))


class Echo:
    """The adapter with the least to do."""

    name = "echo"
    capabilities = AdapterCapabilities(stream=True, human=False, cancel="certain", recover=False)

    async def run(self, ctx: RunContext) -> AsyncGenerator[Event, None]:
        """Yield the text."""
        yield TextDelta(ctx.text)


class EchoExecutor(AgentExecutor):
    """The same for the SDK's default handler."""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Answer with the text."""
        assert context.task_id is not None
        assert context.context_id is not None
        assert context.message is not None
        status = TaskStatus(state=TaskState.TASK_STATE_SUBMITTED)
        await event_queue.enqueue_event(
            Task(id=context.task_id, context_id=context.context_id, status=status, history=[context.message])
        )
        updater = TaskUpdater(event_queue, context.task_id, context.context_id)
        await updater.start_work()
        await updater.add_artifact([Part(text=context.get_user_input())])
        await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Nothing runs long enough."""


async def fixed(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The least that an ASGI application can do."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})


def bare() -> Starlette:
    async def echo(request: Request) -> JSONResponse:
        return JSONResponse(await request.json())

    async def stream(request: Request) -> StreamingResponse:
        await request.body()

        async def events() -> AsyncGenerator[bytes, None]:
            for _ in range(5):
                yield b'data: {"text":"hello"}\r\n\r\n'
                await asyncio.sleep(0)

        return StreamingResponse(events(), media_type="text/event-stream")

    return Starlette(routes=[Route(A2A_PATH, echo, methods=["POST"]), Route(STREAM_PATH, stream, methods=["POST"])])


def elf() -> ASGIApp:
    metrics = Metrics().team(SPEC.name)
    engine = Engine(SPEC, Echo(), MemoryLog(), Endpoint("offline", "none", "http://127.0.0.1:9", ""), observer=metrics)
    verifier = Verifier(SECRET, "bench", "dev", SPEC.name)

    async def authenticate(request: Request) -> Principal:
        return await verifier.identify(bearer_token(request.headers.get("authorization")))

    routes = a2a_routes(engine, partial(agent_card, SPEC, Echo.capabilities), authenticate, metrics=metrics)
    app = IdentifiedRequests(Starlette(routes=routes), SPEC.name)
    app.metrics = metrics
    return app


def sdk() -> Starlette:
    card = agent_card(SPEC, Echo.capabilities, "http://127.0.0.1")
    handler = DefaultRequestHandler(
        agent_executor=EchoExecutor(),
        task_store=InMemoryTaskStore(),
        agent_card=ParseDict(card, AgentCard(), ignore_unknown_fields=True),
    )
    return Starlette(
        routes=[*create_jsonrpc_routes(handler, A2A_PATH), *create_rest_routes(handler, path_prefix=A2A_PATH)]
    )


SERVERS: dict[str, Callable[[], Any]] = {"fixed": lambda: fixed, "starlette": bare, "elf": elf, "a2a-sdk": sdk}
LABELS = {
    "fixed": "fixed answer (limit of server and load)",
    "starlette": "bare Starlette, JSON echo",
    "elf": "ELF, SendMessage, volatile log",
    "a2a-sdk": "a2a-sdk default handler",
}


class Round(NamedTuple):
    """What one round of SendMessage showed.

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


STREAMS = {
    "starlette": "bare Starlette, StreamingResponse",
    "elf": "ELF, SendStreamingMessage, volatile log",
    "a2a-sdk": "a2a-sdk default handler",
}


def serve(name: str, core: int, profile: str) -> None:
    """Run one server in this process until its standard input closes; prints the port."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    config = uvicorn.Config(
        SERVERS[name](), port=0, loop="uvloop", http="httptools", log_level="error", lifespan="off", access_log=False
    )
    server = uvicorn.Server(config)

    async def main() -> None:
        task = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        print(server.servers[0].sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        server.should_exit = True
        await task

    profiler = cProfile.Profile() if profile else None
    if name == "elf":
        calm_garbage_collection()
    run = partial(asyncio.Runner, loop_factory=config.get_loop_factory())
    with run() as runner:
        if profiler:
            profiler.enable()
        runner.run(main())
        if profiler:
            profiler.disable()
            profiler.dump_stats(profile)


async def load(port: int, connections: int, seconds: float) -> tuple[float, list[float]]:
    """Requests a second, and the latencies in seconds."""
    token = Issuer(SECRET, "bench", "dev").user_token("bench", SPEC.name)
    head = (
        f"POST {A2A_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nA2A-Version: 1.0\r\n"
        "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )
    latencies: list[float] = []
    stop = time.perf_counter() + seconds

    async def connection(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        count = 0
        while (start := time.perf_counter()) < stop:
            count += 1
            message = {"messageId": f"{start}-{number}-{count}", "role": "ROLE_USER", "parts": [{"text": "hello"}]}
            body = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message}})
            writer.write((head % len(body)).encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200"), answer
            length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            content = await reader.readexactly(length)
            assert b'"error"' not in content, content
            latencies.append(time.perf_counter() - start)
        writer.close()
        await writer.wait_closed()

    start = time.perf_counter()
    await asyncio.gather(*(connection(number) for number in range(connections)))
    return len(latencies) / (time.perf_counter() - start), latencies


async def stream_load(port: int, seconds: float) -> tuple[float, float]:
    """Medians of the seconds until a stream's first event and until its last, at one connection."""
    token = Issuer(SECRET, "bench", "dev").user_token("bench", SPEC.name)
    head = (
        f"POST {STREAM_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nA2A-Version: 1.0\r\n"
        "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    firsts: list[float] = []
    lasts: list[float] = []
    stop = time.perf_counter() + seconds
    while (start := time.perf_counter()) < stop:
        message = {"messageId": f"{start}", "role": "ROLE_USER", "parts": [{"text": "hello"}]}
        body = orjson.dumps({"message": message})
        writer.write((head % len(body)).encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200"), answer
        await reader.readuntil(b"data: ")
        firsts.append(time.perf_counter() - start)
        rest = await reader.readuntil(b"\r\n0\r\n\r\n")
        lasts.append(time.perf_counter() - start)
        assert rest.count(b"data: ") >= 3, rest  # the SDK says in four events what takes ELF five
    writer.close()
    await writer.wait_closed()
    return statistics.median(firsts), statistics.median(lasts)


@contextmanager
def served(name: str, core: int, profile: str = "") -> Iterator[tuple[int, int]]:
    """Port and process id of a server, for as long as the block runs."""
    command = [sys.executable, __file__, "--serve", name, "--core", str(core), "--save-profile", profile]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        yield int(server.stdout.readline()), server.pid
        server.stdin.close()
        server.wait(20)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far; not a number where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(name: str, core: int, connections: int, seconds: float, profile: str = "") -> Round:
    """One round of SendMessage."""
    import uvloop

    with (
        served(name, core, profile) as (port, pid),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(load(port, connections, min(seconds, 0.5)))
        before, own, start = cpu_seconds(pid), time.process_time(), time.perf_counter()
        rate, latencies = runner.run(load(port, connections, seconds))
        busy = (time.process_time() - own) / (time.perf_counter() - start)
        cpu = (cpu_seconds(pid) - before) / len(latencies)
    return Round(rate, statistics.median(latencies) * 1000, cpu * 1e6, busy)


def measure_stream(name: str, core: int, seconds: float) -> tuple[float, float]:
    """One round of streams: milliseconds to the first event and to the last."""
    import uvloop

    with served(name, core) as (port, _), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(stream_load(port, min(seconds, 0.3)))
        first, last = runner.run(stream_load(port, seconds))
    return first * 1000, last * 1000


def top(profile: str, count: int = 12) -> list[tuple[str, float]]:
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
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--profile", action="store_true", help="one more round of ELF under cProfile")
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--save-profile", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    if options.serve:
        serve(options.serve, options.core, options.save_profile)
        return
    if hasattr(os, "sched_setaffinity") and len(cores) > 1:
        os.sched_setaffinity(0, {cores[-1]})
    rounds: dict[str, list[Round]] = {name: [] for name in SERVERS}
    streams: dict[str, list[tuple[float, float]]] = {name: [] for name in ("starlette", "elf", "a2a-sdk")}
    for number in range(options.rounds):
        for name in SERVERS:
            print(f"round {number + 1}/{options.rounds}: {LABELS[name]} …", file=sys.stderr)
            rounds[name].append(measure(name, cores[0], options.connections, options.seconds))
        for name in streams:
            streams[name].append(measure_stream(name, cores[0], options.seconds / 2))
    middle = {name: Round(*map(statistics.median, zip(*results, strict=True))) for name, results in rounds.items()}
    bare = middle["starlette"]
    print(f"{'SendMessage':<42}{'req/s':>9}{'of bare':>9}{'p50 ms':>9}{'CPU µs':>9}{'of bare':>9}{'load core':>11}")
    for name, row in middle.items():
        note = "  load is the limit" if row.busy > 0.9 else ""
        print(
            f"{LABELS[name]:<42}{row.rate:>9,.0f}{row.rate / bare.rate:>9.2f}{row.latency:>9.2f}{row.cpu:>9.0f}"
            f"{row.cpu / bare.cpu:>9.2f}{row.busy:>10.0%}{note}"
        )
    waits = {name: tuple(map(statistics.median, zip(*results, strict=True))) for name, results in streams.items()}
    print(f"\n{'stream of five events, one connection':<42}{'first ms':>9}{'of bare':>9}{'last ms':>9}")
    for name, (first, last) in waits.items():
        print(f"{STREAMS[name]:<42}{first:>9.2f}{first / waits['starlette'][0]:>9.2f}{last:>9.2f}")
    figures = {
        "send": {name: {**row._asdict(), "rounds": rounds[name]} for name, row in middle.items()},
        "stream_ms": waits,
    }
    profile: list[tuple[str, float]] = []
    if options.profile:
        saved = Path(f"/tmp/elf-a2a-{os.getpid()}.prof")  # noqa: S108 - removed right below
        measure("elf", cores[0], options.connections, options.seconds, str(saved))
        profile = top(str(saved))
        saved.unlink()
        print("\nELF by function's own time (cProfile, which doubles small calls):")
        for function, share in profile:
            print(f"{share:>7.1%}  {function}")
    if options.json:
        options.json.write_text(json.dumps({"a2a": figures, "profile": profile}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
