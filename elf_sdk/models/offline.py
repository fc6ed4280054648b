"""The offline model: an OpenAI-compatible server on loopback that says that it is one.

Frameworks reach it with their own real clients, so what works here works with a provider. The same request gets
the same bytes. It runs in a thread with an event loop of its own: a framework that blocks the team's loop can still
talk to it. One server holds the scripts of many teams, told apart by the path: `http://127.0.0.1:PORT/<team>/v1`.

Served are `GET /v1/models` and `POST /v1/chat/completions`, with and without streaming, as in OpenAI's API reference.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import socket
import threading
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Literal, Self

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from elf_sdk.errors import BadInput
from elf_sdk.models.script import Faults, OfflineScript, Prompt, Reply, reply_to, text_of, tokens

__all__ = ["FINGERPRINT", "MODEL", "ModelRequest", "OfflineModel", "team_url"]

MODEL: Final = "offline"
FINGERPRINT: Final = "elf-offline"
_MAX_REQUEST: Final = 8 * 1024 * 1024
_KEPT: Final = 1000
_THREAD: Final = "elf-offline-model"


def team_url(root: str, team: str = "") -> str:
    """The base URL to give to a client: `team_url("http://127.0.0.1:9999", "a-team")` ends in `/a-team/v1`."""
    return f"{root.rstrip('/')}/{team}/v1" if team else f"{root.rstrip('/')}/v1"


@dataclass(slots=True, eq=False)
class ModelRequest:
    """One request, as it was received, and what became of it.

    Attributes:
        team: from the path, empty without one.
        body: the parsed JSON.
        reply: what the script decided.
        input_tokens: counted in the messages.
        output_tokens: sent so far.
        outcome: `open` while it is being answered; `gone` when the client closed the connection first.
        key: the API key that came with it, as in `Authorization: Bearer <key>`; never printed.
    """

    team: str
    body: Mapping[str, Any]
    reply: Reply
    input_tokens: int = 0
    output_tokens: int = 0
    outcome: Literal["open", "answered", "fault", "gone"] = "open"
    key: str = field(default="", repr=False)


@dataclass(slots=True)
class _Team:
    script: OfflineScript
    faults: Faults = field(default_factory=Faults)


class OfflineModel:
    """The server. Use it as a context manager, or `start()` and `stop()` it.

    Args:
        script: for requests whose path names no team; without one every answer is the generic one.
        host: the address to listen on.
        port: 0 takes any free one.

    Example:
        with OfflineModel(load_script("offline.yaml")) as model:
            client = OpenAI(base_url=model.url(), api_key="not-needed")
    """

    def __init__(self, script: OfflineScript | None = None, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.requests: deque[ModelRequest] = deque(maxlen=_KEPT)
        self.root = ""
        self._host, self._port = host, port
        self._teams: dict[str, _Team] = {"": _Team(script or OfflineScript())}
        self._socket: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def add(self, team: str, script: OfflineScript) -> None:
        """Answer requests under `/<team>/v1` by `script`, from now on."""
        self._teams[team] = _Team(script)

    def url(self, team: str = "") -> str:
        """The base URL for a client, once started."""
        return team_url(self.root, team)

    def start(self) -> str:
        """Listen, and return the base URL for a client (`…/v1`). Already started, it only returns that.

        Raises:
            BadInput: the port is taken, or not allowed.
        """
        if self._thread is not None:
            return self.url()
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((self._host, self._port))
            # From here on connections queue, so a client may come before the thread has begun.
            listening.listen(512)
        except OSError as error:
            listening.close()
            raise BadInput(
                f"the offline model cannot listen on {self._host}:{self._port}: {error.strerror}; choose another port"
            ) from None
        self._socket = listening
        self.root = f"http://{self._host}:{listening.getsockname()[1]}"
        # No log level here: it would be the level of every server in this process.
        config = uvicorn.Config(self.app(), http="h11", ws="none", lifespan="off", log_config=None, access_log=False)
        logger = logging.getLogger("uvicorn.error")
        if _no_scripted_fault not in logger.filters:
            logger.addFilter(_no_scripted_fault)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=_serve, args=(self._server, listening), name=_THREAD, daemon=True)
        self._thread.start()
        return self.url()

    def stop(self) -> None:
        """Cut what is open, and wait until the thread has ended. Does nothing when it does not run."""
        if self._server is None or self._thread is None or self._socket is None:
            return
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()
        self._socket.close()
        self._server = self._thread = self._socket = None

    def wait(self) -> None:
        """Block until the server ends."""
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def app(self) -> Starlette:
        """The ASGI application alone."""
        return Starlette(
            routes=[
                Route("/v1/models", _models),
                Route("/{team}/v1/models", _models),
                Route("/v1/chat/completions", self._complete, methods=["POST"]),
                Route("/{team}/v1/chat/completions", self._complete, methods=["POST"]),
            ]
        )

    async def _complete(self, request: Request) -> Response:
        team = request.path_params.get("team", "")
        known = self._teams.get(team)
        if known is None:
            return _error(404, f"the offline model has no script for the team {team!r}", "not_found_error")
        body = _parsed(await request.body())
        if isinstance(body, str):
            return _error(400, body, "invalid_request_error")
        reply = reply_to(Prompt.of(body), known.script, known.faults)
        record = ModelRequest(
            team,
            body,
            reply,
            input_tokens=sum(len(tokens(text_of(m))) for m in body["messages"]),
            key=request.headers.get("authorization", "").removeprefix("Bearer "),
        )
        self.requests.append(record)
        if reply.fault is not None and reply.fault.status is not None:
            record.outcome = "fault"
            headers = {} if reply.fault.retry_after is None else {"Retry-After": str(reply.fault.retry_after)}
            return _error(reply.fault.status, reply.fault.message, "scripted_fault", headers)
        return _Completion(record)


def _serve(server: uvicorn.Server, sock: socket.socket) -> None:
    asyncio.run(server.serve(sockets=[sock]))


def _parsed(raw: bytes) -> dict[str, Any] | str:
    if len(raw) > _MAX_REQUEST:
        return f"the request has {len(raw)} bytes; at most {_MAX_REQUEST} are read"
    try:
        body: Any = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        return f"the body is not JSON: {error}"
    messages = body.get("messages") if isinstance(body, dict) else None
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        return "messages is missing; send a list of at least one message"
    try:
        Prompt.of(body)
    except (AttributeError, KeyError, TypeError) as error:
        return f"a tool or a tool call has not the shape of the API: {type(error).__name__} {error}"
    return dict(body)


async def _models(request: Request) -> Response:
    return _json({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "elf"}]})


def _json(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(data), status, headers, "application/json")


def _error(status: int, message: str, kind: str, headers: Mapping[str, str] | None = None) -> Response:
    return _json({"error": {"message": message, "type": kind, "param": None, "code": None}}, status, headers)


class _ConnectionCut(Exception):
    """Raised in mid-answer; the HTTP server then closes the connection, as a provider's failing proxy does."""


