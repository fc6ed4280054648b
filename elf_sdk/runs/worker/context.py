"""A run's context on its way to the process that does the run."""

from __future__ import annotations

import pickle
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import fields
from typing import Any, Final

import orjson

from elf_sdk.runs.adapter import RunContext

__all__ = ["Ask", "Calls", "calls_of", "pack", "unpack"]

Ask = Callable[..., Awaitable[Any]]
"""Calls a method at the server: its name, bytes, and arguments that JSON holds; gives what it returned."""
Calls = Mapping[str, Callable[..., Awaitable[Any]]]
"""What a run may call: methods by name, each with bytes as `body` and arguments that JSON holds."""
_LIVE: Final = frozenset({"history", "checkpoints", "whereabouts"})
"""What cannot travel, and is called over the channel or made anew."""


def pack(ctx: RunContext) -> bytes:
    """All of it that can travel. For a process of ours alone: it is read by pickle."""
    return pickle.dumps({field.name: getattr(ctx, field.name) for field in fields(ctx) if field.name not in _LIVE})


def unpack(packed: bytes, ask: Ask) -> RunContext:
    """The context as the run's process has it; the rest calls the server."""

    async def history() -> Any:
        return await ask("history")

    return RunContext(**pickle.loads(packed), history=history, checkpoints=_RemoteCheckpoints(ask))  # noqa: S301 - from the server itself


def calls_of(ctx: RunContext) -> Calls:
    """What the run's process may call, at the server's end."""

    async def history(body: bytes) -> Any:
        return await ctx.history()

    async def load(body: bytes, prefix: str) -> dict[str, bytes]:
        return await ctx.checkpoints.load(prefix)

    async def save(body: bytes, index: int) -> None:
        saved: dict[str, bytes | None] = {}
        start = index
        for key, size in orjson.loads(body[:index]):
            saved[str(key)] = None if size is None else body[start : start + int(size)]
            start += size or 0
        await ctx.checkpoints.save(saved)

    return {"history": history, "checkpoints.load": load, "checkpoints.save": save}


class _RemoteCheckpoints:
    """`Checkpoints` that are kept by the server."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def load(self, prefix: str = "") -> dict[str, bytes]:
        found: dict[str, bytes] = await self._ask("checkpoints.load", prefix=prefix)
        return found

    async def save(self, entries: Mapping[str, bytes | None]) -> None:
        # In the body, because there may be more keys than a header holds.
        index = orjson.dumps([(key, None if value is None else len(value)) for key, value in entries.items()])
        await self._ask("checkpoints.save", b"".join((index, *filter(None, entries.values()))), index=len(index))
