"""What the tests of runs share: a team, owners, and an adapter that does what a function says."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from elf_sdk.models.llm import Endpoint
from elf_sdk.runs.adapter import AdapterCapabilities, Owner, RunContext
from elf_sdk.runs.durable import DurableLog
from elf_sdk.runs.engine import Engine
from elf_sdk.runs.events import Event, LoggedEvent, is_terminal
from elf_sdk.runs.log import RunRequest
from elf_sdk.store import Store
from elf_sdk.team.spec import TeamSpec

ADA = Owner("https://issuer.example", "ada")
BOB = Owner("https://issuer.example", "bob")
ENDPOINT = Endpoint("offline", "offline", "http://127.0.0.1:1", "none")

Script = Callable[[RunContext], AsyncGenerator[Event, None]]


class Scripted:
    """An adapter out of one function."""

    name = "scripted"

    def __init__(self, script: Script, *, recover: bool = False) -> None:
        self.capabilities = AdapterCapabilities(stream=True, human=True, cancel="certain", recover=recover)
        self.run = script


def team(**runs: Any) -> TeamSpec:
    return TeamSpec.model_validate(
        {"name": "test-team", "members": [{"role": "Manager", "is_manager": True}], "runs": runs}
    )


def ask(text: str = "hello", *, context: str = "c1", owner: Owner = ADA, **metadata: Any) -> RunRequest:
    return RunRequest("test-team", owner, context, text, metadata)


@asynccontextmanager
async def running(store: Store, script: Script, *, recover: bool = False, **runs: Any) -> AsyncGenerator[Engine, None]:
    """A replica: an engine with a lease of its own on a store."""
    log = DurableLog(store)
    await log.open()
    engine = Engine(team(**runs), Scripted(script, recover=recover), log, ENDPOINT)
    await engine.open()
    try:
        yield engine
    finally:
        await engine.close()
        await log.close()


async def follow(engine: Engine, run_id: str, after: int = 0, owner: Owner = ADA) -> list[LoggedEvent]:
    """All that a subscriber sees until the end."""
    return [logged async for logged in engine.subscribe(run_id, owner, after)]


async def ended(engine: Engine, run_id: str, owner: Owner = ADA) -> Event:
    """The run's one terminal event, after a look that it is the last and that no number is missing."""
    await engine.settled(run_id, owner)
    events = await engine.events(run_id, owner)
    assert [logged.seq for logged in events] == list(range(1, len(events) + 1))
    assert [is_terminal(logged.event) for logged in events].count(True) == 1
    assert is_terminal(events[-1].event)
    return events[-1].event