def _no_scripted_fault(record: logging.LogRecord) -> bool:
    """Keeps a fault that the script wanted out of the log."""
    return not (record.exc_info and isinstance(record.exc_info[1], _ConnectionCut))


class _Completion(Response):
    """One answer, streamed or whole, that ends at once when its client goes."""

    def __init__(self, record: ModelRequest) -> None:
        super().__init__()
        self._record = record
        body, reply = record.body, record.reply
        digest = hashlib.sha256(orjson.dumps([record.team, body], option=orjson.OPT_SORT_KEYS)).hexdigest()
        # Nothing random and no clock: the same request gets the same bytes.
        self._head = {
            "id": f"chatcmpl-{digest[:24]}",
            "created": 0,
            "model": str(body.get("model") or MODEL),
            "system_fingerprint": FINGERPRINT,
        }
        self._streams = bool(body.get("stream"))
        self._counts = bool((body.get("stream_options") or {}).get("include_usage"))
        self._text = tokens(reply.text)
        self._call: dict[str, Any] | None = None
        self._arguments: list[str] = []
        if reply.call is not None:
            name, arguments = reply.call
            written = orjson.dumps(arguments, option=orjson.OPT_SORT_KEYS).decode()
            self._call = {
                "id": f"call_{digest[24:40]}",
                "type": "function",
                "function": {"name": name, "arguments": written},
            }
            self._arguments = tokens(written)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        work = asyncio.create_task(self._answer(send))
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
            else:
                self._record.outcome = "gone"
        finally:
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)

    async def _answer(self, send: Send) -> None:
        kind = b"text/event-stream" if self._streams else b"application/json"
        start: Message = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]}
        if self._streams:
            await send(start)
            async for chunk in self._chunks():
                data = b"data: " + (chunk if isinstance(chunk, bytes) else orjson.dumps(chunk)) + b"\n\n"
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        else:
            try:
                async for _ in self._pieces():
                    pass
            except _ConnectionCut:
                # Headers first, so that the client sees a broken answer and not a 500.
                await send(start)
                await send({"type": "http.response.body", "body": b"{", "more_body": True})
                raise
            await send(start)
            await send({"type": "http.response.body", "body": orjson.dumps(self._whole())})
        self._record.outcome = "answered"

    async def _pieces(self) -> AsyncIterator[tuple[Literal["text", "call"], str]]:
        fault = self._record.reply.fault
        limit = None
        if fault is not None:
            limit = fault.reset_after if fault.hang_after is None else fault.hang_after
        parts: list[tuple[Literal["text", "call"], str]] = [
            *(("text", piece) for piece in self._text),
            *(("call", piece) for piece in self._arguments),
        ]
        for kind, piece in parts[:limit]:
            await asyncio.sleep(self._record.reply.delay)
            self._record.output_tokens += 1
            yield kind, piece
        if fault is not None:
            self._record.outcome = "fault"
            if fault.hang_after is not None:
                await asyncio.Event().wait()
            raise _ConnectionCut

    async def _chunks(self) -> AsyncIterator[dict[str, Any] | bytes]:
        yield self._chunk({"role": "assistant", "content": ""})
        opened = False
        async for kind, piece in self._pieces():
            if kind == "text" or self._call is None:
                yield self._chunk({"content": piece})
                continue
            if not opened:
                opened = True
                head = self._call | {"index": 0, "function": self._call["function"] | {"arguments": ""}}
                yield self._chunk({"tool_calls": [head]})
            yield self._chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
        yield self._chunk({}, finish="tool_calls" if self._call else "stop")
        if self._counts:
            yield self._head | {"object": "chat.completion.chunk", "choices": [], "usage": self._usage()}
        yield b"[DONE]"

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self._head | {"object": "chat.completion.chunk", "choices": [choice]}

    def _whole(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self._text) or None, "refusal": None}
        if self._call is not None:
            message["tool_calls"] = [self._call]
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": "tool_calls" if self._call else "stop",
        }
        return self._head | {"object": "chat.completion", "choices": [choice], "usage": self._usage()}

    def _usage(self) -> dict[str, int]:
        read, written = self._record.input_tokens, self._record.output_tokens
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
