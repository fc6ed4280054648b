"""Counts A2A requests around the operations, so that neither these nor the endpoints know of it.

What never comes to an operation, such as a request without a token, is counted by its HTTP status (`requests.py`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from time import monotonic
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from elf_sdk.errors import ElfError
from elf_sdk.server.a2a.dispatch import Call, Operation
from elf_sdk.server.a2a.errors import Fault, FaultKind, fault_of
from elf_sdk.server.a2a.handler import Json, Stream
from elf_sdk.server.auth import Principal
from elf_sdk.server.metrics.team import TeamMetrics

__all__ = ["measured", "measured_compatible"]

Compatible = Callable[[Request, Principal, bytes, Any], Awaitable[Response]]

_OLD: Final = {
    "message/send": "SendMessage",
    "message/stream": "SendStreamingMessage",
    "tasks/get": "GetTask",
    "tasks/cancel": "CancelTask",
    "tasks/resubscribe": "SubscribeToTask",
    "tasks/pushNotificationConfig/set": "CreateTaskPushNotificationConfig",
    "tasks/pushNotificationConfig/get": "GetTaskPushNotificationConfig",
    "tasks/pushNotificationConfig/list": "ListTaskPushNotificationConfigs",
    "tasks/pushNotificationConfig/delete": "DeleteTaskPushNotificationConfig",
    "agent/getAuthenticatedExtendedCard": "GetExtendedAgentCard",
}
"""The methods of 0.3, and what they are called now."""
_OLD_FAULTS: Final = {kind.code: kind.name.lower() for kind in FaultKind}


def measured(method: str, operation: Operation, binding: str, metrics: TeamMetrics) -> Operation:
    """The operation, counted.

    Args:
        method: its name.
        operation: what is asked.
        binding: `jsonrpc`, `rest` or `grpc`.
        metrics: of the team.
    """

    def failed(error: Exception, begun: float) -> None:
        # The endpoint tells of what is unexpected; here it would be told twice.
        kind = fault_of(error).kind if isinstance(error, ElfError | Fault) else FaultKind.INTERNAL
        metrics.called(binding, method, kind.name.lower(), monotonic() - begun)

    async def answered(answer: Awaitable[Json], begun: float) -> Json:
        try:
            result = await answer
        except Exception as error:
            failed(error, begun)
            raise
        metrics.called(binding, method, "ok", monotonic() - begun)
        return result

    async def streamed(answer: Stream, begun: float) -> Stream:
        metrics.streams.value += 1
        counted = False
        try:
            async with aclosing(answer) as events:
                async for event in events:
                    if not counted:
                        counted = True
                        metrics.called(binding, method, "ok", monotonic() - begun)
                    yield event
        except Exception as error:
            if not counted:
                failed(error, begun)
            raise
        finally:
            metrics.streams.value -= 1

    def ask(params: Json, call: Call) -> Awaitable[Json] | Stream:
        begun = monotonic()
        try:
            answer = operation(params, call)
        except Exception as error:
            failed(error, begun)
            raise
        return streamed(answer, begun) if isinstance(answer, AsyncGenerator) else answered(answer, begun)

    return ask


def measured_compatible(answer: Compatible, metrics: TeamMetrics) -> Compatible:
    """What answers callers of 0.3, counted."""

    async def measured_answer(request: Request, principal: Principal, body: bytes, envelope: Any) -> Response:
        begun = monotonic()
        response = await answer(request, principal, body, envelope)
        method = envelope.get("method") if type(envelope) is dict else None
        # A stream has no body yet. What went wrong is only in what the SDK wrote.
        said = getattr(response, "body", None)
        error = orjson.loads(said).get("error") if said else None
        outcome = _OLD_FAULTS.get(error.get("code"), "internal") if error else "ok"
        known = _OLD.get(method, "none") if type(method) is str else "none"
        metrics.called("jsonrpc-0.3", known, outcome, monotonic() - begun)
        return response

    return measured_answer
