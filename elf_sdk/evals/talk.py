"""How a team is talked to: by its chat, or where it has none by A2A."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

import httpx

from elf_sdk.evals.chat import open_chat
from elf_sdk.evals.reply import Reply
from elf_sdk.evals.tasks import Tasks

__all__ = ["Talk", "open_talk"]

_SECONDS: Final = 20.0
"""For a request that is no stream."""


class Talk(Protocol):
    """A conversation that goes on: what a person does in a turn, and what comes back to it.

    Every method raises ElfError where the team is not reached any more, or does not let the user in.

    Attributes:
        image: digest of the image that answers, as the team says; empty where it says none.
    """

    image: str

    async def say(self, text: str, time_limit: float) -> Reply:
        """Send a message, and take what comes back until the team is done, or for so many seconds."""

    async def answer(self, text: str, time_limit: float) -> Reply:
        """Answer the question that the team asked last."""

    async def confirm(self, team: str, time_limit: float) -> Reply:
        """Confirm the work that was proposed to a team last."""

    async def reject(self, team: str, reason: str, time_limit: float) -> Reply:
        """Refuse the work that was proposed to a team last."""


@asynccontextmanager
async def open_talk(url: str, token: str) -> AsyncGenerator[Talk, None]:
    """A conversation with the team at `url`, which ends with the block.

    Raises:
        BadInput: the address is none.
        NotFound: there is no team.
        Denied: the team does not let the user in.
        Retryable: nobody serves there.
    """
    base = url.rstrip("/")
    headers = {"Authorization": f"Bearer {token}", "A2A-Version": "1.0"}
    async with httpx.AsyncClient(headers=headers, timeout=_SECONDS) as http:
        health = await _health(http, base)
        if health.get("chat_enabled", True):
            async with open_chat(http, base, token) as chat:
                yield chat
        else:
            tasks = Tasks(http, base, str(health.get("image", "")))
            await tasks.begin()
            yield tasks


async def _health(http: httpx.AsyncClient, base: str) -> Mapping[str, Any]:
    """What the team says of itself; nothing where that cannot be read, and then the chat says what is wrong."""
    try:
        body = (await http.get(f"{base}/health")).json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return {}
    return body if isinstance(body, dict) else {}
