"""The two APIs of models, and a request to one model made into the same request to another. Decides without I/O.

Sources: OpenAI's API reference, "Create chat completion"; Anthropic's API reference, "Create a Message", and its page
"OpenAI SDK compatibility".
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

import orjson

from elf_sdk.models.llm import Endpoint

__all__ = ["KEY_HEADERS", "Dialect", "address", "credential", "retold"]


class Dialect(Enum):
    """An API that a request speaks, by the end of its path."""

    COMPLETIONS = "/chat/completions"
    """OpenAI's, which all providers have."""
    MESSAGES = "/v1/messages"
    """Anthropic's own."""
    OTHER = ""
    """Anything else, such as a list of models: it means nothing to another model."""

    @classmethod
    def of(cls, path: str) -> Dialect:
        """The API of a request to this path."""
        return next(dialect for dialect in cls if path.endswith(dialect.value))

    def suits(self, endpoint: Endpoint) -> bool:
        """Whether a request that was made for one model can be made to this one."""
        return self is Dialect.COMPLETIONS or (self is Dialect.MESSAGES and endpoint.provider == "anthropic")


_OWN_KEY: Final = "x-api-key"
KEY_HEADERS: Final = (_OWN_KEY, "api-key", "x-goog-api-key")
"""Headers that hold a key at some provider, beside `authorization`, which HTTP clients know."""


def address(endpoint: Endpoint, dialect: Dialect) -> str:
    """Where requests go."""
    # Anthropic's own API has the OpenAI-compatible one beside it, under /v1.
    beside = endpoint.provider == "anthropic" and dialect is Dialect.COMPLETIONS
    return f"{endpoint.base_url}{'/v1' if beside else ''}{dialect.value}"


def credential(endpoint: Endpoint, dialect: Dialect) -> dict[str, str]:
    """The headers that prove who asks, with the key as it is now; empty ones are to be left out."""
    key = endpoint.key()
    if dialect is Dialect.COMPLETIONS or endpoint.provider != "anthropic":
        return {"authorization": f"Bearer {key}", _OWN_KEY: ""}
    return {"authorization": "", _OWN_KEY: key}


def retold(body: bytes, first: Endpoint, other: Endpoint) -> bytes:
    """A request's body for another model than the `first` one, which it was made for.

    Model and temperature become the other's; a temperature that is not the first one's was chosen by the team's code,
    and stays.
    """
    try:
        request: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
    if not isinstance(request, Mapping):
        return body
    changed = {**request, "model": other.model}
    if request.get("temperature") == first.temperature:
        changed["temperature"] = other.temperature
    return orjson.dumps(changed)
