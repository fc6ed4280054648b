"""What the package offers, and what looking at it costs."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import elf_sdk

ROOT = Path(__file__).parents[2]

PUBLIC = [
    "CrewAIAdapter",
    "ElfError",
    "FunctionAdapter",
    "FunctionContext",
    "LangGraphAdapter",
    "TeamServer",
    "TeamSpec",
    "Tool",
    "ToolError",
    "__version__",
    "effect_key",
    "team_tools",
]

FRAMEWORKS = {
    "a2a",
    "autogen",
    "crewai",
    "langchain",
    "langchain_core",
    "langchain_openai",
    "langgraph",
    "litellm",
    "mcp",
    "openai",
}


def test_the_public_names_are_these_and_sorted() -> None:
    assert elf_sdk.__all__ == PUBLIC
    assert sorted(elf_sdk.__all__) == elf_sdk.__all__
    assert set(elf_sdk._HOMES) == set(PUBLIC) - {"__version__"}


@pytest.mark.parametrize(("name", "home"), elf_sdk._HOMES.items())
def test_a_public_name_is_there(name: str, home: str) -> None:
    assert getattr(elf_sdk, name).__name__ == name
    assert getattr(elf_sdk, name).__module__ == home


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        elf_sdk.Nothing  # noqa: B018


def test_importing_the_package_loads_no_framework_and_no_pydantic() -> None:
    assert not _loaded("import elf_sdk") & (FRAMEWORKS | {"click", "httpx", "pydantic", "sqlalchemy", "starlette"})


@pytest.mark.parametrize("name", ["CrewAIAdapter", "LangGraphAdapter", "TeamServer"])
def test_a_public_name_loads_no_framework(name: str) -> None:
    assert not _loaded(f"from elf_sdk import {name}") & (FRAMEWORKS - {"a2a"})


def test_help_loads_neither_frameworks_nor_sqlalchemy_nor_pydantic() -> None:
    loaded = _loaded(
        "import sys; from elf_sdk.__main__ import main\n"
        "sys.argv = ['elf', '--help']\n"
        "try: main()\n"
        "except SystemExit as done: assert not done.code"
    )
    assert "click" in loaded
    assert not loaded & (FRAMEWORKS | {"alembic", "httpx", "pydantic", "sqlalchemy", "starlette", "uvicorn", "yaml"})


def test_inside_the_package_names_come_from_their_homes() -> None:
    # The lazy names are for people who use the package: through them any module could reach any layer unseen.
    for path in sorted((ROOT / "elf_sdk").rglob("*.py")):
        taken = {name for module, name in _imports(path) if module == "elf_sdk"} & set(elf_sdk._HOMES)
        assert not taken, (
            f"{path.relative_to(ROOT)} takes {', '.join(sorted(taken))} from elf_sdk; import it from its home"
        )


def test_example_teams_use_only_the_public_names() -> None:
    for path in sorted((ROOT / "teams").rglob("*.py")):
        for module, name in _imports(path):
            if module.split(".")[0] == "elf_sdk":
                assert module in {"elf_sdk", "elf_sdk.testing"}, f"{path.relative_to(ROOT)} imports {module}"
                assert module != "elf_sdk" or name in {*PUBLIC, ""}, f"{path.relative_to(ROOT)} imports elf_sdk.{name}"


def _loaded(code: str) -> set[str]:
    """The top-level names of all modules that a fresh interpreter has loaded after `code`."""
    script = f"{code}\nimport json, sys; print('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True)
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def _imports(path: Path) -> list[tuple[str, str]]:
    """(module, name) of each absolute import in a file; for `import module` the name is empty."""
    found: list[tuple[str, str]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found += [(node.module, alias.name) for alias in node.names]
    return found


def test_a_server_starts_without_what_it_needs_later() -> None:
    late = {"alembic", "genai_prices", "prometheus_client", "sqlalchemy"}
    assert not _loaded("import elf_sdk.server.team_server") & late


def test_a_server_starts_without_what_public_keys_need() -> None:
    assert not _loaded("import elf_sdk.server.auth.trust") & {"cryptography", "httpx", "jwt"}
