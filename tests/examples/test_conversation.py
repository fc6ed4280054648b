"""Conversations as people have them: what the example teams' scripts answer has to make sense where it stands."""

from __future__ import annotations

import re

import pytest

from elf_sdk.evals.judge import Judges
from elf_sdk.evals.load import conversations_of
from elf_sdk.evals.report import failures
from elf_sdk.evals.run import Target, evaluate
from elf_sdk.settings import Settings
from elf_sdk.team.project import find_project
from tests.examples.support import ROOT, TEAMS, Organisation

LAUNCH = "We launch our desk lamp in March. Please have marketing prepare the launch campaign."
EVALS = sorted((ROOT / "teams").glob("*/evals/*.yaml"))


def reads_well(text: str) -> None:
    """Text in a chat: no table, and nothing that only a placeholder would say."""
    assert text.strip()
    assert not re.search(r"^\s*\|.*\|", text, re.MULTILINE), text
    assert "[offline model]" not in text
    assert "${" not in text


async def test_a_launch_goes_to_marketing_and_comes_back(organisation: Organisation) -> None:
    async with organisation.chat("executive-team") as chat:
        hello = await chat.say("Good morning")
        assert "I speak for the executives" in hello.text
        early = await chat.say("What did marketing say?")
        assert "not asked them for anything yet" in early.text
        assert early.previews == []

        proposal = await chat.say(LAUNCH)
        assert "Nothing has been sent yet" in proposal.text
        assert proposal.tools == ["delegate_to_marketing_team"]
        [preview] = proposal.previews
        assert (preview["target"], preview["target_title"]) == ("marketing-team", "Marketing Team")
        assert preview["route"] == ["executive-team", "marketing-team"]
        assert "2,000 pre-orders by the day of the launch" in preview["success_criteria"]

        typed = await chat.say("yes")
        assert "/confirm" in typed.text
        assert typed.previews == []
        waiting = await chat.say("What did marketing say?")
        assert "Nothing has come back yet" in waiting.text

        await chat.type(preview["confirm_with"])
        result = await chat.delegated()
        assert result.startswith("# Campaign brief")
        assert "Your evening, in better light" in result

        after = await chat.say("What did marketing say?")
        assert after.text.startswith("Marketing came back with a brief")
        assert "your evening, in better light" in after.text
        again = await chat.say("And any news from engineering?")
        assert "Marketing came back" not in again.text
        thanks = await chat.say("Thank you!")
        assert thanks.text.startswith("You are welcome")
        for turn in (hello, early, proposal, typed, waiting, after, again, thanks):
            reads_well(turn.text)


async def test_two_teams_are_asked_and_one_is_refused(organisation: Organisation) -> None:
    async with organisation.chat("executive-team") as chat:
        [estimate] = (await chat.say("How long does the dimmer's firmware take?")).previews
        assert estimate["target"] == "engineering-team"
        await chat.type(estimate["confirm_with"])
        assert "8 working days" in await chat.delegated()

        [campaign] = (await chat.say(LAUNCH)).previews
        await chat.type(f"{campaign['reject_with']} too early")
        assert (await chat.next())["state"] == "rejected"

        refused = await chat.say("What did marketing answer?")
        assert refused.text.startswith("Nothing: you rejected the proposal “Launch campaign for the desk lamp”")
        engineering = await chat.say("And what did engineering say?")
        assert engineering.text.startswith("Engineering says 8 working days")


async def test_a_fault_reaches_engineering_in_the_words_of_who_reported_it(organisation: Organisation) -> None:
    async with organisation.chat("executive-team") as chat:
        reported = 'A customer complains: "the lamp went out", {history} and ${role}'
        [preview] = (await chat.say(reported)).previews
        assert (preview["target"], preview["title"]) == ("engineering-team", "Find the cause of a fault")
        assert '"the lamp went out"' in preview["description"]
        assert "${role}" in preview["description"]
        await chat.type(preview["confirm_with"])
        assert "**Most likely:**" in await chat.delegated()
        answer = await chat.say("What did they say?")
        assert answer.text.startswith("On “Find the cause of a fault” engineering answers:")
        assert "We take one lamp of the same series apart" in answer.text


