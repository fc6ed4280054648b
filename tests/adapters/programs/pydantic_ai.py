"""The suite's programs as agents of pydantic-ai, through the adapter of the examples."""

from __future__ import annotations

from elf_pydantic_ai import PydanticAIAdapter
from pydantic_ai import Agent

from elf_sdk.server.team_server import TeamServer
from elf_sdk.testing.tools import ASYNC_TOOLS, TOOLS


class Blocking(TeamServer):
    adapter = PydanticAIAdapter(Agent(instructions="You lead.", tools=TOOLS))


class Async(TeamServer):
    adapter = PydanticAIAdapter(Agent(instructions="You lead.", tools=ASYNC_TOOLS))
