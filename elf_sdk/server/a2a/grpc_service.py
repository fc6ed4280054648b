"""A2A over gRPC (A2A 1.0, section 10), on a port of its own. Loaded only where that is on: gRPC is an extra.

The service is read off the SDK's descriptors, and each of its methods is one of our operations between two messages:
what is asked becomes ProtoJSON, and the answer comes from it. So gRPC can do exactly what the two other bindings can.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final

import grpc
from a2a.types import a2a_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.json_format import MessageToDict, ParseDict, SerializeToJsonError
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

# ErrorInfo and BadRequest must be known by name before a Status that holds them can be written.
from google.rpc import error_details_pb2, status_pb2  # noqa: F401
from starlette.requests import Request

from elf_sdk.errors import BadInput, Denied, Unauthenticated
from elf_sdk.server.a2a.dispatch import Call, Guard, Operation, RefusedError, check_version
from elf_sdk.server.a2a.errors import Fault, FaultKind, fault_of
from elf_sdk.server.a2a.handler import Json, Stream

__all__ = ["GrpcService"]

log = logging.getLogger("elf.a2a")

_SERVICE: Final = a2a_pb2.DESCRIPTOR.services_by_name["A2AService"]
_DETAILS: Final = "grpc-status-details-bin"
"""Trailing metadata that holds the `google.rpc.Status`."""
_LONGEST: Final = 1000
"""Characters of an error's sentence: it travels in the trailers, which clients bound to 8 KiB."""
_PING: Final = 20_000
"""Milliseconds between pings, and for their answer, as for WebSockets."""

Behaviour = Callable[[bytes, Any], Awaitable[bytes | None]]


class _StoppingError(Exception):
    """The service stops while a stream goes on."""


