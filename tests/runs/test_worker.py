"""Runs in processes of their own: what they give, and that they are gone."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from elf_sdk.runs.adapter import RunError, TurnMessage
from elf_sdk.runs.current import current_run
from elf_sdk.runs.worker import Isolated, Origin
from elf_sdk.server.logs import protect_logs
from tests.runs import blocking_team
from tests.runs.processes import alive, asked, began, gone, parent, said

# Named only: here it would leave its thread behind.
THREADED = "tests.runs.threaded_team"


@asynccontextmanager
async def isolated(name: str, module: str = blocking_team.__name__) -> AsyncGenerator[Isolated, None]:
    """An adapter of `blocking_team` in processes of its own, and a look afterwards that nothing is left of them."""
    threads, descriptors = threading.active_count(), _descriptors()
    adapter = Isolated("function", blocking_team.BLOCKING, Origin.at(module, name))
    try:
        yield adapter
    finally:
        await adapter.close()
    assert _descriptors() == descriptors
    assert threading.active_count() <= threads
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_each_run_is_a_process(tmp_path: Path) -> None:
    async with isolated("ECHO") as adapter:
        assert (adapter.capabilities.cancel, adapter.capabilities.blocking) == ("certain", False)
        answers = await asyncio.gather(*(said(adapter, asked(f"user {number}")) for number in range(10)))
        assert [answer.partition(":")[2] for answer in answers] == [f"user {number}" for number in range(10)]
        pids = {int(answer.partition(":")[0]) for answer in answers}
        assert len(pids | {os.getpid()}) == 11
        await gone(*pids)


async def test_a_context_does_there_what_it_does_here() -> None:
    async with isolated("REMEMBERING") as adapter:
        answer = await said(adapter, asked(history=(TurnMessage("user", "earlier"),)))
    assert answer.startswith("ada {'q': 'yes'} ['earlier'] {'a/1': 600000}")
    assert answer.count("x") == 100_000


async def test_what_was_kept_comes_back_however_much_it_is() -> None:
    async with isolated("HOARDING") as adapter:
        assert await said(adapter, asked()) == "1003 45005000"


async def test_closing_ends_what_blocks_and_all_that_it_started(tmp_path: Path) -> None:
    async with isolated("SLEEPS") as adapter:
        run = asyncio.create_task(said(adapter, asked(str(tmp_path / "pids"))))
        pids = await began(tmp_path / "pids")
        begun = time.monotonic()
        run.cancel()
        await asyncio.wait({run})
        assert run.cancelled()
        assert not any(alive(pid) for pid in pids)
        assert time.monotonic() - begun < 2


@pytest.mark.parametrize(
    ("name", "sentence", "code"),
    [
        ("EXITS", r"ended its process with exit code 3 \(blocking_team\.py, line \d+\)", "team"),
        ("EXITS_POLITELY", r"ended its process with exit code enough \(blocking_team\.py, line \d+\)", "team"),
        ("CRASHES", r"crashed its process \(SIGSEGV\) at blocking_team\.py, line \d+", "team"),
        ("RAISES", r"raised KeyError: 'price' \(blocking_team\.py, line \d+\)", "team"),
        ("KILLS_ITSELF", r"was killed \(SIGKILL.*\); send it again", "interrupted"),
        ("SPEAKS_GARBAGE", "wrote what is no message", "team"),
        ("CLOSES_EVERYTHING", "closed its line to the server", "team"),
    ],
)
async def test_whatever_happens_to_the_process_is_one_sentence(name: str, sentence: str, code: str) -> None:
    async with isolated(name) as adapter:
        for _ in range(2):
            with pytest.raises(RunError, match=sentence) as raised:
                await said(adapter, asked())
            assert (raised.value.code, raised.value.retryable) == (code, code == "interrupted")
            assert "\n" not in str(raised.value)


async def test_what_forks_answers_once() -> None:
    async with isolated("FORKS") as adapter:
        assert (await said(adapter, asked())).partition(":")[2] == "parent"


async def test_standard_input_is_empty() -> None:
    async with isolated("READS") as adapter:
        assert (await said(adapter, asked())).partition(":")[2] == "''"


async def test_what_is_printed_and_logged_becomes_the_servers_log(caplog: pytest.LogCaptureFixture) -> None:
    protect_logs(["hunter22secret"])
    caplog.set_level(logging.INFO)
    current_run.set("r1")
    async with isolated("PRINTS") as adapter:
        await said(adapter, asked())
    team = [record for record in caplog.records if getattr(record, "run_id", "") == "r1"]
    lines = [(record.name, record.levelname, record.getMessage()) for record in team]
    assert ("elf.team", "INFO", "printed") in lines
    assert ("elf.team", "INFO", f"{'y' * 2000} …") in lines
    assert ("elf.team", "INFO", "from a subprocess") in lines
    assert ("my.tools", "WARNING", "logged with password=[redacted]") in lines


async def test_a_traceback_in_a_worker_is_one_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with isolated("RAISES") as adapter:
        with pytest.raises(RunError):
            await said(adapter, asked())
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_text is not None
    assert "KeyError: 'price'" in record.exc_text


async def test_who_prints_without_end_is_not_listened_to_without_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with isolated("FLOODS") as adapter:
        run = asyncio.create_task(said(adapter, asked()))
        longest = 0.0
        while not run.done():
            before = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - before)
        assert (await run).endswith(":done")
    lines = [record.getMessage() for record in caplog.records if record.name == "elf.team"]
    assert len(lines) < 5_000
    assert any("lines more were printed than the 200 in a second that are written" in line for line in lines)
    assert longest < 1


async def test_what_leaves_its_process_group_is_ended_too() -> None:
    async with isolated("LEAVES_ITS_GROUP") as adapter:
        await gone(int((await said(adapter, asked())).partition(":")[2]))


async def test_where_it_stands_is_known_though_nothing_moves(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with isolated("SPINS") as adapter:
        context = asked()
        events = adapter.run(context)
        async with aclosing(events):
            await anext(events)
            reading = asyncio.create_task(anext(events))
            await asyncio.sleep(0.2)
            assert (await context.whereabouts.place()).startswith("blocking_team.py, line ")
            reading.cancel()
            await asyncio.wait({reading})
        assert await context.whereabouts.place() == ""
    assert "does not stop at blocking_team.py, line " in caplog.text


async def test_a_system_without_room_refuses_the_run_and_not_the_next() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with isolated("ECHO") as adapter:
        os.close(free := os.dup(0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 3, hard))
        try:
            adapter.open()
            with pytest.raises(RunError, match="no process can be started for the run: Too many open files") as raised:
                await said(adapter, asked())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert raised.value.retryable
        assert (await said(adapter, asked("again"))).endswith(":again")


async def test_a_fork_server_that_is_killed_fails_its_runs_and_comes_back(tmp_path: Path) -> None:
    async with isolated("SLEEPS") as adapter:
        run = asyncio.create_task(said(adapter, asked(str(tmp_path / "one"))))
        pids = await began(tmp_path / "one")
        os.kill(parent(pids[0]), signal.SIGKILL)
        with pytest.raises(RunError, match=r"workers come from has ended.*send it again") as raised:
            await run
        assert (raised.value.code, raised.value.retryable) == ("interrupted", True)
        await gone(*pids)
        run = asyncio.create_task(said(adapter, asked(str(tmp_path / "two"))))
        pids = await began(tmp_path / "two")
        run.cancel()
        await asyncio.wait({run})
        await gone(*pids)


async def test_all_workers_are_ended_from_another_thread_while_the_loop_stands_still(tmp_path: Path) -> None:
    async with isolated("SLEEPS") as adapter:
        runs = [asyncio.create_task(said(adapter, asked(str(tmp_path / str(number))))) for number in range(3)]
        pids = [pid for number in range(3) for pid in await began(tmp_path / str(number))]
        left: list[bool] = []

        def end() -> None:
            adapter.end_all()
            left.extend(alive(pid) for pid in pids)

        thread = threading.Thread(target=end)
        thread.start()
        thread.join(10)  # in the loop's own thread
        assert left == [False] * 6
        for run in runs:
            with pytest.raises(RunError, match="was killed"):
                await run


@pytest.mark.parametrize(
    ("module", "name", "why"),
    [
        (THREADED, "LOCKS", "1 thread was started while the team was loaded"),
        ("tests.runs.connected_team", "ECHO", "a connection was opened while the team was loaded"),
    ],
)
async def test_where_a_fork_is_not_sound_each_run_has_a_fresh_process(module: str, name: str, why: str) -> None:
    async with isolated(name, module) as adapter:
        answers = [await said(adapter, asked(f"user {number}")) for number in range(3)]
        assert [answer.partition(":")[2] for answer in answers] == ["user 0", "user 1", "user 2"]
        assert len({answer.partition(":")[0] for answer in answers}) == 3
        assert adapter.state == f"fresh processes ({why})"
        both = await asyncio.gather(said(adapter, asked("a")), said(adapter, asked("b")))
        assert [answer.partition(":")[2] for answer in both] == ["a", "b"]


async def test_a_fresh_process_is_ended_like_a_forked_one(tmp_path: Path) -> None:
    async with isolated("SLEEPS", THREADED) as adapter:
        run = asyncio.create_task(said(adapter, asked(str(tmp_path / "pids"))))
        pids = await began(tmp_path / "pids")
        run.cancel()
        await asyncio.wait({run})
        assert not any(alive(pid) for pid in pids)


async def test_a_team_that_cannot_be_loaded_fails_its_runs_with_file_and_line() -> None:
    async with isolated("ECHO", "tests.runs.broken_team") as adapter:
        adapter.open()
        for _ in range(2):
            with pytest.raises(RunError, match=r"cannot be loaded.*KeyError: 'price' \(broken_team\.py, line \d+\)"):
                await said(adapter, asked())


async def test_closing_while_the_team_is_loaded() -> None:
    async with isolated("ECHO") as adapter:
        run = asyncio.create_task(said(adapter, asked()))
        await asyncio.sleep(0.05)
        run.cancel()
        await asyncio.wait({run})
        assert run.cancelled()


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a number is wanted
