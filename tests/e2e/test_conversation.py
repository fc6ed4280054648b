"""People talk to teams inside the cluster, and teams hand work to each other."""

from __future__ import annotations

import pytest

from tests.e2e.client import Client
from tests.e2e.deployed import Deployed
from tests.e2e.figures import Figures
from tests.e2e.organisation import ENVIRONMENTS, TEAMS

LAUNCH = "We launch our desk lamp in March. Please have marketing prepare the launch campaign."


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_person_talks_to_every_team_through_its_service(environment: str, deployed: Deployed, client: Client) -> None:
    for team in TEAMS:
        said = client.run(
            "chat",
            deployed.url(environment, team, "ws") + "/chat",
            deployed.token(environment, team),
            "Hello. What can you do?",
        )
        (turn,) = said["turns"]
        assert turn["text"], f"{team} in {environment} has no answer"
        assert turn["errors"] == []
        assert said["ended"]["type"] == "session_ended"


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_confirmed_delegation_is_done_by_the_other_team_and_its_answer_comes_back(
    environment: str, deployed: Deployed, client: Client, figures: Figures
) -> None:
    team = "executive-team"
    address = deployed.url(environment, team, "ws") + "/chat"
    said = client.run("chat", address, deployed.token(environment, team), LAUNCH, timeout=180)
    (turn,) = said["turns"]
    (preview,) = turn["previews"]
    assert preview["target"] == "marketing-team"
    last = turn["updates"][-1]
    assert last["state"] == "finished", turn["updates"]
    assert "# Campaign brief" in last["result"]
    figures.add(f"delegation by chat, confirmed and done, in {environment}", "done", "done")


def test_a_token_of_another_environment_opens_no_chat(deployed: Deployed, client: Client) -> None:
    team = "marketing-team"
    (refused,) = client.run(
        "call",
        stdin=[{"url": deployed.url("prod", team), "token": deployed.token("dev", team), "text": "Hello"}],
    )
    assert refused["status"] in {401, 403}
