"""A2A's HTTP routes: the public card, and both bindings behind a bearer token.

What the SDK's dispatchers get has been checked before: who calls, how large the body is, that it is JSON, and that
it says so. Their routes, errors and streams are used as they are.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, Final

import orjson
from a2a.server.context import ServerCallContext
from a2a.server.jsonrpc_models import JSONParseError
from a2a.server.request_handlers.response_helpers import agent_card_to_dict, build_error_response
from a2a.server.routes import ServerCallContextBuilder, create_jsonrpc_routes, create_rest_routes
from a2a.types import AgentCard
from a2a.utils.constants import (
    A2A_JSON_MEDIA_TYPE,
    AGENT_CARD_WELL_KNOWN_PATH,
    PROTOCOL_VERSION_0_3,
    VERSION_HEADER,
)
from a2a.utils.error_handlers import build_rest_error_payload
from a2a.utils.errors import A2AError, ContentTypeNotSupportedError, InvalidRequestError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from typing_extensions import override

from elf_sdk.errors import Denied, Forbidden
from elf_sdk.runs.engine import Engine
from elf_sdk.server.a2a.card import A2A_PATH
from elf_sdk.server.a2a.handler import PRINCIPAL, EngineHandler
from elf_sdk.server.address import base_url
from elf_sdk.server.auth import Principal
from elf_sdk.server.errors import error_response

__all__ = ["MAX_BODY", "a2a_routes"]

MAX_BODY: Final = 1024 * 1024
"""Bytes in a request's body, by default."""

_CARD_SECONDS: Final = 60
_JSON: Final = frozenset({"application/json", A2A_JSON_MEDIA_TYPE})

Endpoint = Callable[[Request], Awaitable[Response]]


def a2a_routes(
    engine: Engine,
    card_factory: Callable[[str], AgentCard],
    authenticate: Callable[[Request], Principal],
    *,
    callers: frozenset[str] = frozenset(),
    public_url: str = "",
    max_body: int = MAX_BODY,
) -> list[Route]:
    """All routes of A2A for one team, to be put at the team's root.

    Args:
        engine: runs the team's work.
        card_factory: the card for a base URL.
        authenticate: the caller of a request; raises `Unauthenticated` or `Forbidden`.
        callers: names of the teams that may call; people are let in whatever it holds.
        public_url: the team's address as others see it; empty: as the request says.
        max_body: bytes in a request's body; more is answered with 413.
    """
    for name in _CHATTY:
        logging.getLogger(name).addFilter(_without_callers_faults)
    guard = _Guard(authenticate, callers, max_body)
    handler = EngineHandler(engine)
    builder = _ContextBuilder()
    rpc = _by_version(
        *(
            create_jsonrpc_routes(handler, A2A_PATH, builder, enable_v0_3_compat=old)[0].endpoint
            for old in (False, True)
        )
    )
    rest = create_rest_routes(handler, builder, path_prefix=A2A_PATH)
    return [
        Route(AGENT_CARD_WELL_KNOWN_PATH, _card_endpoint(card_factory, public_url), methods=["GET"]),
        Route(A2A_PATH, guard.rpc(rpc), methods=["POST"]),
        # The SDK's mount for tenants is left out: there are none here, and it would swallow all other paths.
        *(
            Route(route.path, guard.rest(route.endpoint), methods=sorted(route.methods or ()))
            for route in rest
            if isinstance(route, Route)
        ),
    ]


def _by_version(current: Endpoint, compatible: Endpoint) -> Endpoint:
    """The endpoint that also knows the methods of 0.3, for callers who do not say that they speak a later one."""

    async def choose(request: Request) -> Response:
        old = request.headers.get(VERSION_HEADER, "") in ("", PROTOCOL_VERSION_0_3)
        return await (compatible if old else current)(request)

    return choose


def _card_endpoint(card_factory: Callable[[str], AgentCard], public_url: str) -> Endpoint:
    # Bounded, because the address comes from the request.
    @lru_cache(maxsize=64)
    def render(url: str) -> tuple[bytes, str]:
        body = orjson.dumps(agent_card_to_dict(card_factory(url)), option=orjson.OPT_SORT_KEYS)
        return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'

    async def card(request: Request) -> Response:
        body, etag = render(base_url(request, public_url))
        headers = {"ETag": etag, "Cache-Control": f"public, max-age={_CARD_SECONDS}", "Vary": "Host"}
        known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if etag in known or "*" in known:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="application/json", headers=headers)

    return card


