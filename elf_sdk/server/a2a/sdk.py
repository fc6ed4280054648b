"""The SDK's request handler on our operations, for its 0.3 compatibility layer; loaded when a caller needs it."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Any, Final

from a2a.server.context import ServerCallContext
from a2a.server.request_handlers import RequestHandler
from a2a.server.routes import ServerCallContextBuilder, create_jsonrpc_routes
from a2a.types import (
    AgentCard,
    CancelTaskRequest,
    DeleteTaskPushNotificationConfigRequest,
    GetExtendedAgentCardRequest,
    GetTaskPushNotificationConfigRequest,
    GetTaskRequest,
    ListTaskPushNotificationConfigsRequest,
    ListTaskPushNotificationConfigsResponse,
    ListTasksRequest,
    ListTasksResponse,
    Message,
    SendMessageRequest,
    SendMessageResponse,
    StreamResponse,
    SubscribeToTaskRequest,
    Task,
    TaskArtifactUpdateEvent,
    TaskPushNotificationConfig,
    TaskStatusUpdateEvent,
)
from a2a.utils.constants import VERSION_HEADER
from a2a.utils.errors import JSON_RPC_ERROR_CODE_MAP, A2AError, InternalError
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message as Protobuf
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import override

from elf_sdk.errors import NotFound
from elf_sdk.runs.adapter import Owner
from elf_sdk.server.a2a.card import A2A_PATH
from elf_sdk.server.a2a.errors import fault_of
from elf_sdk.server.a2a.handler import Handler, Json
from elf_sdk.server.a2a.values import ListPush, ListTasks, PushQuery, PushTarget, SendMessage, TaskQuery
from elf_sdk.server.auth import Principal

__all__ = ["compatible_endpoint"]

_PRINCIPAL: Final = "elf.principal"
"""Key of the caller's `Principal`, in a request's scope and in the state of a call's context."""
_EXTENDED_CARD: Final = "elf.extended_card"
"""Key of the extended card's factory, in the state of a call's context."""
_ERRORS: Final = {code: kind for kind, code in JSON_RPC_ERROR_CODE_MAP.items()}
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


def compatible_endpoint(
    handler: Handler, extended_card: Callable[[Request], Json]
) -> Callable[[Request, Principal, bytes, Any], Awaitable[Response]]:
    """The SDK's endpoint for JSON-RPC that knows the methods of 0.3; gets a request, its caller, body and JSON."""
    for name in _CHATTY:
        logging.getLogger(name).addFilter(_without_callers_faults)
    (route,) = create_jsonrpc_routes(
        _SdkHandler(handler), A2A_PATH, _ContextBuilder(extended_card), enable_v0_3_compat=True
    )

    async def answer(request: Request, principal: Principal, body: bytes, parsed: Any) -> Response:
        request.scope[_PRINCIPAL] = principal
        response: Response = await route.endpoint(_CheckedRequest(request, body, parsed))
        return response

    return answer


def _without_callers_faults(record: logging.LogRecord) -> bool:
    """Keep the SDK from logging a caller's mistakes, with the caller's text and a traceback, at the caller's pace."""
    return record.levelno >= logging.ERROR and record.msg not in _CALLERS_FAULTS


class _CheckedRequest(Request):
    """A request whose body was read within its bound, and is JSON."""

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


class _ContextBuilder(ServerCallContextBuilder):
    """Passes on who calls and the protocol's version, and no other header: a token has no business further in."""

    def __init__(self, extended_card: Callable[[Request], Json]) -> None:
        self._extended_card = extended_card

    @override
    def build(self, request: Request) -> ServerCallContext:
        return ServerCallContext(
            state={
                _PRINCIPAL: request.scope[_PRINCIPAL],
                _EXTENDED_CARD: partial(self._extended_card, request),
                "headers": {VERSION_HEADER: request.headers.get(VERSION_HEADER, "")},
            }
        )


