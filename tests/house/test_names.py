"""What the package offers, and what looking at it costs."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import elf_sdk
import elf_sdk.adapters

ROOT = Path(__file__).parents[2]

PUBLIC = [
    "CrewAIAdapter",
    "ElfError",
    "FunctionAdapter",
    "FunctionContext",
    "LangGraphAdapter",
    "SyncFunctionContext",
    "TeamServer",
    "TeamSpec",
    "Tool",
    "ToolError",
    "__version__",
    "effect_key",
    "team_tools",
]

FOR_ADAPTERS = [
    "Adapter",
    "AdapterCapabilities",
    "Artifact",
    "AuthRequired",
    "Bridge",
    "Checkpoints",
    "Closed",
    "Delegate",
    "DelegationProposed",
    "Endpoint",
    "Event",
    "InputRequired",
    "Line",
    "LoggedEvent",
    "MessageOnly",
    "Owner",
    "Rewound",
    "RunContext",
    "RunError",
    "Step",
    "TextDelta",
    "Tool",
    "ToolCall",
    "ToolError",
    "ToolResult",
    "TurnMessage",
    "Usage",
    "bridged",
    "call_factory",
    "checked_factory",
    "in_thread",
    "need",
    "open_tools",
    "run_sync",
    "transcript",
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
    "pydantic_ai",
}


def test_the_public_names_are_these_and_sorted() -> None:
    assert elf_sdk.__all__ == PUBLIC
    assert sorted(elf_sdk.__all__) == elf_sdk.__all__
    assert set(elf_sdk._HOMES) == set(PUBLIC) - {"__version__"}


@pytest.mark.parametrize(("name", "home"), elf_sdk._HOMES.items())
def test_a_public_name_is_there(name: str, home: str) -> None:
    assert getattr(elf_sdk, name).__name__ == name
    assert getattr(elf_sdk, name).__module__ == home


def test_the_names_for_adapters_are_these_and_sorted() -> None:
    assert elf_sdk.adapters.__all__ == FOR_ADAPTERS
    assert sorted(elf_sdk.adapters.__all__) == elf_sdk.adapters.__all__
    assert set(elf_sdk.adapters._HOMES) == set(FOR_ADAPTERS)


@pytest.mark.parametrize(("name", "home"), elf_sdk.adapters._HOMES.items())
def test_a_name_for_adapters_is_there(name: str, home: str) -> None:
    assert getattr(elf_sdk.adapters, name).__name__ == name
    assert getattr(elf_sdk.adapters, name).__module__ == home


@pytest.mark.parametrize("module", ["elf_sdk", "elf_sdk.adapters"])
def test_an_unknown_name_is_an_attribute_error(module: str) -> None:
    with pytest.raises(AttributeError, match=f"'{module}' has no attribute 'Nothing'"):
        importlib.import_module(module).Nothing  # noqa: B018


def test_importing_the_package_loads_no_framework_and_no_pydantic() -> None:
    heavy = FRAMEWORKS | {"click", "httpx", "pydantic", "sqlalchemy", "starlette"}
    assert not _loaded("import elf_sdk, elf_sdk.adapters") & heavy


def test_the_test_kit_needs_no_pytest() -> None:
    assert "pytest" not in _loaded("import elf_sdk.testing")


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
        lazy = {"elf_sdk": elf_sdk._HOMES, "elf_sdk.adapters": elf_sdk.adapters._HOMES}
        taken = {name for module, name in _imports(path) if name in lazy.get(module, {})}
        assert not taken, (
            f"{path.relative_to(ROOT)} takes {', '.join(sorted(taken))} from elf_sdk; import it from its home"
        )


def test_example_teams_use_only_the_public_names() -> None:
    for path in sorted((ROOT / "teams").rglob("*.py")):
        for module, name in _imports(path):
            if module.split(".")[0] == "elf_sdk":
                assert module in {"elf_sdk", "elf_sdk.testing"}, f"{path.relative_to(ROOT)} imports {module}"
                assert module != "elf_sdk" or name in {*PUBLIC, ""}, f"{path.relative_to(ROOT)} imports elf_sdk.{name}"


def test_the_example_adapter_uses_only_the_public_names() -> None:
    for path in sorted((ROOT / "examples").rglob("*.py")):
        for module, name in _imports(path):
            if module.split(".")[0] == "elf_sdk":
                assert module in {"elf_sdk", "elf_sdk.adapters"}, f"{path.relative_to(ROOT)} imports {module}"
                assert name in {*PUBLIC, ""}, f"{path.relative_to(ROOT)} imports elf_sdk.{name}"
                used = set(re.findall(r"\belf\.(\w+)", path.read_text(encoding="utf-8")))
                assert used <= {*FOR_ADAPTERS, *PUBLIC}


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
