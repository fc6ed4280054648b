"""A team that is a plain function, which does what the message says; loaded anew by the processes of its runs."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

from elf_sdk.adapters.function import FunctionAdapter, SyncFunctionContext
from elf_sdk.runs.adapter import RunContext
from elf_sdk.runs.events import Event, TextDelta
from elf_sdk.server.team_server import TeamServer
from elf_sdk.team.spec import TeamSpec


def obey(ctx: SyncFunctionContext) -> Generator[str, None, None]:
    what, _, rest = ctx.text.partition(" ")
    yield f"{os.getpid()}: "
    if what == "sleep":
        Path(rest).write_text(str(os.getpid()))
        while True:
            time.sleep(0.05)
    elif what == "spin":
        until = time.monotonic() + float(rest)
        while time.monotonic() < until:
            pass
        yield "done"
    elif what == "exit":
        os._exit(3)
    elif what == "ask":
        yield "Well. "
        yield f"So {ctx.ask('Which one?')}."
    elif what == "model":
        yield from ctx.stream()
    else:
        yield f"{ctx.user} said {ctx.text}"


class PlainTeam(TeamServer):
    adapter = FunctionAdapter(obey)


class HookedTeam(PlainTeam):
    async def on_message(self, turn: RunContext) -> AsyncGenerator[Event, None]:
        yield TextDelta(f"({os.getpid()}) ")
        async for event in super().on_message(turn):
            yield event


def spec(**runs: object) -> TeamSpec:
    members = [{"role": "Head", "is_manager": True}]
    return TeamSpec.model_validate({"name": "plain", "members": members, "runs": runs})
