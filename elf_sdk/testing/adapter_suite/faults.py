"""What becomes of a run when its process dies, or the server's."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from elf_sdk.models.offline import OfflineModel
from elf_sdk.runs.events import Failed, Finished, is_terminal
from elf_sdk.runs.run import RunState
from elf_sdk.server.remote import RemoteTask
from elf_sdk.testing.adapter_suite.contract import PAINTING, TWO_STEPS
from elf_sdk.testing.adapter_suite.service import use
from elf_sdk.testing.adapter_suite.setting import (
    Servers,
    Setting,
    ask,
    asynchronous,
    begin,
    calling,
    isolated,
    script,
    until,
)
from elf_sdk.testing.process import TeamProcess, alive, family
from elf_sdk.testing.tools import request

__all__ = ["Faults"]

_TAKEN_UP: float = 60
"""Seconds until a run that was cut off has gone on or ended; a lease is four."""


class Faults(Setting):
    """Kills real processes, and starts the server again on the same database."""

    @asynchronous
    async def test_a_question_survives_a_restart(self, servers: Servers, database: str, model: OfflineModel) -> None:
        """Asked by one process, which is killed; answered to another."""
        program = self.claimed(self.asking, "human")
        script(model, *PAINTING)
        process = servers.made(program, database, model)
        try:
            process.start()
            async with calling(process) as client:
                task = await ask(client, "Please paint it.")
            assert (task.state, "colour" in task.message) == (RunState.INPUT_REQUIRED, True), task
            process.kill()
            process.start()
            async with calling(process) as client:
                task = await ask(client, "blue", task_id=task.task_id)
            assert task.state is RunState.FINISHED, task
            assert "Painted blue" in task.text
            assert [event for event in process.events(task.task_id) if is_terminal(event)] == [Finished()]
        finally:
            process.close()

    @asynchronous
    async def test_a_killed_server_is_recovered_from_or_fails_cleanly(
        self, servers: Servers, one_database: str, model: OfflineModel
    ) -> None:
        """As its capabilities say: without what was done, or as interrupted, which the caller may send again."""
        recovers = self.adapter_of(self.recovering or self.agent).capabilities.recover
        program = self.claimed(self.recovering, "recover") if recovers else self.agent
        script(model, *(TWO_STEPS if recovers else _HANGING))
        process = servers.made(program, one_database, model)
        try:
            process.start()
            async with calling(process) as client, begin(client, "Do both.") as (task_id, _):
                await until(lambda: _hangs(model), 30)
                await asyncio.sleep(0.3)
                workers = family(process.pid)
                process.kill()
                await until(lambda: not alive(workers), 5)
                await until(lambda: model.requests[-1].outcome == "gone", 5)
            process.start()
            task = await _ended(process, task_id)
            if recovers:
                assert task.state is RunState.FINISHED, task
                assert task.text.strip().endswith("Both are done.")
                assert task.text.count("Both") == 1
                assert sum("You are the first." in str(each.body["messages"]) for each in model.requests) == 1
            else:
                assert (task.state, task.code, task.retryable) == (RunState.FAILED, "interrupted", True)
                async with calling(process) as client:
                    assert (await ask(client, "Hello")).text.strip() == "Here I am."
        finally:
            process.close()

    @asynchronous
    async def test_killed_at_any_moment_runs_go_on_or_fail_cleanly(self, servers: Servers, model: OfflineModel) -> None:
        """SIGKILL of the server in the middle of five runs, which began at random moments."""
        recovers = self.adapter_of(self.recovering or self.agent).capabilities.recover
        program = self.claimed(self.recovering, "recover") if recovers else self.agent
        script(model, *(_SLOW_STEPS if recovers else _SLOW))
        process = servers.made(program, "sqlite", model)
        try:
            process.start()
            async with self._begun(process) as task_ids:
                process.kill()
            process.start()
            for task_id in task_ids:
                task = await _ended(process, task_id)
                if recovers or task.state is RunState.FINISHED:
                    assert (task.state, task.text.count("Both are all done now.")) == (RunState.FINISHED, 1), task
                else:
                    assert (task.state, task.code, task.retryable) == (RunState.FAILED, "interrupted", True), task
        finally:
            process.close()

    @asynchronous
    async def test_a_worker_killed_at_any_moment_hurts_nobody_else(self, servers: Servers) -> None:
        """SIGKILL of any process below the server in the middle of five runs; each ends, and the next one works."""
        process, model = servers.running(self.agent, "sqlite")
        script(model, *_SLOW)
        async with calling(process) as client:
            await ask(client, "Hello")  # what is started with the first run is there
            async with self._begun(process) as task_ids:
                for pid in random.sample(below := sorted(alive(family(process.pid))), k=min(1, len(below))):
                    os.kill(pid, signal.SIGKILL)
                for task_id in task_ids:
                    task = await _ended(process, task_id)
                    assert task.state in (RunState.FINISHED, RunState.FAILED), task
                    assert "\n" not in task.message
            after = await ask(client, "Hello")
        assert (after.state, after.text.strip()) == (RunState.FINISHED, "Here I am."), after

    @asynccontextmanager
    async def _begun(self, process: TeamProcess) -> AsyncGenerator[list[str], None]:
        """Five runs, each of some two seconds, that began at random moments of the last two."""
        seed = random.SystemRandom().randrange(2**32) if self.seed is None else self.seed
        print(f"to repeat the random moments: seed = {seed}")  # noqa: T201
        random.seed(seed)
        moments = sorted(random.uniform(0, 2) for _ in range(5))
        async with AsyncExitStack() as stack:
            client, begun = await stack.enter_async_context(calling(process)), time.monotonic()
            task_ids = []
            for moment in moments:
                await asyncio.sleep(moment - (time.monotonic() - begun))
                task_id, _ = await stack.enter_async_context(begin(client, "Do both."))
                task_ids.append(task_id)
            yield task_ids

    @asynchronous
    async def test_a_killed_worker_is_one_failed_run(self, servers: Servers, tmp_path: Path) -> None:
        """The server lives, and the next run works."""
        self.has("beat")
        process, model = servers.running(self.agent, "sqlite")
        if not await isolated(process, model):
            pytest.skip("its work is not in a process of its own")
        beats = tmp_path / "beats"
        beats.touch()
        script(model, *use("beat", file=str(beats)), {"say": "Here I am."})
        async with calling(process) as client:
            async with begin(client, request("beat", file=str(beats))) as (task_id, _):
                await until(lambda: beats.stat().st_size > 0, 30)
                worker = int(beats.read_text(encoding="ascii").split()[0])
                os.kill(worker, signal.SIGKILL)
                task = await _rested(process, task_id)
            assert task.state is RunState.FAILED, task
            assert task.message
            assert "\n" not in task.message
            assert isinstance(process.events(task_id)[-1], Failed)
            assert (await ask(client, "Hello")).text.strip() == "Here I am."


_SLOW = (
    {"when": {"user": "Do both"}, "say": "Both are all done now.", "delay": "350ms"},
    {"say": "Here I am."},
)
_SLOW_STEPS = (
    {"when": {"system": "the first"}, "say": "Some notes.", "delay": "250ms"},
    {"when": {"system": "the second"}, "say": "Both are all done now.", "delay": "250ms"},
)
_HANGING = ({"say": "one two three", "fault": {"hang_after": 2, "times": 1}}, {"say": "Here I am."})


def _hangs(model: OfflineModel) -> bool:
    last = model.requests[-1] if model.requests else None
    return last is not None and last.reply.fault is not None and last.output_tokens == last.reply.fault.hang_after


async def _ended(process: TeamProcess, task_id: str) -> RemoteTask:
    """A run that has ended, once."""
    task = await _rested(process, task_id)
    events = process.events(task_id)
    assert [event for event in events if is_terminal(event)] == [events[-1]]
    return task


async def _rested(process: TeamProcess, task_id: str) -> RemoteTask:
    async with calling(process) as client, asyncio.timeout(_TAKEN_UP):
        while not (task := await client.get(task_id)).state.terminal:
            await asyncio.sleep(0.1)
    return task