async def test_marketing_asks_its_brand_team(organisation: Organisation) -> None:
    async with organisation.chat("marketing-team") as chat:
        [preview] = (await chat.say("What is our tone of voice?")).previews
        assert preview["target"] == "marketing-brand-team"
        await chat.type(preview["confirm_with"])
        assert (await chat.delegated()).startswith("# How we sound")
        assert (await chat.say("What did the brand team say?")).text.startswith("The brand team gave us three rules")


@pytest.mark.parametrize(
    ("team", "says", "answers", "target"),
    [
        ("executive-team", "Hello, please have marketing prepare the launch", "Nothing has been sent yet", "marketing"),
        ("executive-team", "We want to launch in March", "Nothing has been sent yet", "marketing"),
        ("executive-team", "Start an advertising campaign", "Nothing has been sent yet", "marketing"),
        ("executive-team", "Customers say that the lamp flickers. Ask engineering.", "Nothing has been", "engineering"),
        ("executive-team", "We have a bug in the firmware", "Nothing has been sent yet", "engineering"),
        ("executive-team", "I need an estimate", "Nothing has been sent yet", "engineering"),
        ("executive-team", "When do we launch?", "March.", ""),
        ("executive-team", "Is the lamp ready?", "March.", ""),
        ("executive-team", "What is the status?", "Where we stand", ""),
        ("executive-team", "How far are we?", "Where we stand", ""),
        ("executive-team", "Who are you?", "We are three", ""),
        ("executive-team", "Hi, what can you do?", "We are three", ""),
        ("executive-team", "what does marketing do", "We are three", ""),
        ("executive-team", "How are you?", "We are three", ""),
        ("executive-team", "Thank you, great work", "You are welcome", ""),
        ("executive-team", "Never mind", "Then nothing happens", ""),
        ("executive-team", "How much does it cost?", "The price is not decided", ""),
        ("executive-team", "Bye", "Goodbye", ""),
        ("executive-team", "What is the meaning of life?", "have marketing prepare its launch", ""),
        ("executive-team", "asdf", "have engineering estimate something", ""),
        ("marketing-team", "Who is it for?", "at the kitchen table", ""),
        ("marketing-team", "What can you do?", "a researcher, a strategist and a copywriter", ""),
        ("marketing-team", "How far are you?", "The message is found", ""),
        ("marketing-team", "What about the price?", "the executives' decision", ""),
        ("marketing-team", "Write the brief", "# Campaign brief", ""),
        ("marketing-team", "Thanks", "Thank you", ""),
        ("marketing-team", "What is the meaning of life?", "a campaign brief for a launch", ""),
        ("marketing-brand-team", "We need a slogan", "“Your evening, in better light.”", ""),
        ("marketing-brand-team", "What can you do?", "an editor and a sceptical reader", ""),
        ("marketing-brand-team", "Thanks", "as rule three says", ""),
        ("marketing-brand-team", "What is the meaning of life?", "Ask us for the tone of voice", ""),
        ("engineering-team", "What is the status of the lamp?", "The lamp is ready but for one thing", ""),
        ("engineering-team", "The lamp is broken", "**Most likely:**", ""),
        ("engineering-team", "Who are you?", "We are a lead and a tester", ""),
        ("engineering-team", "Thanks", "You are welcome", ""),
        ("engineering-team", "What is the meaning of life?", "I cannot give you a number for that", ""),
    ],
)
async def test_what_people_say_first(
    organisation: Organisation, team: str, says: str, answers: str, target: str
) -> None:
    async with organisation.chat(team) as chat:
        turn = await chat.say(says)
    assert answers in turn.text
    assert [preview["target"] for preview in turn.previews] == ([f"{target}-team"] if target else [])
    reads_well(turn.text)


def test_every_team_has_evals() -> None:
    assert {file.parts[-3] for file in EVALS} == set(TEAMS)


@pytest.mark.parametrize("name", TEAMS)
async def test_evals_are_true(organisation: Organisation, name: str) -> None:
    [team] = find_project(ROOT).select([name])
    target = Target(name, organisation.url(name), lambda user: organisation.token(name, user))
    with Judges(team, Settings()) as judges:
        report = await evaluate(conversations_of(team), target, judges.judge)
    wrong = [line for conversation in report.conversations for line in failures(conversation)]
    assert wrong == []
    for session in report.sessions():
        for turn in session.turns:
            reads_well(turn.reply.text)
