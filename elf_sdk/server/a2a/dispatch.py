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
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from elf_sdk.errors import BadInput, Denied, Forbidden, Retryable
from elf_sdk.runs.adapter import Owner
from elf_sdk.server.a2a.card import IDEMPOTENT_MESSAGE_ID
from elf_sdk.server.a2a.errors import Fault, FaultKind, fault_of
from elf_sdk.server.a2a.handler import Handler, Json, Stream, no_push
from elf_sdk.server.a2a.sse import event_stream
from elf_sdk.server.a2a.values import (
    ListPush,
    ListTasks,
    PushQuery,
    PushTarget,
    SendMessage,
    TaskQuery,
    from_query,
)
from elf_sdk.server.auth import Principal
from elf_sdk.server.errors import error_response

__all__ = [
    "EXTENDED_CARD",
    "REST",
    "Call",
    "ExtendedCardEndpoint",
    "Guard",
    "Operation",
    "RefusedError",
    "RestEndpoint",
    "RpcEndpoint",
    "check_version",
    "operations",
]

EXTENDED_CARD: Final = "GetExtendedAgentCard"
"""The method that needs no operation: its answer depends on the address that was called, and on nothing else."""

_JSON: Final = "application/json"
_A2A_JSON: Final = "application/a2a+json"
_VERSION_HEADER: Final = "a2a-version"
_VERSION_PARAMETER: Final = "A2A-Version"
_EXTENSIONS_HEADER: Final = "a2a-extensions"
_LAST_EVENT_HEADER: Final = "last-event-id"
_VERSION: Final = re.compile(r"1\.0(\.\d{1,9})?")
_OLD: Final = frozenset({"", "0.3"})
_OLD_BODY: Final = 256 * 1024
"""Bytes in a request of 0.3, whose models take some ten times as long to read as ours."""
_TOO_LARGE: Final = "at most {} bytes may be sent"
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
            RefusedError: whether it may cannot be told now.
        """
        try:
            principal = await self._authenticate(request)
        except Retryable as error:
            raise RefusedError(503, Fault(FaultKind.INTERNAL, str(error), metadata={"retryable": "true"})) from error
        if principal.kind == "team" and principal.name not in self._callers:
            raise Forbidden(f"the team {principal.name!r} may not call this one; name each other in both team.yaml")
        return principal

    async def read(self, request: Request, *, optional: bool = False) -> tuple[bytes, Any]:
        """The body, and the JSON that it is; `(b"", None)` for none where that may be.

        Raises:
            RefusedError: it is too large, no JSON, or does not say that it is.
        """
        body = await self._body(request)
        if not body and optional:
            return b"", None
        media_type = request.headers.get("content-type", "")
        if body and media_type != _JSON and media_type.partition(";")[0].strip().lower() not in (_JSON, _A2A_JSON):
            raise RefusedError(
                415, Fault(FaultKind.CONTENT_TYPE_NOT_SUPPORTED, "Content-Type must be application/json")
            )
        try:
            return body, orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise RefusedError(200, Fault(FaultKind.PARSE_ERROR, f"the body is not JSON: {error}")) from None

    async def _body(self, request: Request) -> bytes:
        too_large = _TOO_LARGE.format(self._max_body)
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._max_body:
            raise RefusedError(413, Fault(FaultKind.INVALID_REQUEST, too_large))
        body = bytearray()
        while True:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise RefusedError(400, Fault(FaultKind.INVALID_REQUEST, "the connection ended before the body did"))
            body += message.get("body", b"")
            if len(body) > self._max_body:
                raise RefusedError(413, Fault(FaultKind.INVALID_REQUEST, too_large))
            if not message.get("more_body", False):
                return bytes(body)


class RefusedError(Exception):
    """A request that goes no further, with an HTTP status of its own.

    Attributes:
        status: of the answer.
        fault: what is said.
    """

    def __init__(self, status: int, fault: Fault) -> None:
        super().__init__(str(fault))
        self.status = status
        self.fault = fault


class Call:
    """Who asks, and what the request's headers say beside the params.

    Attributes:
        owner: on whose behalf.
        headers: of the request.
    """

    __slots__ = ("headers", "owner")

    def __init__(self, owner: Owner, headers: Headers) -> None:
        self.owner = owner
        self.headers = headers

    @property
    def unique(self) -> bool:
        """Whether the caller uses the extension by which no two of its messages share an id."""
        given = self.headers.get(_EXTENSIONS_HEADER)
        return given is not None and IDEMPOTENT_MESSAGE_ID in [uri.strip() for uri in given.split(",")]

    @property
    def after(self) -> int | None:
        """The last item that the caller has of an earlier stream; None where it begins one.

        Raises:
            BadInput: it is none of ours.
        """
        given = self.headers.get(_LAST_EVENT_HEADER, "")
        if not given:
            return None
        if not given.isascii() or not given.isdecimal() or len(given) > 15:
            raise BadInput("Last-Event-ID is not the id of an event of this stream")
        return int(given)


Operation = Callable[[Json, Call], Awaitable[Json] | Stream]


def operations(handler: Handler) -> dict[str, Operation]:
    """What can be asked, by the name of its method: params and call to an answer, or to a stream of them."""

    def unique(call: Call) -> bool:
        # Most servers need not look.
        return handler.idempotent or call.unique

    def send(params: Json, call: Call) -> Awaitable[Json]:
        return handler.send(SendMessage.parse(params), call.owner, unique=unique(call))

    def stream(params: Json, call: Call) -> Stream:
        return handler.stream(SendMessage.parse(params), call.owner, unique=unique(call), after=call.after)

    return {
        "SendMessage": send,
        "SendStreamingMessage": stream,
        "GetTask": lambda params, call: handler.get(TaskQuery.parse(params), call.owner),
        "ListTasks": lambda params, call: handler.list(ListTasks.parse(params), call.owner),
        "CancelTask": lambda params, call: handler.cancel(TaskQuery.parse(params), call.owner),
        "SubscribeToTask": lambda params, call: handler.subscribe(
            TaskQuery.parse(params), call.owner, after=call.after
        ),
        **_push_operations(handler),
    }


def _push_operations(handler: Handler) -> dict[str, Operation]:
    def missing(params: Json, call: Call) -> NoReturn:
        no_push()

    known: dict[str, Operation] = {
        "CreateTaskPushNotificationConfig": lambda params, call: handler.create_push(
            PushTarget.parse(params), call.owner
        ),
        "GetTaskPushNotificationConfig": lambda params, call: handler.get_push(PushQuery.parse(params), call.owner),
        "ListTaskPushNotificationConfigs": lambda params, call: handler.list_push(ListPush.parse(params), call.owner),
        "DeleteTaskPushNotificationConfig": lambda params, call: handler.delete_push(
            PushQuery.parse(params), call.owner
        ),
    }
    # Whatever the params are.
    return known if handler.pushes else dict.fromkeys(known, missing)


REST: Final = (
    ("POST", "/message:send", "SendMessage"),
    ("POST", "/message:stream", "SendStreamingMessage"),
    ("POST", "/tasks/{id}:cancel", "CancelTask"),
    ("GET", "/tasks/{id}:subscribe", "SubscribeToTask"),
    ("POST", "/tasks/{id}:subscribe", "SubscribeToTask"),
    ("GET", "/tasks/{id}", "GetTask"),
    ("GET", "/tasks/{taskId}/pushNotificationConfigs/{id}", "GetTaskPushNotificationConfig"),
    ("DELETE", "/tasks/{taskId}/pushNotificationConfigs/{id}", "DeleteTaskPushNotificationConfig"),
    ("POST", "/tasks/{taskId}/pushNotificationConfigs", "CreateTaskPushNotificationConfig"),
    ("GET", "/tasks/{taskId}/pushNotificationConfigs", "ListTaskPushNotificationConfigs"),
    ("GET", "/tasks", "ListTasks"),
)
"""HTTP method, path below the binding's own, and operation, of HTTP+JSON."""


