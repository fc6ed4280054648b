"""Each import contract breaks when it is broken: tried on a skeleton of the package, one bad line at a time."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SKELETON = [
    "__init__",
    "__main__",
    "adapters/__init__",
    "adapters/base",
    "adapters/crewai/__init__",
    "adapters/crewai/adapter",
    "adapters/function",
    "adapters/langgraph/__init__",
    "adapters/langgraph/adapter",
    "adapters/mcp/__init__",
    "adapters/mcp/connection",
    "cache",
    "cli/__init__",
    "closing",
    "deploy/__init__",
    "deploy/chart",
    "deploy/values",
    "errors",
    "evals/__init__",
    "models/__init__",
    "runs/__init__",
    "runs/engine",
    "runs/log",
    "server/__init__",
    "server/a2a/__init__",
    "server/a2a/client",
    "server/a2a/codec",
    "server/chat/__init__",
    "server/chat/frames",
    "server/team_server",
    "settings",
    "store/__init__",
    "team/__init__",
]

LEGAL = {
    "__init__": "from elf_sdk.server.team_server import TeamServer",
    "adapters/crewai/adapter": "import crewai",
    "adapters/langgraph/adapter": "import langgraph.graph, langchain_openai",
    "adapters/mcp/connection": "import mcp.types",
    "cli/__init__": "from elf_sdk import __version__",
    "deploy/values": "import elf_sdk.team",
    "runs/engine": "import elf_sdk.runs.log, elf_sdk.models, elf_sdk.team",
    "server/a2a/codec": "import a2a.types, elf_sdk.runs.log",
    "server/team_server": "import elf_sdk.server.a2a, elf_sdk.server.chat, elf_sdk.adapters",
}

BREAKS = [
    ("layers", "errors", "import elf_sdk.settings"),
    ("layers", "team/__init__", "import elf_sdk.models"),
    ("layers", "deploy/chart", "import elf_sdk.server"),
    ("layers", "models/__init__", "def later() -> None:\n    from elf_sdk.runs import engine"),
    ("layers", "utils", "stray = True"),
    ("cycles", "runs/log", "import elf_sdk.runs.engine"),
    ("adapters", "adapters/crewai/adapter", "import elf_sdk.adapters.function"),
    ("adapters", "adapters/base", "import elf_sdk.adapters.langgraph"),
    ("protocols", "server/chat/__init__", "import elf_sdk.server.a2a"),
    ("homes", "adapters/function", "import crewai"),
    ("homes", "adapters/function", "import mcp"),
    ("homes", "adapters/base", "from langchain_core.messages import AIMessage"),
    ("homes", "runs/engine", "def later() -> None:\n    import langgraph.graph"),
    ("homes", "server/team_server", "from a2a.types import Task"),
    ("pure", "server/a2a/codec", "import asyncio"),
    ("pure", "server/chat/frames", "from starlette.websockets import WebSocket"),
    ("pure", "deploy/values", "import elf_sdk.deploy.chart"),
]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for module in SKELETON:
        _append(tmp_path, module, LEGAL.get(module, ""))
    _append(tmp_path, "deploy/chart", "import subprocess")
    return tmp_path


def test_what_is_legal_passes(package: Path) -> None:
    done = _lint(package)
    assert done.returncode == 0, done.stdout
    assert ", 0 broken" in done.stdout


@pytest.mark.parametrize(("contract", "module", "line"), BREAKS)
def test_a_broken_contract_is_found(package: Path, contract: str, module: str, line: str) -> None:
    _append(package, module, line)
    done = _lint(package, "--contract", contract)
    assert done.returncode == 1, done.stdout
    assert "0 kept, 1 broken" in done.stdout
    assert f".{Path(module.removesuffix('/__init__')).name}" in done.stdout


def _append(package: Path, module: str, line: str) -> None:
    path = package / "elf_sdk" / f"{module}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def _lint(package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo", *arguments]
    return subprocess.run(command, cwd=package, check=False, capture_output=True, text=True)
