"""What teams do that hold a loop, or worse: each in a process of its own, so each is loaded there by its name."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from pathlib import Path

from elf_sdk.runs.adapter import AdapterCapabilities, RunContext
from elf_sdk.runs.events import Event, TextDelta

BLOCKING = AdapterCapabilities(stream=True, human=False, cancel="cooperative", recover=False, blocking=True)


class Calling:
    """An adapter that calls a plain function in its loop, and answers with what it returns."""

    name = "function"
    capabilities = BLOCKING

    def __init__(self, function: Callable[[RunContext], str]) -> None:
        self._function = function

    async def run(self, ctx: RunContext) -> AsyncGenerator[Event, None]:
        yield TextDelta(f"{os.getpid()}:")
        yield TextDelta(self._function(ctx))


class Remembering:
    """An adapter that uses all that a context offers."""

    name = "function"
    capabilities = BLOCKING

    async def run(self, ctx: RunContext) -> AsyncGenerator[Event, None]:
        await ctx.checkpoints.save({"a/1": b"\x00\xff" * 300_000, "b": b""})
        kept = await ctx.checkpoints.load("a/")
        history = await ctx.history()
        sizes = {key: len(value) for key, value in kept.items()}
        yield TextDelta(f"{ctx.owner.subject} {ctx.answers} {[turn.text for turn in history]} {sizes}")
        yield TextDelta("x" * 100_000)


class Hoarding:
    """An adapter that keeps more, and in more pieces, than goes over in one message of a worker."""

    name = "function"
    capabilities = BLOCKING

    async def run(self, ctx: RunContext) -> AsyncGenerator[Event, None]:
        await ctx.checkpoints.save({f"{'k' * 200}/{number}": b"small" for number in range(1000)})
        for number in range(3):
            await ctx.checkpoints.save({f"large/{number}": bytes(15_000_000)})
        kept = await ctx.checkpoints.load()
        yield TextDelta(f"{len(kept)} {sum(map(len, kept.values()))}")


def echo(ctx: RunContext) -> str:
    return ctx.text


def sleeps(ctx: RunContext) -> str:
    # A child of its own, which must not outlive the run either.
    child = subprocess.Popen(["sleep", "600"])
    Path(ctx.text).write_text(f"{os.getpid()} {child.pid}")
    while True:
        time.sleep(0.1)


def spins(ctx: RunContext) -> str:
    while True:
        pass


def exits(ctx: RunContext) -> str:
    os._exit(3)


def exits_politely(ctx: RunContext) -> str:
    sys.exit("enough")


def crashes(ctx: RunContext) -> str:
    return str(ctypes.string_at(0))


def forks(ctx: RunContext) -> str:
    return "child" if os.fork() == 0 else "parent"


def raises(ctx: RunContext) -> str:
    prices: dict[str, int] = {}
    return str(prices["price"])


def reads(ctx: RunContext) -> str:
    return repr(sys.stdin.read())


def prints(ctx: RunContext) -> str:
    print("printed")  # noqa: T201
    print("y" * 10_000)  # noqa: T201
    subprocess.run(["echo", "from a subprocess"], check=True)
    logging.getLogger("my.tools").warning("logged with password=hunter22secret")
    return "done"


def floods(ctx: RunContext) -> str:
    for number in range(20_000):
        print(number)  # noqa: T201
    return "done"


def speaks_garbage(ctx: RunContext) -> str:
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(int(entry.name)).st_mode):
                os.write(int(entry.name), b"\xff" * 100)
    time.sleep(60)
    return ""


def closes_everything(ctx: RunContext) -> str:
    os.closerange(3, 100)
    time.sleep(60)
    return ""


def leaves_its_group(ctx: RunContext) -> str:
    # As a daemon does.
    child = subprocess.Popen(["sleep", "600"], start_new_session=True, stdin=subprocess.DEVNULL)
    return str(child.pid)


def kills_itself(ctx: RunContext) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


def connects(ctx: RunContext) -> str:
    with socket.create_connection(("127.0.0.1", int(ctx.text))) as line:
        line.recv(1)
    return ""


ECHO = Calling(echo)
SLEEPS = Calling(sleeps)
SPINS = Calling(spins)
EXITS = Calling(exits)
EXITS_POLITELY = Calling(exits_politely)
CRASHES = Calling(crashes)
FORKS = Calling(forks)
RAISES = Calling(raises)
READS = Calling(reads)
PRINTS = Calling(prints)
FLOODS = Calling(floods)
SPEAKS_GARBAGE = Calling(speaks_garbage)
CLOSES_EVERYTHING = Calling(closes_everything)
LEAVES_ITS_GROUP = Calling(leaves_its_group)
KILLS_ITSELF = Calling(kills_itself)
REMEMBERING = Remembering()
HOARDING = Hoarding()
