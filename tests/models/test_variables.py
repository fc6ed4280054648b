"""What clients of a team's own code find in the environment."""

from __future__ import annotations

import pytest

from elf_sdk.models.llm import Endpoint
from elf_sdk.models.variables import lend, variables_of

OFFLINE = Endpoint("offline", "offline", "http://127.0.0.1:9/shop/v1", "not-needed")
GATEWAY = Endpoint("openai", "gpt-x", "https://gateway.example/v1", "key-one")
CLAUDE = Endpoint("anthropic", "claude-x", "https://api.anthropic.com", "key-two")


def test_the_offline_model_is_found_by_clients_of_both_apis() -> None:
    environ: dict[str, str] = {}
    lent = lend(variables_of(OFFLINE), environ)
    assert environ == {
        "OPENAI_API_KEY": "not-needed",
        "OPENAI_BASE_URL": "http://127.0.0.1:9/shop/v1",
        "OPENAI_API_BASE": "http://127.0.0.1:9/shop/v1",
        "OPENAI_MODEL_NAME": "openai/offline",
        "ANTHROPIC_API_KEY": "not-needed",
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:9/shop",
    }
    assert lent == environ.keys()


def test_a_fallback_of_another_api_is_found_as_well() -> None:
    environ: dict[str, str] = {}
    lend(
        variables_of(Endpoint("openai", "gpt-x", "https://gateway.example/v1", "key-one", fallbacks=(CLAUDE,))), environ
    )
    assert (environ["OPENAI_API_KEY"], environ["ANTHROPIC_API_KEY"]) == ("key-one", "key-two")


def test_a_providers_own_address_is_known_to_its_clients() -> None:
    environ: dict[str, str] = {}
    lend(
        variables_of(Endpoint("openai", "gpt-x", "https://api.openai.com/v1", "key-one", fallbacks=(CLAUDE,))), environ
    )
    assert environ == {
        "OPENAI_API_KEY": "key-one",
        "OPENAI_MODEL_NAME": "openai/gpt-x",
        "ANTHROPIC_API_KEY": "key-two",
    }
    elsewhere = {"OPENAI_BASE_URL": "https://a.example/v1"}
    assert lend(variables_of(Endpoint("openai", "gpt-x", "https://api.openai.com/v1", "key-one")), elsewhere) == set()


def test_one_provider_has_nothing_for_the_clients_of_the_other() -> None:
    assert [*variables_of(GATEWAY), *variables_of(CLAUDE)] == ["OPENAI", "ANTHROPIC"]


def test_the_teams_own_key_may_be_there_already() -> None:
    environ = {"OPENAI_API_KEY": "key-one"}
    assert lend(variables_of(GATEWAY), environ) == {"OPENAI_BASE_URL", "OPENAI_API_BASE", "OPENAI_MODEL_NAME"}
    assert environ["OPENAI_BASE_URL"] == "https://gateway.example/v1"


@pytest.mark.parametrize(
    "own",
    [
        {"OPENAI_API_KEY": "of the author", "ANTHROPIC_API_KEY": "of the author"},
        {"OPENAI_API_BASE": "https://a.example/v1", "ANTHROPIC_API_URL": "https://b.example"},
        {"OPENAI_BASE_URL": "https://a.example/v1", "ANTHROPIC_AUTH_TOKEN": "of the author"},
    ],
)
def test_a_key_never_meets_an_address_that_it_is_not_for(own: dict[str, str]) -> None:
    environ = dict(own)
    assert lend(variables_of(OFFLINE), environ) == frozenset()
    assert environ == own


def test_a_model_that_the_author_names_stays() -> None:
    environ = {"OPENAI_MODEL_NAME": "openai/gpt-y"}
    assert "OPENAI_MODEL_NAME" not in lend(variables_of(OFFLINE), environ)
    assert environ["OPENAI_MODEL_NAME"] == "openai/gpt-y"
