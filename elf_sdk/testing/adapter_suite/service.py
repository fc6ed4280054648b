"""What the adapter keeps as a user sees it: through a whole server, over A2A."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from elf_sdk.runs.events import Cancelled, Failed, Finished, Started, is_terminal
from elf_sdk.runs.run import RunState
from elf_sdk.testing.adapter_suite.setting import (
    KEY,
    Servers,
    Setting,
    ask,
    asynchronous,
    begin,
    calling,
    counted,
    isolated,
    script,
    sockets,
    until,
    used,
)
from elf_sdk.testing.process import TeamProcess, family
from elf_sdk.testing.tools import request

__all__ = ["Service"]


class Service(Setting):
    """Runs the agent in a server that is a process of its own."""

    @asynchronous
    async def test_a_run_has_one_beginning_and_one_end(self, servers: Servers, database: str) -> None:
        """The log begins with the engine's word and ends with it; what was used is in it."""
        process, model = servers.running(self.agent, database)
        script(model, {"say": "Bicycles are fun."})
        async with calling(process) as client:
            task = await ask(client, "What is fun?")
        assert (task.state, task.text.strip()) == (RunState.FINISHED, "Bicycles are fun.")
        events = process.events(task.task_id)
        assert isinstance(events[0], Started)
        assert [event for event in events if is_terminal(event)] == [Finished()]
        assert events[-1] == Finished()
        assert used(events) == counted(model)
        assert model.requests[-1].key == KEY

    @asynchronous
    async def test_an_answer_is_streamed_and_its_cancel_closes_the_model(self, servers: Servers) -> None:
        """The words come while the model hangs; a second after the cancel its connection is closed."""
        process, model = servers.running(self.agent, "sqlite")
        script(model, {"say": "one two three four", "fault": {"hang_after": 3}})
        async with calling(process) as client, begin(client, "Count.") as (task_id, said):
            if self.adapter_of(self.agent).capabilities.stream:
                await until(lambda: "".join(said).strip() == "one two three", 20)
            await until(lambda: bool(model.requests) and model.requests[-1].output_tokens == 3, 20)
            task = await client.cancel(task_id)
            if self.closes or (await process.capabilities())["cancel"] == "certain":
                await until(lambda: model.requests[-1].outcome == "gone", 1)
            assert task.state is RunState.CANCELLED
            await asyncio.sleep(0.2)
        events = process.events(task_id)
        assert [event for event in events if is_terminal(event)] == [events[-1]]
        assert isinstance(events[-1], Cancelled)
        assert len(model.requests) == 1

    @asynchronous
    async def test_ten_users_at_once_never_mix(self, servers: Servers, database: str) -> None:
        """Each with a token of their own."""
        process, model = servers.running(self.agent, database)
        script(model, {"when": {"user": "marker-(?P<who>\\w+)"}, "say": "This is for ${who} only.", "delay": "5ms"})

        async def one(user: str) -> str:
            async with calling(process, user) as client:
                task = await ask(client, f"marker-{user}")
                return task.text.strip() or task.message

        users = [f"user{number}" for number in range(10)]
        assert await asyncio.gather(*map(one, users)) == [f"This is for {user} only." for user in users]

    @asynchronous
    async def test_the_models_error_reaches_the_caller_without_its_key(self, servers: Servers) -> None:
        """As a failed task, with code, and in the log without the key."""
        process, model = servers.running(self.agent, "sqlite")
        script(model, {"say": "one", "fault": {"status": 401, "message": f"Incorrect API key provided: {KEY}"}})
        async with calling(process) as client:
            task = await ask(client, "Hello")
        assert (task.state, task.code, task.retryable) == (RunState.FAILED, "model", False)
        assert task.message
        assert "\n" not in task.message
        assert KEY not in task.message
        assert KEY not in str(process.events(task.task_id))

    @asynchronous
    async def test_a_model_without_end_is_ended_by_the_deadline(self, servers: Servers) -> None:
        """The caller's deadline closes the adapter, and the server answers meanwhile."""
        process, model = servers.running(self.agent, "sqlite")
        script(model, {"when": {"user": "Go on"}, "say": "on and ", "delay": "1ms", "forever": True}, {"say": "Hello."})
        async with calling(process) as client:
            await ask(client, "Hello")  # what is loaded with the first run is loaded
            async with alert(process):
                task = await ask(client, "Go on.", deadline=4)
        if self.closes or (await process.capabilities())["cancel"] == "certain":
            await until(lambda: model.requests[-1].outcome == "gone", 1)
        assert (task.state, task.code) == (RunState.FAILED, "deadline")
        assert isinstance(process.events(task.task_id)[-1], Failed)

    @pytest.mark.parametrize("text", ["In the work.", "In the factory."])
    @asynchronous
    async def test_work_without_end_is_ended_by_the_deadline(self, servers: Servers, text: str) -> None:
        """Code that never gives way; the server answers meanwhile, and no process is left."""
        if self.endless is None:
            pytest.skip("there is no program that never ends")
        process, _ = servers.running(self.endless, "sqlite")
        async with calling(process) as client:
            before = len(family(process.pid))
            async with alert(process):
                task = await ask(client, text, deadline=4)
        assert (task.state, task.code) == (RunState.FAILED, "deadline")
        events = process.events(task.task_id)
        assert [event for event in events if is_terminal(event)] == [events[-1]]
        if self.isolation == "process":
            await until(lambda: len(family(process.pid)) <= max(before, 1), 10)

    @asynchronous
    async def test_a_cancel_stops_a_tool(self, servers: Servers, tmp_path: Path) -> None:
        """Where cancel is certain, a tool that works is dead two seconds after; elsewhere the caller is free."""
        self.has("beat")
        process, model = servers.running(self.agent, "sqlite")
        beats = tmp_path / "beats"
        beats.touch()
        script(model, *use("beat", file=str(beats)))
        try:
            async with calling(process) as client, begin(client, request("beat", file=str(beats))) as (task_id, _):
                async with alert(process):
                    await until(lambda: beats.stat().st_size > 0, 30)
                    await asyncio.sleep(1)
                    task = await client.cancel(task_id)
                assert task.state is RunState.CANCELLED
            claimed = (await process.capabilities())["cancel"]
            if claimed != "certain":
                pytest.skip(f"a tool may go on: capabilities.cancel is {claimed}")
            await asyncio.sleep(2)
            size = beats.stat().st_size
            await asyncio.sleep(0.5)
            assert beats.stat().st_size == size, "the tool goes on, although cancel is certain"
        finally:
            beats.unlink()

    @pytest.mark.parametrize(
        ("tool", "arguments"),
        [
            ("talk", {"text": "a word"}),
            ("listen", {"prompt": "a word"}),
            ("leave", {"code": 3}),
            ("vanish", {"code": 3}),
        ],
        ids=["prints", "reads the standard input", "exits", "ends the process"],
    )
    @asynchronous
    async def test_a_bad_tool_hurts_nobody_else(
        self, servers: Servers, tool: str, arguments: dict[str, str | int]
    ) -> None:
        """Its run ends, well or with a sentence; the server answers, and the next run works."""
        self.has(tool)
        process, model = servers.running(self.agent, "sqlite")
        if tool != "talk" and not await isolated(process, model):
            pytest.skip("its work is not in a process of its own")
        model.requests.clear()
        script(model, *use(tool, **arguments), {"say": "I am still here."})
        async with calling(process) as client:
            async with alert(process), asyncio.timeout(20):
                task = await ask(client, request(tool, **arguments))
            assert task.state.terminal
            assert "\n" not in task.message
            after = await ask(client, "And now?")
        assert (after.state, after.text.strip()) == (RunState.FINISHED, "I am still here.")

    @asynchronous
    async def test_a_process_that_a_tool_left_behind_is_ended(self, servers: Servers, tmp_path: Path) -> None:
        """At the latest five seconds after the run."""
        self.has("fork")
        process, model = servers.running(self.agent, "sqlite")
        if not await isolated(process, model):
            pytest.skip("its work is not in a process of its own")
        beats = tmp_path / "beats"
        beats.touch()
        script(model, *use("fork", file=str(beats)))
        try:
            async with calling(process) as client:
                await ask(client, request("fork", file=str(beats)))
            await asyncio.sleep(5)
            size = beats.stat().st_size
            await asyncio.sleep(0.5)
            assert beats.stat().st_size == size, "the process that the tool left behind goes on"
        finally:
            beats.unlink()

    @asynchronous
    async def test_runs_leave_no_process_and_no_socket_behind(self, servers: Servers) -> None:
        """After ten as many as after one."""
        process, model = servers.running(self.agent, "sqlite")
        script(model, {"say": "Bicycles are fun."})
        async with calling(process) as client:
            await ask(client, "Hello")
            await asyncio.sleep(1)
            before, sockets_before = len(family(process.pid)), sockets(process.pid)
            await asyncio.gather(*(ask(client, f"Hello {number}") for number in range(10)))
            await until(lambda: len(family(process.pid)) <= before, 10)
        await until(lambda: sockets(process.pid) <= sockets_before, 10)


def use(tool: str, **arguments: str | int) -> list[dict[str, object]]:
    """Rules of a model that uses a tool when it is told to, and then says so."""
    return [
        {"when": {"user": f"use {tool}"}, "call": {"tool": tool, "arguments": arguments}},
        {"when": {"after_tool": tool}, "say": "I used it."},
    ]


@asynccontextmanager
async def alert(process: TeamProcess) -> AsyncGenerator[None, None]:
    """Make sure that the server answers `/livez` within 100 ms in the block: by the median, because machines stall."""
    took: list[float] = []

    async def watch() -> None:
        async with httpx.AsyncClient(timeout=10) as client:
            await client.get(f"{process.url}/livez")  # the connection is made
            while True:
                begun = time.monotonic()
                assert (await client.get(f"{process.url}/livez")).status_code == 200
                took.append(time.monotonic() - begun)
                await asyncio.sleep(0.05)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        done = (await asyncio.gather(watching, return_exceptions=True))[0]
    if not isinstance(done, asyncio.CancelledError):
        raise AssertionError("the server did not answer /livez") from done
    assert not took or statistics.median(took) <= 0.1, f"/livez took {max(took):.2f} s"
