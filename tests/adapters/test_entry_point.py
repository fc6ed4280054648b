"""An adapter that another package brings: the example, really installed, and a team of its framework served."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from elf_sdk.runs.run import RunState
from elf_sdk.testing import TeamProcess
from elf_sdk.testing.adapter_suite.setting import ask, calling

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "pydantic-ai-adapter"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of packages with the example in it."""
    place = tmp_path_factory.mktemp("site")
    uv = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet", "--offline", "--no-deps"]
    command = [*uv, "--no-build-isolation", "--python", sys.executable, "--target", str(place), str(EXAMPLE)]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=100)
    return place


def _python(code: str, *paths: Path) -> str:
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, cwd="/", check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


CODE = """\
from elf_sdk.adapters.registry import adapter_for, adapter_names
from elf_sdk.errors import BadInput
try:
    print(adapter_for("pydantic-ai").__name__, "pydantic-ai" in adapter_names())
except BadInput as error:
    print(error)
"""


def test_the_framework_is_known_where_the_package_is_installed(installed: Path) -> None:
    assert _python(CODE, installed, ROOT) == "PydanticAIAdapter True"
    assert _python(CODE, ROOT).startswith(
        "framework: there is no adapter 'pydantic-ai' here; use one of crewai, function"
    )


async def test_its_example_team_answers_over_a2a(installed: Path, tmp_path: Path) -> None:
    paths = os.pathsep.join(map(str, (installed, ROOT)))
    process = TeamProcess(EXAMPLE / "research-team", tmp_path, {"PYTHONPATH": paths})
    try:
        process.start()
        shown = await process.capabilities()
        assert (shown["framework"], shown["stream"], shown["cancel"]) == ("pydantic-ai", True, "certain")
        async with calling(process) as client:
            task = await ask(client, "How many people live in Kyoto?")
            assert (task.state, task.text) == (
                RunState.FINISHED,
                "In the newest count it is 1,443,486 people in Kyoto.",
            )
            assert (await ask(client, "Compare them.")).message == "Which two cities shall I compare?"
    finally:
        process.close()
