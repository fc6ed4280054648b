"""How a team is talked to: by its chat, or where it has none by A2A."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx

from elf_sdk.evals.chat import Chat, open_chat
from elf_sdk.evals.tasks import Tasks

__all__ = ["open_talk"]

_SECONDS: Final = 20.0
"""For a request that is no stream."""


@asynccontextmanager
async def open_talk(url: str, token: str) -> AsyncGenerator[Chat | Tasks, None]:
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
