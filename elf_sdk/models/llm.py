"""Where a team's model is: `llm:` of the spec resolved to an address and a key.

Pure but for the keys, which come from the settings (a mounted file or the environment), never from the spec. A file is
read again for each call, because whoever rotates a key cannot restart the team.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from elf_sdk.errors import BadInput, Missing
from elf_sdk.settings import Settings, key_variable
from elf_sdk.team.kinds import duration_seconds
from elf_sdk.team.work import LLM

__all__ = ["BASE_URLS", "KEYLESS", "NO_KEY", "Endpoint", "resolve"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An OpenAI-compatible address, or a provider's own one, with all that a client needs.

    Attributes:
        provider: as in the spec; frameworks choose their own client by it.
        model: the provider's name of the model.
        base_url: address of the API, without a trailing slash.
        api_key: as it was when this was made; never printed. Clients that ask `key` have one that was changed since.
        temperature: 0 to 2.
        timeout: seconds that a call may go without a word from the model.
        retries: further tries of one call.
        key_file: path of the file that holds the key, or empty.
        fallbacks: asked in this order when this one is out of reach.
    """

    provider: str
    model: str
    base_url: str
    api_key: str = field(repr=False)
    temperature: float = 0.2
    timeout: float = 60.0
    retries: int = 2
    key_file: str = ""
    fallbacks: tuple[Endpoint, ...] = ()

    def key(self) -> str:
        """The key as it is now. While its file cannot be read or holds none, the one from the start serves."""
        if not self.key_file:
            return self.api_key
        try:
            key = Path(self.key_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return self.api_key
        return key if _fits_a_header(key) else self.api_key

    def chain(self) -> Iterator[Endpoint]:
        """This model, then its fallbacks with theirs, in the order in which they are asked."""
        yield self
        for fallback in self.fallbacks:
            yield from fallback.chain()


BASE_URLS: Final = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "openrouter": "https://openrouter.ai/api/v1",
    "ollama": "http://127.0.0.1:11434/v1",
}
"""Where providers are, unless `base_url` says otherwise."""
KEYLESS: Final = frozenset({"offline", "ollama"})
"""Providers that need no key."""
NO_KEY: Final = "not-needed"
"""What is sent where there is no key: clients insist on one."""


def resolve(llm: LLM, settings: Settings, *, offline_url: str | None = None) -> Endpoint:
    """The endpoint for `llm`, with all its fallbacks.

    Args:
        llm: from the spec.
        settings: where keys come from.
        offline_url: address of the running offline model, needed where the provider of one of them is `offline`.

    Raises:
        Missing: there is no key for the provider of one of them; the message names the variable to set.
        BadInput: what is there for a key is none.
    """
    if llm.provider == "offline":
        if offline_url is None:
            raise Missing(
                "the offline model is not running; start it with `elf model serve`, or let the team's server do it"
            )
        base_url = offline_url
    else:
        base_url = str(llm.base_url or BASE_URLS[llm.provider])
    key, variable = settings.model_keys.get(llm.provider, ""), key_variable(llm.provider)
    if key and not _fits_a_header(key):
        raise BadInput(
            f"the key in {variable} or {variable}_FILE has line breaks or characters that are no ASCII; "
            "write the key alone"
        )
    if not key and llm.provider not in KEYLESS and llm.provider != "compatible":
        raise Missing(
            f"there is no key for the provider {llm.provider!r}; "
            f"set {variable}, or mount it as a file and set {variable}_FILE"
        )
    return Endpoint(
        provider=llm.provider,
        model=llm.model,
        base_url=base_url.rstrip("/"),
        api_key=key or NO_KEY,
        temperature=llm.temperature,
        timeout=duration_seconds(llm.timeout),
        retries=llm.retries,
        key_file=settings.model_key_files.get(llm.provider, ""),
        fallbacks=tuple(resolve(fallback, settings, offline_url=offline_url) for fallback in llm.fallbacks),
    )


def _fits_a_header(key: str) -> bool:
    # What does not would be quoted in the HTTP client's error.
    return bool(key) and key.isascii() and key.isprintable()
