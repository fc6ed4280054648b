"""What another team's card says, as far as calling it goes: fetched once, kept with its ETag, and looked at again."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from elf_sdk.errors import Failure, Retryable
from elf_sdk.server.a2a.card import A2A_PATH, CARD_PATH, IDEMPOTENT_MESSAGE_ID
from elf_sdk.server.a2a.connection import Connection

__all__ = ["Discovery", "RemoteCard"]

_MAX_AGE: Final = re.compile(r"max-age=(\d{1,9})")
_FRESH: Final = (60, 3600)
"""Seconds for which a card is not asked for again: where its server does not say, and at most."""


@dataclass(frozen=True, slots=True)
class RemoteCard:
    """A team, as its card says.

    Attributes:
        name: the team's own.
        url: of its JSON-RPC.
        streaming: whether it streams.
        idempotent: whether it takes a message that is sent again for the same message.
    """

    name: str
    url: str
    streaming: bool
    idempotent: bool


class Discovery:
    """Where and how a team can be called.

    Args:
        connection: to the team.
        base_url: of the team, without a slash at the end.
        where: what it is called in messages to people.
    """

    def __init__(self, connection: Connection, base_url: str, where: str) -> None:
        self._connection = connection
        self._base_url = base_url
        self._where = where
        self._card: RemoteCard | None = None
        self._etag = ""
        self._fresh_until = 0.0

    async def card(self) -> RemoteCard:
        """The team's card, at most as old as its server lets it be.

        Raises:
            Retryable: the team cannot be reached, and its card is not known yet.
            Failure: there is none, or it names no way that we could go.
        """
        if self._card is not None and time.monotonic() < self._fresh_until:
            return self._card
        headers = {"Accept": "application/json", **({"If-None-Match": self._etag} if self._etag else {})}
        try:
            response = await self._connection.document(self._base_url + CARD_PATH, headers)
        except Retryable:
            if self._card is None:
                raise
            # What is asked of the team next will find out by itself whether it is there.
            return self._card
        if response.status_code == 200 or self._card is None:
            self._card = self._read(response.content)
            self._etag = response.headers.get("etag", "")
        self._fresh_until = time.monotonic() + _lifetime(response.headers.get("cache-control", ""))
        return self._card

    def _read(self, body: bytes) -> RemoteCard:
        try:
            card = orjson.loads(body)
            extensions = (card.get("capabilities") or {}).get("extensions") or []
            idempotent = any(extension.get("uri") == IDEMPOTENT_MESSAGE_ID for extension in extensions)
            return RemoteCard(
                name=str(card["name"]),
                url=self._interface(card.get("supportedInterfaces") or [], idempotent),
                streaming=(card.get("capabilities") or {}).get("streaming") is True,
                idempotent=idempotent,
            )
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise Failure(f"{self._where} gave an answer that is not A2A: its card cannot be read") from error

    def _interface(self, interfaces: list[dict[str, Any]], idempotent: bool) -> str:
        fitting = [
            interface["url"]
            for interface in interfaces
            if interface.get("protocolBinding") == "JSONRPC" and interface.get("protocolVersion") == "1.0"
        ]
        for url in fitting:
            if _origin(url) == _origin(self._base_url):
                return str(url)
        if fitting and idempotent:
            # A team's card may name its public address while we call it inside the cluster; the path is the same.
            return f"{self._base_url}{A2A_PATH}"
        # Our token must not go where a card says, only where we were told to send it.
        raise Failure(f"the card of {self._where} names no JSON-RPC interface of A2A 1.0 at that address")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _lifetime(cache_control: str) -> float:
    usual, most = _FRESH
    found = _MAX_AGE.search(cache_control)
    return min(int(found[1]), most) if found else usual
