"""The two lines that give a team a real provider: here a server on loopback that speaks OpenAI's API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from elf_sdk.models.offline import OfflineModel
from elf_sdk.models.script import OfflineScript
from tests.examples.support import ROOT, TEAMS, Organisation, copy_of_the_examples, edit, served

KEY = "a key that only this test has"


@pytest.fixture(scope="module")
def provider() -> Iterator[OfflineModel]:
    script = {"rules": [{"say": "As ${role}, with a model of your own."}]}
    with OfflineModel() as model:
        for team in TEAMS:
            model.add(team, OfflineScript.model_validate(script))
        yield model


@pytest.fixture(scope="module")
def organisation(provider: OfflineModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Organisation]:
    project = copy_of_the_examples(tmp_path_factory.mktemp("provider"))
    for team in TEAMS:
        file = project / "teams" / team / "team.yaml"
        edit(file, "  provider: offline\n", f"  provider: compatible\n  base_url: {provider.url(team)}\n")
        edit(file, "  model: offline\n", "  model: small-and-local\n")
    with served(project, COMPATIBLE_API_KEY=KEY) as organisation:
        yield organisation


@pytest.mark.parametrize("team", TEAMS)
async def test_the_key_arrives_and_the_answer_comes_back(
    organisation: Organisation, provider: OfflineModel, team: str
) -> None:
    async with organisation.chat(team) as chat:
        assert "offline" not in chat.greeting["message"]
        assert "with a model of your own." in (await chat.say("Hello!")).text
    asked = [request for request in provider.requests if request.team == team]
    assert asked
    assert {request.key for request in asked} == {KEY}
    assert {request.body["model"] for request in asked} == {"small-and-local"}
    assert KEY not in repr(asked)


def test_nothing_of_the_key_is_kept(organisation: Organisation) -> None:
    kept = [file for file in organisation.project.rglob("*") if file.is_file() and KEY.encode() in file.read_bytes()]
    assert kept == []


@pytest.mark.parametrize("team", TEAMS)
def test_the_team_file_says_so(team: str) -> None:
    text = Path(ROOT / "teams" / team / "team.yaml").read_text(encoding="utf-8")
    assert "# For a real provider change these two lines, for example to openai and gpt-5-mini, and set" in text