class RpcEndpoint:
    """JSON-RPC (A2A 1.0, section 9). Errors have HTTP status 200, but for what never became a request.

    Args:
        guard: before everything.
        known: the operations.
        compatible: answers those who speak 0.3; gets a request with its caller, its body and its JSON. None where
            nobody is to.
        extended_card: the extended card for a request.
    """

    def __init__(
        self,
        guard: Guard,
        known: Mapping[str, Operation],
        compatible: Callable[[Request, Principal, bytes, Any], Awaitable[Response]] | None,
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
            version = _version(request)
            if version in _OLD and self._compatible is not None:
                if len(body) > _OLD_BODY:
                    raise RefusedError(413, Fault(FaultKind.INVALID_REQUEST, _TOO_LARGE.format(_OLD_BODY)))
                response = await self._compatible(request, principal, body, envelope)
            else:
                response = await self._answer(envelope, version, Call(principal.owner, request.headers), request)
        except Denied as error:
            response = await error_response(request, error)
        except RefusedError as refused:
            response = _json(_rpc_fault(None, refused.fault), status=refused.status)
        await response(scope, receive, send)

    async def _answer(self, envelope: Any, version: str, call: Call, request: Request) -> Response:
        request_id: str | int | None = None
        try:
            request_id = _request_id(envelope)
            method, params = _call(envelope)
            operation = self._known.get(method)
            if method == EXTENDED_CARD:
                check_version(version)
                return _json({"jsonrpc": "2.0", "id": request_id, "result": self._extended_card(request)})
            if operation is None:
                raise Fault(FaultKind.METHOD_NOT_FOUND, "Method not found")
            check_version(version)
            answer = operation(params, call)
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
            response = await self._answer(request, Call(principal.owner, request.headers))
        except Denied as error:
            response = await error_response(request, error)
        except RefusedError as refused:
            # There is no error with status 200 here.
            status = 400 if refused.status == 200 else refused.status
            response = _json(refused.fault.rest(status), status=status)
        except Exception as error:  # noqa: BLE001 - fault_of logs what is nothing for the caller
            fault = fault_of(error)
            response = _json(fault.rest(), status=fault.kind.http)
        await response(scope, receive, send)

    async def _answer(self, request: Request, call: Call) -> Response:
        optional = request.method != "POST" or request.url.path.endswith((":cancel", ":subscribe"))
        _, given = await self._guard.read(request, optional=optional)
        if type(given) is not dict and (given is not None or not optional):
            raise Fault(FaultKind.INVALID_REQUEST, "the body must be a JSON object")
        check_version(_version(request))
        params = (given or {}) if request.method == "POST" else from_query(request.query_params.multi_items())
        answer = self._operation({**params, **request.path_params}, call)
        if isinstance(answer, AsyncGenerator):
            return await event_stream(answer, lambda event: event, lambda error: fault_of(error).rest())
        return _json(await answer, media_type=_media_type(request))


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
    async def _answer(self, request: Request, call: Call) -> Response:
        check_version(_version(request))
        return _json(self._extended_card(request), media_type=_media_type(request))


def _json(content: Json, *, status: int = 200, media_type: str = _JSON) -> Response:
    return Response(orjson.dumps(content), status, media_type=media_type)


def _media_type(request: Request) -> str:
    """The type of an answer: A2A's own (1.0.1, section 11.1), but JSON's for who writes that, as 1.0.0 had it."""
    given = request.headers.get("content-type") or request.headers.get("accept", "")
    return _JSON if given.startswith(_JSON) and _A2A_JSON not in given else _A2A_JSON


def _version(request: Request) -> str:
    """The version that is asked for, by header or by parameter (section 3.6.1); empty for none."""
    version = request.headers.get(_VERSION_HEADER)
    if version is None:
        return request.query_params.get(_VERSION_PARAMETER, "") if request.scope["query_string"] else ""
    return version


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


def check_version(version: str) -> None:
    """Let pass what asks for 1.x.

    Raises:
        Fault: VERSION_NOT_SUPPORTED.
    """
    if version != "1.0" and not _VERSION.fullmatch(version):
        raise Fault(
            FaultKind.VERSION_NOT_SUPPORTED,
            f"the A2A version {version[:20]!r} is not spoken here; send the header A2A-Version: 1.0",
        )
