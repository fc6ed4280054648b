"""The public test kit: a scripted adapter, a real server on a free port, and one as a process of its own.

    async with serve(MyTeam(), settings=settings) as served:
        token = served.issuer.user_token("ada", "my-team")
        answer = await client.get(f"{served.url('my-team')}/health")

`elf_sdk.testing.adapter_suite`, the suite for adapters, needs pytest and is imported by itself.
"""

from elf_sdk.testing.process import TeamProcess
from elf_sdk.testing.scripted import ScriptedAdapter
from elf_sdk.testing.served import Served, serve

__all__ = ["ScriptedAdapter", "Served", "TeamProcess", "serve"]
