"""Settings from an environment: defaults, files for secrets, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from elf_sdk.errors import BadInput
from elf_sdk.settings import Settings, load_settings


def test_an_empty_environment_gives_the_defaults() -> None:
    assert load_settings({}) == Settings()


def test_a_secret_in_a_file_goes_before_the_variable_and_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k" * 40 + "\n")
    settings = load_settings(
        {
            "JWT_SECRET_KEY": "v" * 40,
            "JWT_SECRET_KEY_FILE": str(tmp_path / "key"),
            "OPENAI_API_KEY": "from the variable",
        }
    )
    assert settings.jwt_secret == "k" * 40
    assert settings.model_keys == {"openai": "from the variable"}
    assert "kkk" not in repr(settings)
    assert "from the variable" not in repr(settings)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"ELF_PORT": "http"}, "ELF_PORT is 'http'; set it to a port number from 0 to 65535"),
        ({"ELF_PORT": "65536"}, "ELF_PORT is '65536'"),
        ({"ELF_LOG_LEVEL": "loud"}, "ELF_LOG_LEVEL is 'loud'; set it to debug, info, warning, error"),
        ({"ELF_METRICS_PORT": "-1"}, "ELF_METRICS_PORT is '-1'; set it to a port number from 0 to 65535"),
        ({"ELF_LOG_FORMAT": "xml"}, "ELF_LOG_FORMAT is 'xml'; set it to json or text"),
        ({"ELF_QUERY_TOKEN": "yes"}, "ELF_QUERY_TOKEN is 'yes'; set it to on or off"),
        ({"JWT_SECRET_KEY": "short"}, "JWT_SECRET_KEY has 5 bytes; HS256 needs at least 32"),
        ({"OPENAI_API_KEY_FILE": "/nowhere/key"}, "OPENAI_API_KEY_FILE names '/nowhere/key', which cannot be read"),
    ],
)
def test_what_cannot_be_used_is_named(variables: dict[str, str], message: str) -> None:
    with pytest.raises(BadInput) as caught:
        load_settings(variables)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("environment", "switch", "taken"),
    [("dev", "", True), ("prod", "", False), ("prod", "ON", True), ("dev", "off", False)],
)
def test_tokens_in_addresses_are_for_dev_unless_switched(environment: str, switch: str, taken: bool) -> None:
    assert load_settings({"ELF_ENVIRONMENT": environment, "ELF_QUERY_TOKEN": switch}).takes_query_token is taken
