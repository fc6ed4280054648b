"""The environment variables by which programs that make their own clients find the team's model.

Providers' and frameworks' clients that are given neither an address nor a key read them there. In the processes of
runs they are lent what `llm:` says, where nobody has set them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from typing import Final

from elf_sdk.models.llm import BASE_URLS, Endpoint

__all__ = ["NAME_IT", "Variables", "found_no_key", "lend", "variables_of"]

Variables = Mapping[str, Mapping[str, str]]
"""Names and values, by the API whose clients read them: `OPENAI` or `ANTHROPIC`."""

_DECIDING: Final = {
    "OPENAI": ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE"),
    "ANTHROPIC": ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "ANTHROPIC_API_URL"),
}
"""Keys and addresses. They go together: a key must reach no other address than the one that it is for."""


NAME_IT: Final = (
    "a client that the code makes by itself found no key; set the variable that it reads, or name the crew or graph "
    'for the adapter instead of importing it ("shop.graph:graph"), and it finds the team\'s model'
)
"""What to do where `found_no_key`."""
_NO_KEY: Final = re.compile("Could not resolve authentication method|Missing credentials|API_KEY is required")


def found_no_key(error: BaseException) -> bool:
    """Whether it is what OpenAI's, Anthropic's or CrewAI's clients raise that find no key."""
    return _NO_KEY.search(str(error)) is not None


def variables_of(endpoint: Endpoint) -> Variables:
    """What clients would have to find for a model and its fallbacks; the first of each API counts."""
    found: dict[str, Mapping[str, str]] = {}
    for model in endpoint.chain():
        if model.provider != "anthropic":
            found.setdefault("OPENAI", _for_openai(model))
        if model.provider in ("anthropic", "offline"):
            found.setdefault("ANTHROPIC", _for_anthropic(model))
    return found


def _for_openai(model: Endpoint) -> Mapping[str, str]:
    # CrewAI's own name for the model of agents that name none; the prefix tells it the API.
    given = {"OPENAI_API_KEY": model.key(), "OPENAI_MODEL_NAME": f"openai/{model.model}"}
    # LangChain asks for the usage of a stream only where it is told no address.
    if model.base_url == BASE_URLS["openai"]:
        return given
    return given | {"OPENAI_BASE_URL": model.base_url, "OPENAI_API_BASE": model.base_url}


def _for_anthropic(model: Endpoint) -> Mapping[str, str]:
    given = {"ANTHROPIC_API_KEY": model.key()}
    if model.base_url == BASE_URLS["anthropic"]:
        return given
    return given | {"ANTHROPIC_BASE_URL": model.base_url.removesuffix("/v1")}


def lend(variables: Variables, environ: MutableMapping[str, str]) -> frozenset[str]:
    """Set them in `environ`, API by API; where there is another key or address for one, it is left alone.

    Returns:
        The names of those that were set.
    """
    lent: set[str] = set()
    for api, values in variables.items():
        if any(environ.get(name, values.get(name)) != values.get(name) for name in _DECIDING[api]):
            continue
        for name in values.keys() - environ.keys():
            environ[name] = values[name]
            lent.add(name)
    return frozenset(lent)
