"""What a team's process has not loaded when it is ready, because every start would pay for it."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LATER = {
    "a2a": "with the first caller of 0.3, or the first call to another team",
    "alembic": "while a schema is changed",
    "anthropic": "by a framework",
    "crewai": "with the first run of a crew",
    "cryptography": "with jwt",
    "dotenv": "by commands of a project",
    "elf_sdk.adapters.failure": "with the first run that fails",
    "elf_sdk.adapters.mcp": "with the first run of a team with MCP servers",
    "elf_sdk.cli.package": "by another command",
    "elf_sdk.deploy": "by commands that write charts",
    "elf_sdk.models.chat": "with the first question to a model",
    "elf_sdk.server.a2a.client": "with the first call to another team",
    "elf_sdk.store.postgres": "where the database is one",
    "elf_sdk.team.project": "by commands of a project",
    "google.protobuf": "with a2a",
    "h11": "with httpx, and by the offline model",
    "helm_python": "by commands that write charts",
    "httpcore": "with httpx",
    "httpx": "with the first question to a model, the first call to another team, or the first run that fails",
    "jwt": "with the first token",
    "langchain_core": "with langgraph",
    "langgraph": "with the first run of a graph",
    "mcp": "with the first run of a team with MCP servers",
    "openai": "by a framework",
    "psycopg": "where the database is PostgreSQL",
    "pygments": "with rich",
    "rich": "with httpx, for a command line of its own",
    "sqlalchemy": "while a schema is changed",
    "sse_starlette": "with the first stream",
}
"""Modules, and when they are loaded."""

TEAM = """\
name: plain
framework: function
llm: {provider: ollama, model: any}
members:
  - role: Head
    is_manager: true
"""

CODE = """\
import sys
from pathlib import Path

from elf_sdk import FunctionAdapter, TeamServer


async def answer(ctx):
    yield ctx.text


class Plain(TeamServer):
    adapter = FunctionAdapter(answer)

    async def health(self):
        Path("loaded").write_text("\\n".join(sys.modules))
        return await super().health()
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> frozenset[str]:
    """The modules of a team's process that has just said that it is ready."""
    directory = tmp_path_factory.mktemp("plain")
    (directory / "team.yaml").write_text(TEAM)
    (directory / "team.py").write_text(CODE)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ELF_", "JWT_"))}
    with subprocess.Popen(
        [sys.executable, "-m", "elf_sdk", "serve", "--port", "0"],
        cwd=directory,
        env={**inherited, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().partition(" on ")[2].partition(" ")[0]
            with urllib.request.urlopen(f"{address}/readyz", timeout=60) as answer:  # noqa: S310 - an address of ours
                assert answer.status == 200
        finally:
            server.terminate()
    return frozenset((directory / "loaded").read_text().splitlines())


@pytest.mark.parametrize("module", sorted(LATER))
def test_a_team_starts_without(module: str, loaded: frozenset[str]) -> None:
    assert "elf_sdk.adapters.function" in loaded
    assert module not in loaded, f"{module} is loaded at the start; import it {LATER[module]}"
