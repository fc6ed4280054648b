"""A2A's ways in: over HTTP the public card, and both bindings behind a bearer token; and gRPC where it is on."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from elf_sdk.errors import Missing
from elf_sdk.runs.engine import Engine
from elf_sdk.server.a2a.card import A2A_PATH, CARD_PATH
from elf_sdk.server.a2a.compat import Compatible
from elf_sdk.server.a2a.dispatch import (
    EXTENDED_CARD,
    REST,
    Call,
    ExtendedCardEndpoint,
    Guard,
    Operation,
    RestEndpoint,
    RpcEndpoint,
    operations,
)
from elf_sdk.server.a2a.handler import Handler, Json
from elf_sdk.server.a2a.measured import measured, measured_compatible
from elf_sdk.server.a2a.push import PushSender
from elf_sdk.server.address import Address
from elf_sdk.server.auth import Principal
from elf_sdk.server.metrics.process import Metrics
from elf_sdk.server.metrics.team import TeamMetrics

if TYPE_CHECKING:
    from elf_sdk.server.a2a.grpc_service import GrpcService

__all__ = ["MAX_BODY", "a2a_grpc", "a2a_routes"]

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
    address: Address | None = None,
    compatible: bool = True,
    idempotent: bool = True,
    max_body: int = MAX_BODY,
    push: PushSender | None = None,
    metrics: TeamMetrics | None = None,
) -> list[Route]:
    """All routes of A2A for one team, to be put at the team's root.

    Args:
        engine: runs the team's work.
        card_factory: the card for a base URL.
        authenticate: the caller of a request; raises `Unauthenticated` or `Forbidden`.
        extended_card: the extended card for a base URL; by default the public one.
        callers: names of the teams that may call; people are let in whatever it holds.
        address: where the team is; by default as the request says.
        compatible: whether clients of 0.3 are answered.
        idempotent: as `Handler` has it.
        max_body: bytes in a request's body; more is answered with 413.
        push: sends push notifications; None where there are none.
        metrics: where requests are counted; None counts them for nobody.
    """
    guard = Guard(authenticate, callers, max_body)
    handler = Handler(engine, push, idempotent=idempotent)
    known = operations(handler)
    where = address or Address()
    metrics = metrics or Metrics().team(engine.spec.name)

    def counted(operation: str, binding: str) -> Operation:
        return measured(operation, known[operation], binding, metrics)

    def extended(request: Request) -> dict[str, Any]:
        return (extended_card or card_factory)(where.of(request))

    old = measured_compatible(Compatible(handler, extended), metrics) if compatible else None
    rpc = RpcEndpoint(guard, {operation: counted(operation, "jsonrpc") for operation in known}, old, extended)
    return [
        Route(A2A_PATH, rpc, methods=["POST"]),
        Route(CARD_PATH, _card_endpoint(card_factory, where), methods=["GET"]),
        *(
            Route(A2A_PATH + path, RestEndpoint(guard, counted(operation, "rest")), methods=[method])
            for method, path, operation in REST
        ),
        Route(f"{A2A_PATH}/extendedAgentCard", ExtendedCardEndpoint(guard, extended), methods=["GET"]),
        # Clients that join an address and a path write it like this, and do not follow a redirection of a POST.
        Route(f"{A2A_PATH}/", rpc, methods=["POST"]),
    ]


def a2a_grpc(
    engine: Engine,
    authenticate: Callable[[Request], Awaitable[Principal]],
    extended_card: Callable[[], dict[str, Any]],
    *,
    host: str,
    port: int,
    callers: frozenset[str] = frozenset(),
    idempotent: bool = True,
    max_message: int = MAX_BODY,
    push: PushSender | None = None,
    metrics: TeamMetrics | None = None,
) -> GrpcService:
    """A2A over gRPC for one team, on a port that is bound and does not answer yet.

    Args:
        engine: runs the team's work.
        authenticate: as for `a2a_routes`; a call's metadata are the headers of its request.
        extended_card: the extended card; a call does not say which address it was sent to.
        host: the address to listen on.
        port: to listen on; 0 takes any that is free.
        callers: as for `a2a_routes`.
        idempotent: as `Handler` has it.
        max_message: bytes in a request; more is answered with RESOURCE_EXHAUSTED.
        push: as for `a2a_routes`.
        metrics: as for `a2a_routes`.

    Raises:
        Missing: gRPC is not installed.
        BadInput: the port is taken or not ours.
    """
    if importlib.util.find_spec("grpc") is None:
        raise Missing("ELF_GRPC_PORT is set, but gRPC is not installed; pip install 'elf-sdk[grpc]', or unset it")
    # gRPC and the types are 25 MB, which a server without it never needs.
    from elf_sdk.server.a2a.grpc_service import GrpcService

    async def card(params: Json, call: Call) -> Json:
        return extended_card()

    metrics = metrics or Metrics().team(engine.spec.name)
    known = {
        name: measured(name, operation, "grpc", metrics)
        for name, operation in operations(Handler(engine, push, idempotent=idempotent)).items()
    }
    known[EXTENDED_CARD] = card
    return GrpcService(Guard(authenticate, callers, max_message), known, host, port, max_message)


def _card_endpoint(card_factory: Callable[[str], dict[str, Any]], address: Address) -> Endpoint:
    # Bounded, because the address comes from the request.
    @lru_cache(maxsize=64)
    def render(url: str) -> tuple[bytes, str]:
        body = orjson.dumps(card_factory(url), option=orjson.OPT_SORT_KEYS)
        return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'

    # A card changes with the process that serves it.
    made = formatdate(usegmt=True)

    async def card(request: Request) -> Response:
        body, etag = render(address.of(request))
        headers = {
            "ETag": etag,
            "Last-Modified": made,
            "Cache-Control": f"public, max-age={_CARD_SECONDS}",
            "Vary": "Host",
        }
        known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if etag in known or "*" in known:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="application/json", headers=headers)

    return card
