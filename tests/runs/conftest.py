from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from elf_sdk.runs.durable import DurableLog
from elf_sdk.runs.engine import Engine
from elf_sdk.runs.log import RunLog
from elf_sdk.runs.memory import MemoryLog
from elf_sdk.store import store_at
from tests.runs.support import ENDPOINT, Script, Scripted, team


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def run_log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[RunLog, None]:
    if request.param == "memory":
        yield MemoryLog()
        return
    store = store_at(tmp_path / "elf.db", request.getfixturevalue("database") if request.param == "postgres" else "")
    await store.open()
    yield DurableLog(store)
    await store.close()


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
