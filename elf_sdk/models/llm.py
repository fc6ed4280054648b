"""Where a team's model is: `llm:` of the spec resolved to an address and a key.

Pure but for the key, which comes from the settings (a mounted file or the environment), never from the spec.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from elf_sdk.errors import Missing
from elf_sdk.settings import Settings, key_variable
from elf_sdk.team.kinds import duration_seconds
from elf_sdk.team.work import LLM

__all__ = ["KEYLESS", "Endpoint", "resolve"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An OpenAI-compatible address, or a provider's own one, with all that a client needs.

    Attributes:
        provider: as in the spec; frameworks choose their own client by it.
        model: the provider's name of the model.
        base_url: address of the API, without a trailing slash.
        api_key: never printed.
        temperature: 0 to 2.
        timeout: seconds for one call.
        retries: further tries of one call.
    """

    provider: str
    model: str
    base_url: str
    api_key: str = field(repr=False)
    temperature: float = 0.2
    timeout: float = 60.0
    retries: int = 2


_BASE_URLS: Final = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "openrouter": "https://openrouter.ai/api/v1",
    "ollama": "http://127.0.0.1:11434/v1",
}
KEYLESS: Final = frozenset({"offline", "ollama"})
"""Providers that need no key."""


def resolve(llm: LLM, settings: Settings, *, offline_url: str | None = None) -> Endpoint:
    """The endpoint for `llm`.

    Args:
        llm: from the spec.
        settings: where keys come from.
        offline_url: address of the running offline model, needed where the provider is `offline`.

    Raises:
        Missing: there is no key for the provider; the message names the variable to set.
    """
    if llm.provider == "offline":
        if offline_url is None:
            raise Missing(
                "the offline model is not running; start it with `elf model serve`, or let the team's server do it"
            )
        base_url = offline_url
    else:
        base_url = str(llm.base_url or _BASE_URLS[llm.provider])
    key = settings.model_keys.get(llm.provider, "")
    if not key and llm.provider not in KEYLESS and llm.provider != "compatible":
        variable = key_variable(llm.provider)
        raise Missing(
            f"there is no key for the provider {llm.provider!r}; "
            f"set {variable}, or mount it as a file and set {variable}_FILE"
        )
    return Endpoint(
        provider=llm.provider,
        model=llm.model,
        base_url=base_url.rstrip("/"),
        api_key=key or "not-needed",
        temperature=llm.temperature,
        timeout=duration_seconds(llm.timeout),
        retries=llm.retries,
    )
