"""Runs in processes of their own, and the processes themselves, for tests of several areas."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from elf_sdk.runs.adapter import Adapter, RunContext, TurnMessage
from elf_sdk.runs.events import TextDelta
from tests.runs.support import ADA, ENDPOINT, team


def asked(text: str = "hello", *, history: tuple[TurnMessage, ...] = ()) -> RunContext:
    """A context with one answer in it."""

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


async def said(adapter: Adapter, context: RunContext) -> str:
    """The whole answer."""
    return "".join([event.text async for event in adapter.run(context) if isinstance(event, TextDelta)])


async def began(path: Path) -> list[int]:
    """The processes that a function wrote to a file, once it has."""
    async with asyncio.timeout(20):
        while not (pids := _written(path)):  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.01)
    return pids


def _written(path: Path) -> list[int]:
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


def alive(pid: int) -> bool:
    """Whether there is such a process, and not only its exit code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def parent(pid: int) -> int:
    """Of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])


def descendants(pid: int) -> list[int]:
    """All processes below this one."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            for child in (task / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def wait(condition: Callable[[], bool], within: float = 10) -> None:
    """Wait until it is so, in code that does not await."""
    until = time.monotonic() + within
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


async def gone(*pids: int, within: float = 5) -> None:
    """Wait until there are no such processes."""
    until = time.monotonic() + within
    while left := [pid for pid in pids if alive(pid)]:
        assert time.monotonic() < until, f"{left} live on"
        await asyncio.sleep(0.01)
