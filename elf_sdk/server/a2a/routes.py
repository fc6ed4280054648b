"""A2A's HTTP routes: the public card, and both bindings behind a bearer token."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from elf_sdk.runs.engine import Engine
from elf_sdk.server.a2a.card import A2A_PATH, CARD_PATH
from elf_sdk.server.a2a.compat import Compatible
from elf_sdk.server.a2a.dispatch import (
    REST,
    ExtendedCardEndpoint,
    Guard,
    RestEndpoint,
    RpcEndpoint,
    operations,
)
from elf_sdk.server.a2a.handler import Handler
from elf_sdk.server.address import base_url
from elf_sdk.server.auth import Principal

__all__ = ["MAX_BODY", "a2a_routes"]

MAX_BODY: Final = 1024 * 1024
"""Bytes in a request's body, by default."""

_CARD_SECONDS: Final = 60

Endpoint = Callable[[Request], Awaitable[Response]]


def a2a_routes(
    engine: Engine,
    card_factory: Callable[[str], dict[str, Any]],
    authenticate: Callable[[Request], Awaitable[Principal]],
    *,
    extended_card: Callable[[str], dict[str, Any]] | None = None,
    callers: frozenset[str] = frozenset(),
    public_url: str = "",
    max_body: int = MAX_BODY,
) -> list[Route]:
    """All routes of A2A for one team, to be put at the team's root.

    Args:
        engine: runs the team's work.
        card_factory: the card for a base URL.
        authenticate: the caller of a request; raises `Unauthenticated` or `Forbidden`.
        extended_card: the extended card for a base URL; by default the public one.
        callers: names of the teams that may call; people are let in whatever it holds.
        public_url: the team's address as others see it; empty: as the request says.
        max_body: bytes in a request's body; more is answered with 413.
    """
    guard = Guard(authenticate, callers, max_body)
    handler = Handler(engine)
    known = operations(handler)

    def extended(request: Request) -> dict[str, Any]:
        return (extended_card or card_factory)(base_url(request, public_url))

    return [
        Route(A2A_PATH, RpcEndpoint(guard, known, Compatible(handler, extended), extended), methods=["POST"]),
        Route(CARD_PATH, _card_endpoint(card_factory, public_url), methods=["GET"]),
        *(
            Route(A2A_PATH + path, RestEndpoint(guard, known[operation]), methods=[method])
            for method, path, operation in REST
        ),
        Route(f"{A2A_PATH}/extendedAgentCard", ExtendedCardEndpoint(guard, extended), methods=["GET"]),
    ]


def _card_endpoint(card_factory: Callable[[str], dict[str, Any]], public_url: str) -> Endpoint:
    # Bounded, because the address comes from the request.
    @lru_cache(maxsize=64)
    def render(url: str) -> tuple[bytes, str]:
        body = orjson.dumps(card_factory(url), option=orjson.OPT_SORT_KEYS)
        return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'

    async def card(request: Request) -> Response:
        body, etag = render(base_url(request, public_url))
        headers = {"ETag": etag, "Cache-Control": f"public, max-age={_CARD_SECONDS}", "Vary": "Host"}
        known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if etag in known or "*" in known:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="application/json", headers=headers)

    return card
