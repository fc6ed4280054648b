"""Runs in processes of their own, for adapters whose code would hold the server's loop.

`Isolated` takes the place of the adapter. Behind it a team has one fork server: a clean interpreter that loads the
team's code once, and from which each run gets a process of its own by a fork, which takes milliseconds. What such a
process does can be ended for certain, because a process can be killed.

    server                              fork server (program)            worker (child)
    Isolated ── Workers ── control ──── loads the team, forks, reaps ─── runs the adapter
        └────────────────────────────── channel: context, events, calls ────┘
"""

from elf_sdk.runs.worker.isolated import Isolated
from elf_sdk.runs.worker.origin import Origin

__all__ = ["Isolated", "Origin"]
