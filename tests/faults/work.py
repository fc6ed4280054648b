"""What the team of the fault tests does: it works in steps, has effects, asks, floods, and can be told to be poison.

The text of a message says what: `steps COUNT SECONDS`, `ask`, `flood COUNT CHARACTERS [PAUSE]`, `poison`. Each step has
one effect, a line in a file that the replicas share: run, step, attempt, process. Nothing keeps an effect from being
had twice but the runtime.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from elf_sdk.runs.adapter import AdapterCapabilities, RunContext
from elf_sdk.runs.events import Event, InputRequired, LoggedEvent, Rewound, Step, TextDelta
from elf_sdk.server.health import Health
from elf_sdk.server.team_server import TeamServer

__all__ = ["EFFECTS", "TEAM", "Watched", "Work", "finished_steps", "write_team"]

EFFECTS = "FAULT_TEST_EFFECTS"
"""The variable with the path of the file."""
TEAM = "faulty"

_TEAM_YAML = f"""\
name: {TEAM}
purpose: To be interrupted.
framework: function
members:
  - role: Head
    is_manager: true
runs:
  concurrency: 64
  queue: 1000
  deadline: 120s
"""
_TEAM_PY = """\
from tests.faults.work import Watched, Work


class Faulty(Watched):
    adapter = Work(recover={recover!r})
"""


def write_team(directory: Path, *, recover: bool) -> Path:
    """A team whose work can, or cannot, go on after its process died; its directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "team.yaml").write_text(_TEAM_YAML)
    (directory / "team.py").write_text(_TEAM_PY.format(recover=recover))
    return directory


class Watched(TeamServer):
    """Says in `/health` how many asyncio tasks there are."""

    async def health(self) -> Health:
        return Health(detail={"tasks": str(len(asyncio.all_tasks()))})


class Work:
    """The adapter."""

    name = "function"

    def __init__(self, *, recover: bool) -> None:
        self.capabilities = AdapterCapabilities(stream=True, human=True, cancel="certain", recover=recover)

    async def run(self, ctx: RunContext) -> AsyncGenerator[Event, None]:
        match ctx.text.split():
            case ["steps", count, seconds]:
                work = _steps(ctx, int(count), float(seconds))
            case ["ask"]:
                work = _ask(ctx)
            case ["flood", count, characters, *pause]:
                work = _flood(int(count), int(characters), float(pause[0]) if pause else 0)
            case _:
                work = _say(ctx.text)
        async for event in work:
            yield event


async def _steps(ctx: RunContext, count: int, seconds: float) -> AsyncGenerator[Event, None]:
    done = finished_steps(ctx.before)
    if ctx.attempt > 1:
        yield Rewound(done[-1][0] if done else 0)
    for number in range(len(done), count):
        yield Step(str(number))
        _have_effect(ctx, str(number))
        yield TextDelta(f"{number} ")
        await asyncio.sleep(seconds)
        yield Step(str(number), "end")


async def _ask(ctx: RunContext) -> AsyncGenerator[Event, None]:
    if "q" not in ctx.answers:
        yield InputRequired("q", "Which one?")
        return
    if ctx.attempt > 1:
        yield Rewound(0)
    _have_effect(ctx, "answer")
    yield TextDelta(ctx.answers["q"])


async def _flood(count: int, characters: int, pause: float) -> AsyncGenerator[Event, None]:
    await asyncio.sleep(pause)
    for number in range(count):
        yield TextDelta("x" * characters)
        # Between two of them nothing is joined.
        yield Step(str(number))


async def _say(text: str) -> AsyncGenerator[Event, None]:
    yield TextDelta(text)


def finished_steps(events: Sequence[LoggedEvent]) -> list[tuple[int, str]]:
    """The steps that have ended and still count: number of the event, and name."""
    done: list[tuple[int, str]] = []
    for logged in events:
        match logged.event:
            case Step(name, "end"):
                done.append((logged.seq, name))
            case Rewound(to_seq):
                done = [step for step in done if step[0] <= to_seq]
            case _:
                pass
    return done


def _have_effect(ctx: RunContext, step: str) -> None:
    # One write to the end of a file: lines of several processes do not mix.
    line = f"{ctx.run_id} {step} {ctx.attempt} {os.getpid()}\n"
    file = os.open(os.environ[EFFECTS], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)