class GrpcService:
    """`lf.a2a.v1.A2AService` of one team. Binds its port at once, and answers from `start` on.

    There is no TLS here: as for HTTP, that is for the mesh or the gateway in front.

    Args:
        guard: lets in who may call over HTTP, and nobody else; a call's metadata are its headers.
        known: the operations by name.
        host: the address to listen on.
        port: 0 takes any that is free.
        max_message: bytes of a request; more is answered with RESOURCE_EXHAUSTED.

    Attributes:
        port: that it listens on.

    Raises:
        BadInput: the port is taken or not ours.
    """

    def __init__(self, guard: Guard, known: Mapping[str, Operation], host: str, port: int, max_message: int) -> None:
        self._guard = guard
        self._known = known
        self._stopping = False
        self._waiting: set[asyncio.Task[Any]] = set()
        self._server = grpc.aio.server(
            options=(
                ("grpc.max_receive_message_length", max_message),
                ("grpc.keepalive_time_ms", _PING),
                ("grpc.keepalive_timeout_ms", _PING),
                # Otherwise a second server on the same port would take half of the calls.
                ("grpc.so_reuseport", 0),
            )
        )
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    _SERVICE.full_name, {method.name: self._method(method) for method in _SERVICE.methods}
                ),
            )
        )
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            self.port: int = self._server.add_insecure_port(address)
        except RuntimeError:
            raise BadInput(f"cannot listen for gRPC on {address}; set ELF_GRPC_PORT to a port that is free") from None

    async def start(self) -> None:
        """Answer."""
        await self._server.start()

    async def stop(self, grace: float) -> None:
        """Take no more calls, end the streams, whose tasks go on, and give other calls `grace` seconds to end."""
        self._stopping = True
        ended = asyncio.ensure_future(self._server.stop(grace))
        for stream in tuple(self._waiting):
            stream.cancel()
        await ended

    def _method(self, method: MethodDescriptor) -> Any:
        request, answer = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        operation = self._known[method.name]
        path = f"/{_SERVICE.full_name}/{method.name}"
        # Messages are read and written here: the library would log a caller's nonsense with a traceback.
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(self._guarded(path, self._stream(operation, request, answer)))
        return grpc.unary_unary_rpc_method_handler(self._guarded(path, self._unary(operation, request, answer)))

    def _guarded(self, path: str, answer: Callable[[bytes, Request, Any], Awaitable[bytes | None]]) -> Behaviour:
        """A call as the library wants it, with who may not and what goes wrong said in status codes."""

        async def call(body: bytes, context: Any) -> bytes | None:
            try:
                return await answer(body, _request(path, context), context)
            except _StoppingError:
                await context.abort(
                    grpc.StatusCode.UNAVAILABLE, "the team is stopping; subscribe to the task again in a moment"
                )
            except Denied as error:
                denied = "UNAUTHENTICATED" if isinstance(error, Unauthenticated) else "PERMISSION_DENIED"
                await context.abort(grpc.StatusCode[denied], str(error)[:_LONGEST])
            except RefusedError as refused:
                # Whether the caller may call cannot be told now.
                await _abort(context, grpc.StatusCode.UNAVAILABLE, refused.fault)
            except Exception as error:  # noqa: BLE001 - fault_of logs what is nothing for the caller
                fault = fault_of(error)
                await _abort(context, grpc.StatusCode[fault.kind.grpc], fault)
            return None

        return call

    def _unary(self, operation: Operation, asked: type[Message], answered: type[Message]) -> Any:
        async def answer(body: bytes, request: Request, context: Any) -> bytes:
            result = await self._begun(operation, asked, body, request)
            assert not isinstance(result, AsyncGenerator)  # noqa: S101 - the descriptor says so
            return _written(await result, answered)

        return answer

    def _stream(self, operation: Operation, asked: type[Message], answered: type[Message]) -> Any:
        async def answer(body: bytes, request: Request, context: Any) -> None:
            events = await self._begun(operation, asked, body, request)
            assert isinstance(events, AsyncGenerator)  # noqa: S101 - the descriptor says so
            async with aclosing(events):
                while not self._stopping:
                    try:
                        item = await self._next(events, context)
                    except StopAsyncIteration:
                        return
                    if item is not None:
                        # gRPC has no place for the number of an event.
                        await context.write(_written(item[1], answered))
            raise _StoppingError

        return answer

    async def _next(self, events: Stream, context: Any) -> tuple[int | None, Json] | None:
        """The next event; None when the service stops meanwhile.

        Only here is a stream interrupted: a message that is half written could not be followed by a status.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in one
        self._waiting.add(task)
        try:
            return await anext(events)
        except asyncio.CancelledError:
            if not self._stopping or context.done():
                # The caller went, or its deadline passed.
                raise
            task.uncancel()
            return None
        finally:
            self._waiting.discard(task)

    async def _begun(
        self, operation: Operation, asked: type[Message], body: bytes, request: Request
    ) -> Awaitable[Any] | AsyncGenerator[Any, None]:
        """What the operation gives for the message in `body`, from whoever may send it."""
        principal = await self._guard.admit(request)
        check_version(request.headers.get("a2a-version", ""))
        return operation(_read(body, asked), Call(principal.owner, request.headers))


def _request(path: str, context: Any) -> Request:
    """The call as the HTTP request that it is (gRPC over HTTP2: a POST, whose headers are the metadata)."""
    headers = [
        (key.encode("latin-1"), value if isinstance(value, bytes) else value.encode("latin-1", "replace"))
        for key, value in context.invocation_metadata() or ()
    ]
    return Request({"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers})


def _read(body: bytes, asked: type[Message]) -> dict[str, Any]:
    """The message in `body` as ProtoJSON.

    Raises:
        Fault: it is none, or holds a number that JSON does not have.
    """
    try:
        return MessageToDict(asked.FromString(body))
    except DecodeError:
        raise Fault(FaultKind.INVALID_REQUEST, f"the request is no {asked.DESCRIPTOR.full_name}") from None
    except (SerializeToJsonError, ValueError) as error:
        raise Fault(FaultKind.INVALID_PARAMS, f"the request holds what JSON cannot say: {error}") from None


def _written(answer: dict[str, Any] | None, answered: type[Message]) -> bytes:
    # The card has the fields of 0.3 too, which the message does not know.
    return ParseDict(answer or {}, answered(), ignore_unknown_fields=True).SerializeToString()


async def _abort(context: Any, code: grpc.StatusCode, fault: Fault) -> None:
    """End a call with the error, and with the `google.rpc.Status` that holds its details (section 10.6)."""
    message = str(fault)[:_LONGEST]
    status = ParseDict(
        {"code": code.value[0], "message": message, "details": fault.rest()["error"]["details"]},
        status_pb2.Status(),
    )
    await context.abort(code, message, ((_DETAILS, status.SerializeToString()),))
