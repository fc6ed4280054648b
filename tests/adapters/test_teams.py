"""The example teams, loaded as they are served, with the offline model as shipped."""

from pathlib import Path

import pytest

from elf_sdk.models.llm import Endpoint
from elf_sdk.models.offline import OfflineModel
from elf_sdk.models.script import load_script
from elf_sdk.runs.adapter import Delegate, Owner, RunContext
from elf_sdk.runs.events import DelegationProposed
from elf_sdk.server.loading import load_server
from elf_sdk.team.project import find_project
from tests.adapters.support import answer, events_of

ROOT = Path(__file__).parents[2]
PROJECT = find_project(ROOT)


@pytest.mark.parametrize(
    ("team", "says", "answers", "proposes"),
    [
        (
            "executive-team",
            "We launch our desk lamp in March. Please have marketing prepare the launch campaign.",
            "Nothing has been sent yet",
            ["marketing-team"],
        ),
        (
            "executive-team",
            "How long does the dimmer take? Ask engineering.",
            "proposal to the engineering",
            ["engineering-team"],
        ),
        ("executive-team", "Hello!", "I speak for the executives", []),
        ("executive-team", "What is the meaning of life?", "have marketing prepare its launch", []),
        ("marketing-team", "Prepare the launch campaign for our desk lamp.", "Your evening, in better light", []),
        ("marketing-team", "What is our tone of voice?", "Nothing has been sent yet", ["marketing-brand-team"]),
        ("marketing-brand-team", "How should our desk lamp sound?", "Do not write", []),
        ("engineering-team", "How long does the dimmer's firmware take?", "What could delay it", []),
    ],
)
async def test_a_team_answers_as_its_script_says(
    model: OfflineModel, team: str, says: str, answers: str, proposes: list[str]
) -> None:
    directory = ROOT / "teams" / team
    script = load_script(directory / "offline.yaml")
    model.add(team, script.model_copy(update={"delay": "0ms"}))
    server = load_server(directory)
    assert server.adapter is not None
    specs = {loaded.spec.name: loaded.spec for loaded in PROJECT.teams}
    ctx = RunContext(
        run_id="run-1",
        spec=server.spec,
        owner=Owner("test", "ada"),
        conversation="c",
        text=says,
        endpoint=Endpoint("offline", "offline", model.url(team), "not-needed"),
        delegates=tuple(Delegate(name, specs[name].title, specs[name].purpose) for name in PROJECT.org.children(team)),
    )
    events = await events_of(server.adapter, ctx)
    assert answers in answer(events)
    assert [event.target for event in events if isinstance(event, DelegationProposed)] == proposes
