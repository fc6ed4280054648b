"""One thing asked of a team, by somebody who is no team: a person at a shell, or the test of a deployment."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

from elf_sdk.errors import Failure, Retryable
from elf_sdk.server.a2a.client import TeamClient

__all__ = ["ask"]

_CONNECT: Final = 30.0
"""Seconds for a connection."""


async def ask(
    url: str, token: str, text: str, *, team: str = "", within: float = 300.0, write: Callable[[str], None]
) -> bool:
    """Send `text` as one message of A2A, and pass on what the team says as it comes.

    Args:
        url: the team's base URL.
        token: for that team.
        text: what is asked.
        team: its name, for messages to people.
        within: seconds for the answer.
        write: is given each piece of the answer; what it had before is void where the team begins anew.

    Returns:
        Whether that is the answer; False where the team asks something before it goes on.

    Raises:
        Denied: the team does not let us in.
        Retryable: the team is out of reach, or failed in a way that may pass.
        Failure: it failed, or did not answer in time.
    """
    import httpx

    async with httpx.AsyncClient(timeout=httpx.Timeout(_CONNECT, read=None)) as http:
        client = TeamClient(url, lambda: token, http, team=team)
        async for update in client.send(text, message_id=secrets.token_hex(16), deadline=within):
            if update.text_delta:
                write(update.text_delta)
            if update.question:
                write(update.question)
                return False
            if update.final and update.state != "finished":
                why = f"{team or url} ended as {update.state}: {update.error or 'it does not say why'}"
                raise Retryable(why) if update.retryable else Failure(why)
    return True
