"""A2A's two bindings as ASGI endpoints: who calls, what it says, which operation, and how the answer is written.

They are ASGI and not Starlette's functions, because a request is done in a fraction of a millisecond and what a
framework adds for convenience would be a good part of it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from types import NoneType
from typing import Any, Final, NoReturn

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from elf_sdk.errors import Denied, Forbidden, Retryable
from elf_sdk.runs.adapter import Owner
from elf_sdk.server.a2a.errors import Fault, FaultKind, fault_of
from elf_sdk.server.a2a.handler import Handler, Json, no_push
from elf_sdk.server.a2a.sse import event_stream
from elf_sdk.server.a2a.values import ListTasks, SendMessage, TaskQuery, from_query
from elf_sdk.server.auth import Principal
from elf_sdk.server.errors import error_response

__all__ = ["EXTENDED_CARD", "REST", "ExtendedCardEndpoint", "Guard", "RestEndpoint", "RpcEndpoint", "operations"]

EXTENDED_CARD: Final = "GetExtendedAgentCard"
"""The method that needs no operation: its answer depends on the address that was called, and on nothing else."""


_JSON: Final = "application/json"
_A2A_JSON: Final = "application/a2a+json"
_VERSION_HEADER: Final = "a2a-version"
_VERSION: Final = re.compile(r"1(\.\d{1,9}){0,2}")
_OLD: Final = frozenset({"", "0.3"})
_ENVELOPE: Final = frozenset({"jsonrpc", "id", "method", "params"})


class Guard:
    """Lets in who may call, and reads what is said within its bounds.

    Args:
        authenticate: the caller of a request; raises `Unauthenticated` or `Forbidden`.
        callers: names of the teams that may call; people are let in whatever it holds.
        max_body: bytes in a request's body.
    """

    def __init__(
        self, authenticate: Callable[[Request], Awaitable[Principal]], callers: frozenset[str], max_body: int
    ) -> None:
        self._authenticate = authenticate
        self._callers = callers
        self._max_body = max_body

    async def admit(self, request: Request) -> Principal:
        """Who calls.

        Raises:
            Denied: it may not.
            _RefusedError: whether it may cannot be told now.
        """
        try:
            principal = await self._authenticate(request)
        except Retryable as error:
            raise _RefusedError(503, Fault(FaultKind.INTERNAL, str(error), metadata={"retryable": "true"})) from error
        if principal.kind == "team" and principal.name not in self._callers:
            raise Forbidden(f"the team {principal.name!r} may not call this one; name each other in both team.yaml")
        return principal

    async def read(self, request: Request, *, optional: bool = False) -> tuple[bytes, Any]:
        """The body, and the JSON that it is; `(b"", None)` for none where that may be.

        Raises:
            _RefusedError: it is too large, no JSON, or does not say that it is.
        """
        body = await self._body(request)
        if not body and optional:
            return b"", None
        media_type = request.headers.get("content-type", "")
        if body and media_type != _JSON and media_type.partition(";")[0].strip().lower() not in (_JSON, _A2A_JSON):
            raise _RefusedError(
                415, Fault(FaultKind.CONTENT_TYPE_NOT_SUPPORTED, "Content-Type must be application/json")
            )
        try:
            return body, orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise _RefusedError(200, Fault(FaultKind.PARSE_ERROR, f"the body is not JSON: {error}")) from None

    async def _body(self, request: Request) -> bytes:
        too_large = f"at most {self._max_body} bytes may be sent"
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._max_body:
            raise _RefusedError(413, Fault(FaultKind.INVALID_REQUEST, too_large))
        body = bytearray()
        while True:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise _RefusedError(400, Fault(FaultKind.INVALID_REQUEST, "the connection ended before the body did"))
            body += message.get("body", b"")
            if len(body) > self._max_body:
                raise _RefusedError(413, Fault(FaultKind.INVALID_REQUEST, too_large))
            if not message.get("more_body", False):
                return bytes(body)


class _RefusedError(Exception):
    """A request that goes no further, with an HTTP status of its own."""

    def __init__(self, status: int, fault: Fault) -> None:
        super().__init__(str(fault))
        self.status = status
        self.fault = fault


Operation = Callable[[Json, Owner], Awaitable[Json] | AsyncGenerator[Json, None]]


def operations(handler: Handler) -> dict[str, Operation]:
    """What can be asked, by the name of its method: params and owner to an answer, or to a stream of them."""

    async def send(params: Json, owner: Owner) -> Json:
        return {"task": await handler.send(SendMessage.parse(params), owner)}

    def push(params: Json, owner: Owner) -> NoReturn:
        no_push()

    return {
        "SendMessage": send,
        "SendStreamingMessage": lambda params, owner: handler.stream(SendMessage.parse(params), owner),
        "GetTask": lambda params, owner: handler.get(TaskQuery.parse(params), owner),
        "ListTasks": lambda params, owner: handler.list(ListTasks.parse(params), owner),
        "CancelTask": lambda params, owner: handler.cancel(TaskQuery.parse(params), owner),
        "SubscribeToTask": lambda params, owner: handler.subscribe(TaskQuery.parse(params), owner),
        "CreateTaskPushNotificationConfig": push,
        "GetTaskPushNotificationConfig": push,
        "ListTaskPushNotificationConfigs": push,
        "DeleteTaskPushNotificationConfig": push,
    }


REST: Final = (
    ("POST", "/message:send", "SendMessage"),
    ("POST", "/message:stream", "SendStreamingMessage"),
    ("POST", "/tasks/{id}:cancel", "CancelTask"),
    ("GET", "/tasks/{id}:subscribe", "SubscribeToTask"),
    ("POST", "/tasks/{id}:subscribe", "SubscribeToTask"),
    ("GET", "/tasks/{id}", "GetTask"),
    ("GET", "/tasks/{id}/pushNotificationConfigs/{push_id}", "GetTaskPushNotificationConfig"),
    ("DELETE", "/tasks/{id}/pushNotificationConfigs/{push_id}", "DeleteTaskPushNotificationConfig"),
    ("POST", "/tasks/{id}/pushNotificationConfigs", "CreateTaskPushNotificationConfig"),
    ("GET", "/tasks/{id}/pushNotificationConfigs", "ListTaskPushNotificationConfigs"),
    ("GET", "/tasks", "ListTasks"),
)
"""HTTP method, path below the binding's own, and operation, of HTTP+JSON."""


