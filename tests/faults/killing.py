"""Kills replicas at random moments, and starts them again."""

from __future__ import annotations

import asyncio
import random
import time

from tests.faults.replicas import Site

__all__ = ["kill_at_random"]

_ALIVE = 7.0
"""Seconds for which the other replica must have served: long enough to take over what the one before left. Two that
die one after the other are one longer outage."""

_TURN = 0.3
"""How often it is waited until the other one has, where the dice say so; else the same one dies again."""


async def kill_at_random(site: Site, *, seed: int, seconds: float, most: int = 1_000_000) -> list[float]:
    """Kill one of two replicas over and over; the Unix times of the kills.

    Args:
        site: with two replicas, both ready.
        seed: of the choice of victims and moments.
        seconds: for how long.
        most: kills at most.
    """
    rng = random.Random(seed)  # noqa: S311 - a test, to be repeated
    until = time.monotonic() + seconds
    kills: list[float] = []
    await asyncio.sleep(1)
    while time.monotonic() < until and len(kills) < most:
        victim, other = rng.sample(site.replicas, 2)
        young = other.ready_at + _ALIVE - time.monotonic() if kills else 0
        if young > 0 and rng.random() < _TURN:
            await asyncio.sleep(young)
        elif young > 0:
            victim, other = other, victim
        await asyncio.sleep(rng.uniform(0.2, 2))
        kills.append(time.time())
        await asyncio.to_thread(victim.kill)
        await asyncio.sleep(rng.uniform(0, 0.5))
        victim.start()
        await victim.ready()
    return kills
