"""A run of a crew and one of a flow, watched by Python's audit hooks: `python -m tests.adapters.crewai_confined`.

Prints what it did as JSON: the answers, whom it connected to, what it opened for writing, and which threads there are.
"""

import asyncio
import os
import sys
import threading
from typing import Any

import orjson

CONNECTED: set[str] = set()
WRITTEN: set[str] = set()


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect":
        CONNECTED.add(str(arguments[1][0] if isinstance(arguments[1], tuple) else arguments[1]))
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        CONNECTED.add(str(arguments[0]))
    elif event == "open" and isinstance(arguments[0], str) and isinstance(arguments[2], int):
        if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and arguments[0] != os.devnull:
            WRITTEN.add(os.path.abspath(arguments[0]))  # noqa: PTH100 - what is opened, links and all
    elif event in ("os.mkdir", "sqlite3.connect"):
        WRITTEN.add(os.path.abspath(os.fsdecode(arguments[0])))  # noqa: PTH100 - the same


sys.dont_write_bytecode = True
sys.addaudithook(watch)

from elf_sdk.adapters.crewai import CrewAIAdapter  # noqa: E402 - the hook sees the imports too
from elf_sdk.models.offline import OfflineModel  # noqa: E402
from tests.adapters.support import answer, context, events_of, scripted  # noqa: E402


def crew() -> Any:
    from crewai import Agent, Crew, Task

    clerk = Agent(role="the clerk", goal="Help", backstory="Brief", verbose=True)
    return Crew(
        agents=[clerk], tasks=[Task(description="{message}", expected_output="text", agent=clerk)], verbose=True
    )


def flow() -> Any:
    from crewai.flow.flow import Flow, start
    from crewai.flow.persistence import persist

    @persist()
    class Talk(Flow):  # type: ignore[type-arg]
        @start()
        def say(self) -> str:
            return f"Flowing {self.state['message']}"

    return Talk()


async def main() -> None:
    adapter = CrewAIAdapter(crew)
    adapter.warm()
    threads = [thread.name for thread in threading.enumerate()]
    with OfflineModel() as model:
        scripted(model, {"say": "Confined."})
        said = [answer(await events_of(one, context(model))) for one in (adapter, CrewAIAdapter(flow))]
    report = {
        "said": said,
        "connected": sorted(CONNECTED),
        "written": sorted(WRITTEN),
        "threads": threads,
        "storage": os.environ["CREWAI_STORAGE_DIR"],
        "uid": os.getuid(),
        "memory": "lancedb" in sys.modules,
    }
    sys.stdout.buffer.write(orjson.dumps(report))


if __name__ == "__main__":
    asyncio.run(main())
