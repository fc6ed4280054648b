from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from elf_sdk.runs.durable import DurableLog
from elf_sdk.runs.engine import Engine
from elf_sdk.runs.log import RunLog
from elf_sdk.runs.memory import MemoryLog
from elf_sdk.store import Store, store_at
from tests.runs.support import ENDPOINT, Script, Scripted, team


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Store, None]:
    url = request.getfixturevalue("database") if request.param == "postgres" else ""
    async with opened(tmp_path / "elf.db", url) as store:
        yield store


@asynccontextmanager
async def opened(path: Path, url: str) -> AsyncGenerator[Store, None]:
    store = store_at(path, url)
    await store.open()
    yield store
    await store.close()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def run_log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[RunLog, None]:
    if request.param == "memory":
        yield MemoryLog()
        return
    url = request.getfixturevalue("database") if request.param == "postgres" else ""
    async with opened(tmp_path / "elf.db", url) as store:
        log = DurableLog(store)
        await log.open()
        yield log
        await log.close()


MakeEngine = Callable[..., Awaitable[Engine]]


@pytest.fixture
async def make_engine(run_log: RunLog) -> AsyncGenerator[MakeEngine, None]:
    """Opens an engine around a scripted adapter; closes it at the end."""
    async with AsyncExitStack() as stack:

        async def make(script: Script, **runs: Any) -> Engine:
            engine = Engine(team(**runs), Scripted(script), run_log, ENDPOINT)
            await engine.open()
            stack.push_async_callback(engine.close)
            return engine

        yield make
