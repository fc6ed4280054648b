"""The servers: a whole team of ELF, and what it is measured against.

    python -m benchmarks.a2a.servers NAME [--core 0] [--profile FILE]

Serves until its standard input ends, and prints the port. Where runs are kept the environment says, as for any team:
`ELF_STORE`, `ELF_DATABASE_URL`. All of them do the same: they answer with the text that they get.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import os
import sys
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Any, Final

import uvicorn
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_jsonrpc_routes, create_rest_routes
from a2a.server.tasks import InMemoryTaskStore, TaskStore, TaskUpdater
from a2a.types import AgentCard, Part, Task, TaskState, TaskStatus
from google.protobuf.json_format import ParseDict
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from elf_sdk.runs.adapter import AdapterCapabilities, RunContext
from elf_sdk.runs.events import Event, TextDelta
from elf_sdk.server.a2a.card import A2A_PATH, agent_card
from elf_sdk.server.listen import calm_garbage_collection
from elf_sdk.server.team_server import TeamServer
from elf_sdk.team.spec import TeamSpec
from elf_sdk.team.work import Member, Runs

__all__ = ["SERVERS", "SPEC", "STREAM_PATH"]

STREAM_PATH: Final = f"{A2A_PATH}/message:stream"
SPEC: Final = TeamSpec(
    name="echo", members=(Member(role="echo", is_manager=True),), runs=Runs(concurrency=1000, queue=10_000)
)


class Echo(TeamServer):
    """The team with the least to do, and all that a team has: tokens, health, chat."""

    async def on_message(self, turn: RunContext) -> AsyncGenerator[Event, None]:
        """Yield the text."""
        yield TextDelta(turn.text)


class Slow(TeamServer):
    """Writes as many words as the message says, each after so many milliseconds as it says next."""

    async def on_message(self, turn: RunContext) -> AsyncGenerator[Event, None]:
        """Yield the words."""
        words, pause = map(int, turn.text.split())
        for number in range(words):
            yield TextDelta(f"{number} ")
            await asyncio.sleep(pause / 1000)


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


def sdk() -> Starlette:
    capabilities = AdapterCapabilities(stream=True, human=False, cancel="certain", recover=False)
    card = agent_card(SPEC, capabilities, "http://127.0.0.1")
    handler = DefaultRequestHandler(
        agent_executor=EchoExecutor(),
        task_store=_task_store(os.environ.get("ELF_DATABASE_URL", "")),
        agent_card=ParseDict(card, AgentCard(), ignore_unknown_fields=True),
    )
    return Starlette(
        routes=[*create_jsonrpc_routes(handler, A2A_PATH), *create_rest_routes(handler, path_prefix=A2A_PATH)]
    )


def _task_store(url: str) -> TaskStore:
    """The SDK's own store: on PostgreSQL with the driver that its extra `postgresql` brings, or in memory."""
    if not url:
        return InMemoryTaskStore()
    from a2a.server.tasks import DatabaseTaskStore
    from sqlalchemy.ext.asyncio import create_async_engine

    # A connection for each of the load's, so that nobody waits for one.
    engine = create_async_engine(url.replace("postgresql:", "postgresql+asyncpg:", 1), pool_size=32)
    return DatabaseTaskStore(engine)


SERVERS: Final[dict[str, Callable[[], Any]]] = {
    "fixed": lambda: fixed,
    "starlette": bare,
    "elf": lambda: Echo(SPEC),
    "elf-slow": lambda: Slow(SPEC),
    "a2a-sdk": sdk,
}


def serve(name: str, core: int, profile: str) -> None:
    """Run one server in this process until its standard input closes; prints the port."""
    if hasattr(os, "sched_setaffinity") and core >= 0:
        os.sched_setaffinity(0, {core})
    team = name.startswith("elf")
    config = uvicorn.Config(
        SERVERS[name](),
        port=0,
        loop="uvloop",
        http="httptools",
        log_level="error",
        lifespan="on" if team else "off",
        access_log=False,
        server_header=False,
    )
    server = uvicorn.Server(config)

    async def main() -> None:
        task = asyncio.create_task(server.serve())
        while not (server.started or task.done()):  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        if not server.started:
            return
        if team:
            calm_garbage_collection()
        print(server.servers[0].sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        server.should_exit = True
        await task

    profiler = cProfile.Profile() if profile else None
    run = partial(asyncio.Runner, loop_factory=config.get_loop_factory())
    with run() as runner:
        if profiler:
            profiler.enable()
        runner.run(main())
        if profiler:
            profiler.disable()
            profiler.dump_stats(profile)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("name", choices=SERVERS)
    parser.add_argument("--core", type=int, default=-1, help="to run on; any by default")
    parser.add_argument("--profile", default="", help="write what cProfile saw of the loop's thread here")
    options = parser.parse_args()
    serve(options.name, options.core, options.profile)


if __name__ == "__main__":
    main()