class RpcEndpoint:
    """JSON-RPC (A2A 1.0, section 9). Errors have HTTP status 200, but for what never became a request.

    Args:
        guard: before everything.
        known: the operations.
        compatible: answers those who speak 0.3; gets a request with its caller, its body and its JSON.
        extended_card: the extended card for a request.
    """

    def __init__(
        self,
        guard: Guard,
        known: Mapping[str, Operation],
        compatible: Callable[[Request, Principal, bytes, Any], Awaitable[Response]],
        extended_card: Callable[[Request], Json],
    ) -> None:
        self._guard = guard
        self._known = known
        self._compatible = compatible
        self._extended_card = extended_card

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            principal = await self._guard.admit(request)
            body, envelope = await self._guard.read(request)
            version = request.headers.get(_VERSION_HEADER, "")
            if version in _OLD:
                response = await self._compatible(request, principal, body, envelope)
            else:
                response = await self._answer(envelope, version, principal.owner, request)
        except Denied as error:
            response = await error_response(request, error)
        except _RefusedError as refused:
            response = _json(_rpc_fault(None, refused.fault), status=refused.status)
        await response(scope, receive, send)

    async def _answer(self, envelope: Any, version: str, owner: Owner, request: Request) -> Response:
        request_id: str | int | None = None
        try:
            request_id = _request_id(envelope)
            method, params = _call(envelope)
            operation = self._known.get(method)
            if method == EXTENDED_CARD:
                _check_version(version)
                return _json({"jsonrpc": "2.0", "id": request_id, "result": self._extended_card(request)})
            if operation is None:
                raise Fault(FaultKind.METHOD_NOT_FOUND, "Method not found")
            _check_version(version)
            answer = operation(params, owner)
            if isinstance(answer, AsyncGenerator):
                return await event_stream(
                    answer,
                    lambda event: {"jsonrpc": "2.0", "id": request_id, "result": event},
                    lambda error: _rpc_fault(request_id, fault_of(error)),
                )
            return _json({"jsonrpc": "2.0", "id": request_id, "result": await answer})
        except Exception as error:  # noqa: BLE001 - fault_of logs what is nothing for the caller
            return _json(_rpc_fault(request_id, fault_of(error)))


