"""`llm:` resolved: addresses, keys and fallbacks."""

import pickle
from pathlib import Path

import pytest

from elf_sdk.errors import BadInput, Missing
from elf_sdk.models.llm import resolve
from elf_sdk.settings import load_settings
from elf_sdk.team.work import LLM

KEY = "a-key-of-openai"


def _llm(text: dict[str, object]) -> LLM:
    return LLM.model_validate(text)


@pytest.mark.parametrize(
    ("provider", "base_url", "key"),
    [
        ("openai", "https://api.openai.com/v1", "k-openai"),
        ("anthropic", "https://api.anthropic.com", "k-anthropic"),
        ("openrouter", "https://openrouter.ai/api/v1", "k-openrouter"),
        ("ollama", "http://127.0.0.1:11434/v1", "not-needed"),
        ("offline", "http://127.0.0.1:9/v1", "not-needed"),
    ],
)
def test_each_provider_has_its_address(provider: str, base_url: str, key: str) -> None:
    environ = {f"{name.upper()}_API_KEY": f"k-{name}" for name in ("openai", "anthropic", "openrouter")}
    endpoint = resolve(
        _llm({"provider": provider, "model": "m"}), load_settings(environ), offline_url="http://127.0.0.1:9/v1"
    )
    assert (endpoint.base_url, endpoint.key(), endpoint.fallbacks) == (base_url, key, ())


def test_fallbacks_have_their_own_keys_and_settings() -> None:
    llm = _llm(
        {
            "provider": "openai",
            "model": "a",
            "fallbacks": [
                {
                    "provider": "anthropic",
                    "model": "b",
                    "retries": 0,
                    "fallbacks": [{"provider": "ollama", "model": "c"}],
                },
                {"provider": "compatible", "model": "d", "base_url": "http://x/v1/", "timeout": "5s"},
            ],
        }
    )
    settings = load_settings({"OPENAI_API_KEY": KEY, "ANTHROPIC_API_KEY": "b-key"})
    endpoint = resolve(llm, settings)
    assert [(e.model, e.api_key, e.retries, e.timeout) for e in endpoint.chain()] == [
        ("a", KEY, 2, 60.0),
        ("b", "b-key", 0, 60.0),
        ("c", "not-needed", 2, 60.0),
        ("d", "not-needed", 2, 5.0),
    ]
    assert KEY not in repr(endpoint)
    assert "b-key" not in repr(endpoint)
    assert pickle.loads(pickle.dumps(endpoint)) == endpoint  # noqa: S301 - our own bytes


def test_a_key_that_a_fallback_misses_is_told_at_the_start() -> None:
    llm = _llm({"provider": "openai", "model": "a", "fallbacks": [{"provider": "openrouter", "model": "b"}]})
    with pytest.raises(Missing, match="no key for the provider 'openrouter'; set OPENROUTER_API_KEY, or mount it"):
        resolve(llm, load_settings({"OPENAI_API_KEY": KEY}))


def test_a_key_in_a_file_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("first\n")
    monkeypatch.chdir(tmp_path)
    endpoint = resolve(_llm({"provider": "openai", "model": "a"}), load_settings({"OPENAI_API_KEY_FILE": "key"}))
    monkeypatch.chdir("/")
    assert endpoint.key() == "first"
    # As a kubelet does it: another file takes the name.
    (tmp_path / "new").write_text("second\n")
    (tmp_path / "new").replace(tmp_path / "key")
    assert pickle.loads(pickle.dumps(endpoint)).key() == "second"  # noqa: S301 - our own bytes


@pytest.mark.parametrize("key", ["two\nlines", "a\ttab", "schlüssel"])
def test_what_is_no_key_is_refused_and_not_quoted(key: str) -> None:
    with pytest.raises(BadInput, match="OPENAI_API_KEY or OPENAI_API_KEY_FILE has line breaks") as raised:
        resolve(_llm({"provider": "openai", "model": "a"}), load_settings({"OPENAI_API_KEY": key}))
    assert key not in str(raised.value)
