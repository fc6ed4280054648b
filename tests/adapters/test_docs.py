"""The three ways of the how-to and the script of the reference, run as they stand there."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from elf_sdk.models.offline import OfflineModel
from elf_sdk.models.script import load_script
from elf_sdk.runs.events import InputRequired
from elf_sdk.server.loading import load_server
from elf_sdk.team.spec import TeamSpec
from tests.adapters.servers import having, website
from tests.adapters.support import SPEC, answer, context, events_of, scripted

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
    way = next(way for way in ways if f"{framework}adapter(" in way.lower())
    (directory / "team.py").write_text(way)
    scripted(model, {"say": "We open at nine."})
    adapter = load_server(directory).adapter
    assert adapter is not None
    assert answer(await events_of(adapter, context(model, "When do you open?"))) == "We open at nine."


@pytest.mark.parametrize(("place", "says"), [(0, "Two sentences."), (1, "Two sentences."), (2, "")])
async def test_each_crew_of_its_how_to_is_a_team(place: int, says: str, tmp_path: Path, model: OfflineModel) -> None:
    directory = tmp_path / "support-team"
    (directory / "config").mkdir(parents=True)
    (directory / "team.yaml").write_text(
        "format: elf/v1\nname: support-team\nframework: crewai\nmembers: [{role: lead, is_manager: true}]\n"
    )
    for name, text in zip(("agents", "tasks"), _blocks("how-to/crewai.md", "yaml"), strict=True):
        (directory / "config" / f"{name}.yaml").write_text(text)
    (directory / "team.py").write_text(_blocks("how-to/crewai.md", "python")[place])
    scripted(model, {"say": "Two sentences."})
    adapter = load_server(directory).adapter
    assert adapter is not None
    events = await events_of(adapter, context(model, "When do you open?"))
    assert answer(events) == says
    assert [event.question_id for event in events if isinstance(event, InputRequired)] == ["draft-1"] * (place == 2)


async def test_the_ways_to_give_a_team_tools(model: OfflineModel) -> None:
    [entries] = _blocks("how-to/tools.md", "yaml")
    spec = TeamSpec.model_validate({**SPEC.model_dump(exclude_unset=True), **yaml.safe_load(entries)})
    assert [server.name for server in spec.mcp] == ["shop", "files"]
    ways = [way for way in _blocks("how-to/tools.md", "python") if "adapter = " in way]
    with website(tools=["price_of"]) as shop:
        for way in ways:
            names: dict[str, Any] = {}
            exec(way, names)  # noqa: S102 - the page's own
            events = await events_of(names["adapter"], having(context(model), shop))
            assert answer(events) == "A lamp: 49 euros."
    assert len(ways) == 2


async def test_an_agent_as_the_how_to_brings_it(tmp_path: Path, model: OfflineModel) -> None:
    directory = tmp_path / "support-team"
    directory.mkdir()
    (directory / "team.yaml").write_text(_blocks("how-to/langgraph.md", "yaml")[0])
    [agent] = [block for block in _blocks("how-to/langgraph.md", "python") if "create_agent(model" in block]
    (directory / "team.py").write_text(agent)
    scripted(
        model,
        {"when": {"after_tool": "opening_hours", "result": "(?P<hours>.+)"}, "say": "We are open ${hours}."},
        {"call": {"tool": "opening_hours", "arguments": {"day": "today"}}},
    )
    adapter = load_server(directory).adapter
    assert adapter is not None
    assert answer(await events_of(adapter, context(model, "When?"))) == "We are open nine to five."


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