class _SdkHandler(RequestHandler):
    """Our operations with the SDK's types around them."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    @override
    async def on_message_send(self, params: SendMessageRequest, context: ServerCallContext) -> Task | Message:
        with _speaking_sdk():
            answer = await self._handler.send(SendMessage.parse(MessageToDict(params)), _owner(context))
            response = ParseDict(answer, SendMessageResponse())
            return response.message if response.HasField("message") else response.task

    @override
    async def on_message_send_stream(
        self, params: SendMessageRequest, context: ServerCallContext
    ) -> AsyncGenerator[Task | TaskStatusUpdateEvent | TaskArtifactUpdateEvent, None]:
        with _speaking_sdk():
            stream = self._handler.stream(SendMessage.parse(MessageToDict(params)), _owner(context))
            async with aclosing(stream) as events:
                async for _, event in events:
                    yield _event(event)

    @override
    async def on_subscribe_to_task(
        self, params: SubscribeToTaskRequest, context: ServerCallContext
    ) -> AsyncGenerator[Task | TaskStatusUpdateEvent | TaskArtifactUpdateEvent, None]:
        with _speaking_sdk():
            async with aclosing(self._handler.subscribe(_query(params), _owner(context))) as events:
                async for _, event in events:
                    yield _event(event)

    @override
    async def on_get_task(self, params: GetTaskRequest, context: ServerCallContext) -> Task:
        with _speaking_sdk():
            return _task(await self._handler.get(_query(params), _owner(context)))

    @override
    async def on_cancel_task(self, params: CancelTaskRequest, context: ServerCallContext) -> Task:
        with _speaking_sdk():
            return _task(await self._handler.cancel(_query(params), _owner(context)))

    @override
    async def on_list_tasks(self, params: ListTasksRequest, context: ServerCallContext) -> ListTasksResponse:
        with _speaking_sdk():
            page = await self._handler.list(ListTasks.parse(MessageToDict(params)), _owner(context))
            return ParseDict(page, ListTasksResponse())

    @override
    async def on_create_task_push_notification_config(
        self, params: TaskPushNotificationConfig, context: ServerCallContext
    ) -> TaskPushNotificationConfig:
        with _speaking_sdk():
            target = PushTarget.parse(MessageToDict(params))
            return _push(await self._handler.create_push(target, _owner(context)))

    @override
    async def on_get_task_push_notification_config(
        self, params: GetTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> TaskPushNotificationConfig:
        with _speaking_sdk():
            if not params.id:
                # A caller of 0.3 may ask for the one that there is.
                page = await self._handler.list_push(ListPush(params.task_id, 1), _owner(context))
                if page["configs"]:
                    return _push(page["configs"][0])
                raise NotFound(f"the task {params.task_id!r} has no push notification config")
            return _push(await self._handler.get_push(PushQuery(params.task_id, params.id), _owner(context)))

    @override
    async def on_list_task_push_notification_configs(
        self, params: ListTaskPushNotificationConfigsRequest, context: ServerCallContext
    ) -> ListTaskPushNotificationConfigsResponse:
        with _speaking_sdk():
            page = await self._handler.list_push(ListPush.parse(MessageToDict(params)), _owner(context))
            return ParseDict(page, ListTaskPushNotificationConfigsResponse())

    @override
    async def on_delete_task_push_notification_config(
        self, params: DeleteTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> None:
        with _speaking_sdk():
            await self._handler.delete_push(PushQuery.parse(MessageToDict(params)), _owner(context))

    @override
    async def on_get_extended_agent_card(
        self, params: GetExtendedAgentCardRequest, context: ServerCallContext
    ) -> AgentCard:
        with _speaking_sdk():
            # The fields for clients of 0.3 are not the SDK's.
            return ParseDict(context.state[_EXTENDED_CARD](), AgentCard(), ignore_unknown_fields=True)


@contextmanager
def _speaking_sdk() -> Iterator[None]:
    """Turn what is raised inside into the SDK's errors."""
    try:
        yield
    except Exception as error:
        fault = fault_of(error)
        kind: type[A2AError] = _ERRORS.get(fault.kind.code, InternalError)
        raise kind(str(fault), data=fault.metadata or None) from error


def _owner(context: ServerCallContext) -> Owner:
    owner: Owner = context.state[_PRINCIPAL].owner
    return owner


def _query(params: Protobuf) -> TaskQuery:
    return TaskQuery.parse(MessageToDict(params))


def _task(task: dict[str, Any]) -> Task:
    return ParseDict(task, Task())


def _event(event: dict[str, Any]) -> Task | TaskStatusUpdateEvent | TaskArtifactUpdateEvent:
    response = ParseDict(event, StreamResponse())
    payload: Task | TaskStatusUpdateEvent | TaskArtifactUpdateEvent = getattr(
        response, response.WhichOneof("payload") or "task"
    )
    return payload


def _push(config: dict[str, Any]) -> TaskPushNotificationConfig:
    return ParseDict(config, TaskPushNotificationConfig())
