"""A flow that asks a person, run in a process of its own: `python -m tests.adapters.crewai_review URL DIR [ANSWER]`.

Prints the run's events as JSON, one a line.
"""

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from elf_sdk.adapters.crewai import CrewAIAdapter
from elf_sdk.models.llm import Endpoint
from elf_sdk.runs.adapter import Owner, RunContext
from elf_sdk.runs.events import encode
from elf_sdk.team.spec import TeamSpec

SPEC = TeamSpec.model_validate({"name": "bike-team", "members": [{"role": "manager", "is_manager": True}]})


class FileCheckpoints:
    """Checkpoints in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def load(self, prefix: str = "") -> dict[str, bytes]:
        found = {path.name.replace("+", "/"): path.read_bytes() for path in sorted(self._directory.iterdir())}
        return {key: data for key, data in found.items() if key.startswith(prefix)}

    async def save(self, entries: Mapping[str, bytes | None]) -> None:
        for key, data in entries.items():
            path = self._directory / key.replace("/", "+")
            if data is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(data)


def build(llm: Any) -> Any:
    from crewai.flow import Flow, human_feedback, listen, start

    class Review(Flow):  # type: ignore[type-arg]
        @start()
        @human_feedback(message="Is this good?", emit=["approved", "rejected"], llm=llm)
        def draft(self) -> str:
            self.state["drafts"] = self.state.get("drafts", 0) + 1
            return str(llm.call(f"draft: {self.state['message']}"))

        @listen("approved")
        def publish(self, result: Any) -> str:
            return str(llm.call(f"publish: {result.output} ({result.feedback}, {self.state['drafts']})"))

        @listen("rejected")
        def drop(self) -> str:
            return "dropped"

    return Review()


async def main(url: str, directory: str, answers: Mapping[str, str]) -> None:
    endpoint = Endpoint("offline", "offline", url, "a-key-of-the-test", timeout=10.0, retries=0)
    ctx = RunContext("run-1", SPEC, Owner("test", "ada"), "talk", "Write", endpoint, answers=answers)
    ctx = replace(ctx, checkpoints=FileCheckpoints(Path(directory)))
    async for event in CrewAIAdapter(build).run(ctx):
        sys.stdout.write(orjson.dumps([event.kind, orjson.loads(encode(event))]).decode() + "\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], dict(pair.split("=", 1) for pair in sys.argv[3:])))