class RestEndpoint:
    """One operation over HTTP+JSON (A2A 1.0, section 11).

    Args:
        guard: before everything.
        operation: gets as params what body or query say, and the path.
    """

    def __init__(self, guard: Guard, operation: Operation) -> None:
        self._guard = guard
        self._operation = operation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            principal = await self._guard.admit(request)
            response = await self._answer(request, principal.owner)
        except Denied as error:
            response = await error_response(request, error)
        except _RefusedError as refused:
            # There is no error with status 200 here.
            status = 400 if refused.status == 200 else refused.status
            response = _json(refused.fault.rest(status), status=status)
        except Exception as error:  # noqa: BLE001 - fault_of logs what is nothing for the caller
            fault = fault_of(error)
            response = _json(fault.rest(), status=fault.kind.http)
        await response(scope, receive, send)

    async def _answer(self, request: Request, owner: Owner) -> Response:
        optional = request.method != "POST" or request.url.path.endswith((":cancel", ":subscribe"))
        _, given = await self._guard.read(request, optional=optional)
        if type(given) is not dict and (given is not None or not optional):
            raise Fault(FaultKind.INVALID_REQUEST, "the body must be a JSON object")
        _check_version(request.headers.get(_VERSION_HEADER, ""))
        params = (given or {}) if request.method == "POST" else from_query(request.query_params.multi_items())
        answer = self._operation({**params, **request.path_params}, owner)
        if isinstance(answer, AsyncGenerator):
            return await event_stream(answer, lambda event: event, lambda error: fault_of(error).rest())
        return _json(await answer, media_type=_A2A_JSON)


class ExtendedCardEndpoint(RestEndpoint):
    """`GET /extendedAgentCard` (A2A 1.0, section 11).

    Args:
        guard: before everything.
        extended_card: the extended card for a request.
    """

    def __init__(self, guard: Guard, extended_card: Callable[[Request], Json]) -> None:
        self._guard = guard
        self._extended_card = extended_card

    @override
    async def _answer(self, request: Request, owner: Owner) -> Response:
        _check_version(request.headers.get(_VERSION_HEADER, ""))
        return _json(self._extended_card(request), media_type=_A2A_JSON)


def _json(content: Json, *, status: int = 200, media_type: str = _JSON) -> Response:
    return Response(orjson.dumps(content), status, media_type=media_type)


def _rpc_fault(request_id: str | int | None, fault: Fault) -> Json:
    return {"jsonrpc": "2.0", "id": request_id, "error": fault.rpc()}


def _request_id(envelope: Any) -> str | int | None:
    """The id to answer with; None where it is none, and for a notification, which is answered too: HTTP wants it."""
    given = envelope.get("id") if type(envelope) is dict else None
    return given if type(given) in (str, int) else None


def _call(envelope: Any) -> tuple[str, Json]:
    """Method and params of a JSON-RPC 2.0 request.

    Raises:
        Fault: it is none.
    """
    if type(envelope) is not dict:
        said = "send one request at a time; there are no batches" if envelope and type(envelope) is list else None
        raise Fault(FaultKind.INVALID_REQUEST, said or "the body must be a JSON-RPC request, an object")
    if envelope.get("jsonrpc") != "2.0":
        raise Fault(FaultKind.INVALID_REQUEST, "jsonrpc must be exactly '2.0'")
    if type(envelope.get("id")) not in (str, int, NoneType):
        raise Fault(FaultKind.INVALID_REQUEST, "id must be text, an integer or null")
    if not envelope.keys() <= _ENVELOPE:
        unknown = ", ".join(sorted(envelope.keys() - _ENVELOPE))
        raise Fault(FaultKind.INVALID_REQUEST, f"a JSON-RPC request has no {unknown[:100]}")
    method, params = envelope.get("method"), envelope.get("params", {})
    if type(method) is not str or not method:
        raise Fault(FaultKind.INVALID_REQUEST, "method must be the name of one")
    if type(params) not in (dict, list, NoneType):
        raise Fault(FaultKind.INVALID_REQUEST, "params must be an object")
    if type(params) is not dict:
        raise Fault(FaultKind.INVALID_PARAMS, "params must be an object")
    return method, params


def _check_version(version: str) -> None:
    if version != "1.0" and not _VERSION.fullmatch(version):
        raise Fault(
            FaultKind.VERSION_NOT_SUPPORTED,
            f"the A2A version {version[:20]!r} is not spoken here; send the header A2A-Version: 1.0",
        )
