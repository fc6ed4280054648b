"""The three ways of the how-to and the script of the reference, run as they stand there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from elf_sdk.models.offline import OfflineModel
from elf_sdk.models.script import load_script
from elf_sdk.server.loading import load_server
from tests.adapters.support import answer, context, events_of, scripted

DOCS = Path(__file__).parents[2] / "docs"


def _blocks(page: str, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


@pytest.mark.parametrize("framework", ["function", "langgraph", "crewai"])
async def test_each_way_of_the_how_to_is_a_team(framework: str, tmp_path: Path, model: OfflineModel) -> None:
    directory = tmp_path / "support-team"
    directory.mkdir()
    spec = _blocks("how-to/write-a-team.md", "yaml")[0]
    (directory / "team.yaml").write_text(spec.replace("framework: function", f"framework: {framework}"))
    ways = _blocks("how-to/write-a-team.md", "python")
    [way] = [way for way in ways if f"{framework}adapter(" in way.lower()]
    (directory / "team.py").write_text(way)
    scripted(model, {"say": "We open at nine."})
    adapter = load_server(directory).adapter
    assert adapter is not None
    assert answer(await events_of(adapter, context(model, "When do you open?"))) == "We open at nine."


EXAMPLE = DOCS.parent / "examples" / "pydantic-ai-adapter"


def test_the_how_to_for_adapters_shows_the_whole_example_in_order() -> None:
    code = (EXAMPLE / "elf_pydantic_ai" / "__init__.py").read_text(encoding="utf-8")
    shown = "".join(_blocks("how-to/write-an-adapter.md", "python"))
    written = [line for line in code.splitlines() if line]
    assert [line for line in shown.splitlines() if line][: len(written)] == written
    assert len(code.splitlines()) < 100
    [entry] = _blocks("how-to/write-an-adapter.md", "toml")
    assert entry in (EXAMPLE / "pyproject.toml").read_text(encoding="utf-8")


async def test_the_team_of_the_how_to_for_adapters_is_one(tmp_path: Path, model: OfflineModel) -> None:
    directory = tmp_path / "support-team"
    directory.mkdir()
    spec = _blocks("how-to/write-a-team.md", "yaml")[0]
    (directory / "team.yaml").write_text(spec.replace("framework: function", "framework: pydantic-ai"))
    (directory / "team.py").write_text(_blocks("how-to/write-an-adapter.md", "python")[-1])
    scripted(model, {"say": "We open at nine."})
    adapter = load_server(directory).adapter
    assert adapter is not None
    assert answer(await events_of(adapter, context(model, "When do you open?"))) == "We open at nine."


def test_the_suite_of_the_how_to_for_adapters_finds_its_tests(tmp_path: Path) -> None:
    programs, tests = _blocks("how-to/write-an-adapter.md", "python")[-3:-1]
    (tmp_path / "programs.py").write_text(programs)
    (tmp_path / "test_adapter.py").write_text(tests)
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(EXAMPLE), str(DOCS.parent)])}
    chosen = "model_said or still_writes or asked_and"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:asyncio",
        "-p",
        "no:xdist",
        "-k",
        chosen,
        "test_adapter.py",
    ]
    done = subprocess.run(command, cwd=tmp_path, env=environ, check=False, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_the_script_of_the_reference_is_one(tmp_path: Path) -> None:
    file = tmp_path / "offline.yaml"
    file.write_text(_blocks("reference/offline-model.md", "yaml")[0])
    assert len(load_script(file).rules) == 4
