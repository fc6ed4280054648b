"""Runs in processes of their own: what they give, and that they are gone."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from elf_sdk.runs.adapter import RunContext, RunError, TurnMessage
from elf_sdk.runs.events import TextDelta
from elf_sdk.runs.worker import Isolated, Origin
from tests.runs import blocking_team
from tests.runs.support import ADA, ENDPOINT, team


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


def ctx(text: str = "hello", *, history: tuple[TurnMessage, ...] = ()) -> RunContext:
    async def earlier() -> tuple[TurnMessage, ...]:
        return history

    return RunContext(
        run_id="r1",
        spec=team(),
        owner=ADA,
        conversation="c1",
        text=text,
        endpoint=ENDPOINT,
        answers={"q": "yes"},
        history=earlier,
    )


async def said(adapter: Isolated, context: RunContext) -> str:
    return "".join([event.text async for event in adapter.run(context) if isinstance(event, TextDelta)])


async def began(path: Path) -> list[int]:
    """The processes that a function wrote to a file, once it has."""
    async with asyncio.timeout(20):
        while not (pids := _written(path)):  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.01)
    return pids


async def gone(*pids: int, within: float = 5) -> None:
    until = time.monotonic() + within
    while alive := [pid for pid in pids if _alive(pid)]:
        assert time.monotonic() < until, f"{alive} live on"
        await asyncio.sleep(0.01)


async def test_each_run_is_a_process(tmp_path: Path) -> None:
    async with isolated("ECHO") as adapter:
        assert (adapter.capabilities.cancel, adapter.capabilities.blocking) == ("certain", False)
        answers = await asyncio.gather(*(said(adapter, ctx(f"user {number}")) for number in range(10)))
        assert [answer.partition(":")[2] for answer in answers] == [f"user {number}" for number in range(10)]
        pids = {int(answer.partition(":")[0]) for answer in answers}
        assert len(pids | {os.getpid()}) == 11
        await gone(*pids)


async def test_a_context_does_there_what_it_does_here() -> None:
    async with isolated("REMEMBERING") as adapter:
        answer = await said(adapter, ctx(history=(TurnMessage("user", "earlier"),)))
    assert answer.startswith("ada {'q': 'yes'} ['earlier'] {'a/1': 600000}")
    assert answer.count("x") == 100_000


async def test_closing_ends_what_blocks_and_all_that_it_started(tmp_path: Path) -> None:
    async with isolated("SLEEPS") as adapter:
        run = asyncio.create_task(said(adapter, ctx(str(tmp_path / "pids"))))
        pids = await began(tmp_path / "pids")
        begun = time.monotonic()
        run.cancel()
        await asyncio.wait({run})
        assert run.cancelled()
        assert not any(_alive(pid) for pid in pids)
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
                await said(adapter, ctx())
            assert (raised.value.code, raised.value.retryable) == (code, code == "interrupted")
            assert "\n" not in str(raised.value)


def _written(path: Path) -> list[int]:
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a number is wanted


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False
