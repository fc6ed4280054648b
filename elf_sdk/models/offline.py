"""The offline model: a server on loopback with the APIs of OpenAI and Anthropic, that says what it is.

Frameworks reach it with their own real clients, so what works here works with a provider. The same request gets
the same bytes. It runs in a thread with an event loop of its own: a framework that blocks the team's loop can still
talk to it. One server holds the scripts of many teams, told apart by the path: `http://127.0.0.1:PORT/<team>/v1`.

Served are `GET /v1/models`, `POST /v1/chat/completions` and `POST /v1/messages`, with and without streaming; and
`/requests`, where tests in any language read what was asked.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
import socket
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Literal, Self

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from elf_sdk.errors import BadInput
from elf_sdk.models.script import Fault, Faults, OfflineScript, Prompt, Reply, reply_to, text_of, tokens
from elf_sdk.models.wire import FINGERPRINT, Answer, Completions, Messages, Wire, as_completion

__all__ = ["FINGERPRINT", "MODEL", "ModelRequest", "OfflineModel", "team_url"]

MODEL: Final = "offline"
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
        key: the API key that came with it, as in `Authorization: Bearer <key>` or `x-api-key`; never printed.
        path: of the address.
        record: told when it is over.
    """

    team: str
    body: Mapping[str, Any]
    reply: Reply
    input_tokens: int = 0
    output_tokens: int = 0
    outcome: Literal["open", "answered", "fault", "gone"] = "open"
    key: str = field(default="", repr=False)
    path: str = ""
    record: Callable[[ModelRequest], None] | None = field(default=None, repr=False)

    def shown(self) -> dict[str, Any]:
        """What others may see of it, as JSON: all but the key."""
        reply = self.reply
        return {
            "path": self.path,
            "team": self.team,
            "body": self.body,
            "rule": reply.rule,
            "text": reply.text,
            "calls": [{"tool": tool, "arguments": arguments} for tool, arguments in reply.calls],
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "outcome": self.outcome,
        }

    def close(self) -> None:
        """It is over."""
        if self.record is not None:
            self.record(self)


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
        record: a file that gets a line of JSON for each request when it is over.

    Example:
        with OfflineModel(load_script("offline.yaml")) as model:
            client = OpenAI(base_url=model.url(), api_key="not-needed")
    """

    def __init__(
        self,
        script: OfflineScript | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        record: Path | None = None,
    ) -> None:
        self.requests: deque[ModelRequest] = deque(maxlen=_KEPT)
        self.root = ""
        self._host, self._port = host, port
        self._teams: dict[str, _Team] = {"": _Team(script or OfflineScript())}
        self._path = record
        self._file: BinaryIO | None = None
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
            BadInput: the port is taken, or not allowed, or the record cannot be written.
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
        if self._path is not None:
            try:
                self._file = self._path.open("ab")
            except OSError as error:
                listening.close()
                raise BadInput(f"{self._path}: requests cannot be recorded there: {error.strerror}") from None
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
        if self._file is not None:
            self._file.close()
            self._file = None
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
                Route("/v1/messages", self._message, methods=["POST"]),
                Route("/{team}/v1/messages", self._message, methods=["POST"]),
                Route("/requests", self._recorded, methods=["GET", "DELETE"]),
            ]
        )

    async def _complete(self, request: Request) -> Response:
        return await self._answer(request, Completions, dict)

    async def _message(self, request: Request) -> Response:
        return await self._answer(request, Messages, as_completion)

    async def _answer(
        self, request: Request, api: type[Completions | Messages], read: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> Response:
        team = request.path_params.get("team", "")
        known = self._teams.get(team)
        if known is None:
            return _json(
                api.error(404, f"the offline model has no script for the team {team!r}", "not_found_error"), 404
            )
        body = _parsed(await request.body())
        prompt = _prompt(body, read) if isinstance(body, dict) else body
        if isinstance(body, str) or isinstance(prompt, str):
            return _json(api.error(400, str(prompt), "invalid_request_error"), 400)
        reply = reply_to(prompt, known.script, known.faults)
        headers = request.headers
        record = ModelRequest(
            team,
            body,
            reply,
            input_tokens=sum(len(tokens(text_of(m))) for m in read(body)["messages"]),
            key=headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer "),
            path=request.url.path,
            record=self._record,
        )
        self.requests.append(record)
        if reply.fault is not None and (reply.fault.status is not None or reply.fault.context_too_long):
            record.outcome = "fault"
            record.close()
            return _refusal(reply.fault, api, record.input_tokens)
        digest = hashlib.sha256(orjson.dumps([team, body], option=orjson.OPT_SORT_KEYS)).hexdigest()
        calls = tuple(
            (name, given if isinstance(given, str) else orjson.dumps(given, option=orjson.OPT_SORT_KEYS).decode())
            for name, given in reply.calls
        )
        counts = bool((body.get("stream_options") or {}).get("include_usage"))
        answer = Answer(digest, str(body.get("model") or MODEL), reply.text, calls, reply.finish, counts)
        parts = [(-1, piece) for piece in tokens(reply.text)]
        parts += [(number, piece) for number, (_, written) in enumerate(calls) for piece in tokens(written)]
        return _Reply(record, api(answer), parts, streams=bool(body.get("stream")))

    def _record(self, record: ModelRequest) -> None:
        """Write down what became of a request."""
        if self._file is not None:
            self._file.write(orjson.dumps(record.shown(), option=orjson.OPT_APPEND_NEWLINE))
            self._file.flush()

    async def _recorded(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.requests.clear()
            return Response(status_code=204)
        return _json([record.shown() for record in self.requests])


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
    return dict(body)


def _prompt(body: dict[str, Any], read: Callable[[dict[str, Any]], dict[str, Any]]) -> Prompt | str:
    try:
        return Prompt.of(read(body))
    except (AttributeError, KeyError, TypeError) as error:
        return f"a message, a tool or a tool call has not the shape of the API: {type(error).__name__} {error}"


def _refusal(fault: Fault, api: type[Completions | Messages], tokens: int) -> Response:
    if fault.status is None:
        return _json(api.too_long(tokens), 400)
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    return _json(api.error(fault.status, fault.message, "scripted_fault"), fault.status, headers)


async def _models(request: Request) -> Response:
    return _json({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "elf"}]})


def _json(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(data), status, headers, "application/json")


class _ConnectionCut(Exception):
    """Raised in mid-answer; the HTTP server then closes the connection, as a provider's failing proxy does."""


