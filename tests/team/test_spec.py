from __future__ import annotations

import pytest
from pydantic import ValidationError

from elf_sdk.team.deployment import Autoscaling
from elf_sdk.team.kinds import duration_seconds
from elf_sdk.team.spec import EnvironmentOverride, TeamSpec
from elf_sdk.team.work import LLM, Member, Runs

LEAD = Member(role="Lead", is_manager=True)


def test_an_environment_merges_field_by_field_and_lists_whole() -> None:
    spec = TeamSpec(
        name="a-team",
        members=(LEAD,),
        llm=LLM(provider="openai", model="big", retries=5),
        autoscaling=Autoscaling(max_replicas=4),
        environments={
            "prod": EnvironmentOverride(
                namespace="elsewhere", replicas=3, llm=LLM(model="small"), autoscaling=Autoscaling(enabled=True)
            )
        },
    )
    prod = spec.for_environment("prod")
    assert (prod.llm.provider, prod.llm.model, prod.llm.retries) == ("openai", "small", 5)
    assert (prod.autoscaling.enabled, prod.autoscaling.max_replicas, prod.replicas) == (True, 4, 3)
    assert prod.environments == {}
    assert spec.for_environment("dev").llm == spec.llm
    assert spec.for_environment("dev").replicas is None


def test_an_override_may_lean_on_what_the_team_says() -> None:
    spec = TeamSpec.model_validate(
        {
            "name": "a-team",
            "members": [{"role": "Lead", "is_manager": True}],
            "llm": {"base_url": "http://127.0.0.1:1/v1"},
            "secrets": [{"name": "KEY", "from": {"secret": "s", "key": "k"}, "as": "variable"}],
            "environments": {"prod": {"llm": {"provider": "compatible", "model": "m"}}},
        }
    )
    assert spec.for_environment("prod").llm.base_url == "http://127.0.0.1:1/v1"
    assert spec.for_environment("prod").secrets == spec.secrets


def test_a_spec_in_python_is_checked_whole_and_told_everything() -> None:
    with pytest.raises(ValidationError) as caught:
        TeamSpec(
            name="a-team",
            members=(Member(role="Lead"),),
            peers=("a-team",),
            environments={"prod": EnvironmentOverride(runs=Runs(store="ephemeral"), replicas=2)},
        )
    text = str(caught.value)
    assert "members: no member leads the team; write is_manager: true at one of them; peers[0]: a team cannot" in text
    assert "environments.prod.runs.store: an ephemeral store serves one replica only" in text


def test_a_spec_is_a_value() -> None:
    spec = TeamSpec(name="a-team", members=(LEAD,))
    with pytest.raises(ValidationError, match="frozen"):
        spec.name = "b-team"  # type: ignore[misc] # that this is refused is what is tested
    assert spec == TeamSpec(name="a-team", members=(LEAD,))
    assert (spec.title, spec.manager, spec.department) == ("a-team", LEAD, "standalone")


@pytest.mark.parametrize(
    ("text", "seconds"), [("250ms", 0.25), ("30s", 30), ("5m", 300), ("2h", 7200), ("30d", 2_592_000)]
)
def test_durations(text: str, seconds: float) -> None:
    assert duration_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "-5m", "1.5h", "٣s", "5m\n", "9" * 5000 + "s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration; write a whole number and a unit, such as 30s, 5m or 2h"):
        duration_seconds(text)


@pytest.mark.parametrize(
    ("version", "right"),
    [
        ("1.2.3", True),
        ("0.0.0-rc-1.0", True),
        ("1.0.0-0a", True),
        ("1.0.0-01", False),
        ("1.0.0+build", False),
        ("01.0.0", False),
        ("1.0", False),
        ("v1.0.0", False),
        ("1.0.0-", False),
        ("1.0.0\n", False),
    ],
)
def test_versions_are_those_that_charts_and_image_tags_can_carry(version: str, right: bool) -> None:
    if right:
        assert TeamSpec(name="a-team", members=(LEAD,), version=version).version == version
    else:
        with pytest.raises(ValidationError, match="is no semantic version; write three numbers such as 1"):
            TeamSpec(name="a-team", members=(LEAD,), version=version)