class _ContextBuilder(ServerCallContextBuilder):
    """Passes on who calls and the protocol's version, and no other header: a token has no business further in."""

    @override
    def build(self, request: Request) -> ServerCallContext:
        version = request.headers.get(VERSION_HEADER, "")
        return ServerCallContext(state={PRINCIPAL: request.scope[PRINCIPAL], "headers": {VERSION_HEADER: version}})


class _CheckedRequest(Request):
    """A request whose body was read within its bound, and is JSON or nothing."""

    def __init__(self, request: Request, body: bytes, parsed: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._checked = body
        self._parsed = parsed

    @override
    async def body(self) -> bytes:
        return self._checked

    @override
    async def json(self) -> Any:
        return self._parsed


class _RefusedError(Exception):
    """A request that goes no further.

    Attributes:
        status: of the HTTP answer.
        error: what the binding's body says.
    """

    def __init__(self, status: int, error: A2AError | JSONParseError) -> None:
        super().__init__(error.message)
        self.status = status
        self.error = error


class _Guard:
    """Stands before every endpoint but the card's."""

    def __init__(self, authenticate: Callable[[Request], Principal], callers: frozenset[str], max_body: int) -> None:
        self._authenticate = authenticate
        self._callers = callers
        self._max_body = max_body

    def rpc(self, endpoint: Endpoint) -> Endpoint:
        """An endpoint that gets checked requests only; refusals are JSON-RPC's."""

        async def guarded(request: Request) -> Response:
            try:
                self._admit(request)
                return await endpoint(await self._checked(request))
            except Denied as error:
                return await error_response(request, error)
            except _RefusedError as refused:
                return JSONResponse(build_error_response(None, refused.error), refused.status)

        return guarded

    def rest(self, endpoint: Endpoint) -> Endpoint:
        """The same for HTTP+JSON, where the body is an object or nothing."""

        async def guarded(request: Request) -> Response:
            try:
                self._admit(request)
                checked = await self._checked(request)
                if not isinstance(await checked.json(), dict | None):
                    raise _RefusedError(400, InvalidRequestError("the body must be a JSON object"))
                return await endpoint(checked)
            except Denied as error:
                return await error_response(request, error)
            except _RefusedError as refused:
                # HTTP+JSON has no error of its own for what is not JSON, and no error with status 200.
                said = refused.error if isinstance(refused.error, A2AError) else InvalidRequestError(str(refused))
                payload = build_rest_error_payload(said)
                payload["error"]["code"] = status = 400 if refused.status == 200 else refused.status
                return JSONResponse(payload, status)

        return guarded

    def _admit(self, request: Request) -> None:
        principal = self._authenticate(request)
        if principal.kind == "team" and principal.name not in self._callers:
            raise Forbidden(f"the team {principal.name!r} may not call this one; name each other in both team.yaml")
        request.scope[PRINCIPAL] = principal

    async def _checked(self, request: Request) -> _CheckedRequest:
        body = await self._read(request)
        if not body and request.method != "POST":
            return _CheckedRequest(request, b"", None)
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if body and media_type not in _JSON:
            raise _RefusedError(415, ContentTypeNotSupportedError("Content-Type must be application/json"))
        if not body and request.url.path.endswith((":cancel", ":subscribe")):
            return _CheckedRequest(request, b"", None)
        try:
            return _CheckedRequest(request, body, orjson.loads(body))
        except orjson.JSONDecodeError as error:
            raise _RefusedError(200, JSONParseError(message=f"the body is not JSON: {error}")) from None

    async def _read(self, request: Request) -> bytes:
        too_large = _RefusedError(413, InvalidRequestError(f"at most {self._max_body} bytes may be sent"))
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._max_body:
            raise too_large
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > self._max_body:
                    raise too_large
        except ClientDisconnect:
            raise _RefusedError(400, InvalidRequestError("the connection ended before the body did")) from None
        return bytes(body)


_CHATTY: Final = (
    "a2a.compat.v0_3.jsonrpc_adapter",
    "a2a.server.routes.jsonrpc_dispatcher",
    "a2a.utils.error_handlers",
    "a2a.utils.version_validator",
)
_CALLERS_FAULTS: Final = frozenset(
    {
        "Failed to parse request params",
        "Failed to validate base JSON-RPC request",
        "Failed to validate base JSON-RPC request for v0.3",
    }
)


def _without_callers_faults(record: logging.LogRecord) -> bool:
    """Keep the SDK from logging a caller's mistakes, with the caller's text and a traceback, at the caller's pace."""
    return record.levelno >= logging.ERROR and record.msg not in _CALLERS_FAULTS