def _no_scripted_fault(record: logging.LogRecord) -> bool:
    """Keeps a fault that the script wanted out of the log."""
    return not (record.exc_info and isinstance(record.exc_info[1], _ConnectionCut))


class _Reply(Response):
    """One answer, streamed or whole, that ends at once when its client goes."""

    def __init__(self, record: ModelRequest, wire: Wire, parts: Sequence[tuple[int, str]], *, streams: bool) -> None:
        super().__init__()
        self._record = record
        self._wire = wire
        self._parts = parts
        self._streams = streams

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
            self._record.close()

    async def _answer(self, send: Send) -> None:
        kind = b"text/event-stream" if self._streams else b"application/json"
        start: Message = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]}
        if self._streams:
            await send(start)
            await self._stream(send)
        else:
            if self._record.reply.forever:
                await asyncio.Event().wait()
            try:
                async for _ in self._pieces():
                    pass
            except _ConnectionCut:
                # Headers first, so that the client sees a broken answer and not a 500.
                await send(start)
                await send({"type": "http.response.body", "body": b"{", "more_body": True})
                raise
            await send(start)
            whole = self._wire.whole(self._record.input_tokens, self._record.output_tokens)
            await send({"type": "http.response.body", "body": orjson.dumps(whole)})
        self._record.outcome = "answered"

    async def _stream(self, send: Send) -> None:
        async def out(frames: Iterable[bytes]) -> None:
            for frame in frames:
                await send({"type": "http.response.body", "body": frame, "more_body": True})

        begun = False
        async for part, text in self._pieces():
            if not begun:
                await out(self._wire.opening())
                begun = True
            await out(self._wire.piece(part, text))
        if not begun:
            await out(self._wire.opening())
        await out(self._wire.closing(self._record.input_tokens, self._record.output_tokens))
        await send({"type": "http.response.body", "body": b""})

    async def _pieces(self) -> AsyncIterator[tuple[int, str]]:
        reply = self._record.reply
        fault = reply.fault
        limit = None
        if fault is not None:
            limit = fault.reset_after if fault.hang_after is None else fault.hang_after
        await asyncio.sleep(reply.pause)
        parts = itertools.cycle(self._parts) if reply.forever else iter(self._parts)
        for part, text in itertools.islice(parts, limit):
            await asyncio.sleep(reply.delay)
            self._record.output_tokens += 1
            yield part, text
        if fault is not None:
            self._record.outcome = "fault"
            if fault.hang_after is not None:
                await asyncio.Event().wait()
            raise _ConnectionCut


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
