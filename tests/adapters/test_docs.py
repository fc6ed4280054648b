"""The three ways of the how-to and the script of the reference, run as they stand there."""

import re
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
    [way] = [way for way in ways if f"{framework}adapter(" in way.lower()]
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


def test_the_script_of_the_reference_is_one(tmp_path: Path) -> None:
    file = tmp_path / "offline.yaml"
    file.write_text(_blocks("reference/offline-model.md", "yaml")[0])
    assert len(load_script(file).rules) == 4
