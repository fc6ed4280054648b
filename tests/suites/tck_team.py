"""The team that the A2A TCK tests: it does what the prefix of a message's id says, as the suite's scenarios have it.

`python -m tests.suites.tck_team` serves it where `ELF_HOST` and `ELF_PORT` say. The TCK knows no credentials, so each
request without one gets a genuine token on its way in; all behind that is the server as it is. Calls over gRPC do not
come through ASGI, so there the team itself takes a call without a token for one with it.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncGenerator, Callable
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from elf_sdk.runs.adapter import AdapterCapabilities, RunContext, RunError
from elf_sdk.runs.events import Artifact, AuthRequired, Event, InputRequired, MessageOnly, TextDelta
from elf_sdk.server.auth import Issuer, Principal
from elf_sdk.server.listen import bind, server_for
from elf_sdk.server.team_server import TeamServer
from elf_sdk.settings import load_settings
from elf_sdk.team.spec import TeamSpec
from elf_sdk.team.work import Member

__all__ = ["TckAdapter", "tck_server"]

_FILE: Final = Artifact("file", "output", "text/plain", raw=base64.b64encode(b"tck").decode(), filename="output.txt")
_URL: Final = Artifact("file", "output", "text/plain", url="https://example.com/output.txt", filename="output.txt")
_DATA: Final = Artifact("data", "data", "application/json", data={"key": "value", "count": 42})
_LONG: Final = 4.0
"""Seconds: twice the suite's timeout of a stream."""


def _text(text: str) -> Artifact:
    return Artifact("text", "text", "text/plain", text=text)


_BEHAVIOURS: Final[dict[str, tuple[Event, ...]]] = {
    "tck-complete-task": (TextDelta("Hello from TCK"),),
    "tck-artifact-text": (_text("Generated text content"),),
    "tck-artifact-file-url": (_URL,),
    "tck-artifact-file": (_FILE,),
    "tck-artifact-data": (_DATA,),
    "tck-message-response": (TextDelta("Direct message response"), MessageOnly()),
    "tck-auth-required": (AuthRequired("right", "Let me read your calendar.", url="https://example.com/allow"),),
    "tck-stream-001": (_text("Stream hello from TCK"),),
    "tck-stream-002": (),
    "tck-stream-003": (_text("Stream task lifecycle"),),
    "tck-stream-ordering-001": (_text("Ordered output"),),
    "tck-stream-artifact-text": (_text("Streamed text content"),),
    "tck-stream-artifact-file": (_FILE,),
    "tck-stream-artifact-chunked": (
        Artifact("chunks", "chunks", "text/plain", text="chunk-1 ", last=False),
        Artifact("chunks", "chunks", "text/plain", text="chunk-2", append=True),
    ),
}


class TckAdapter:
    """The suite's scenarios; what none of them describes is answered with the message's id."""

    name = "function"

    def __init__(self, stream: bool = True) -> None:
        self.capabilities = AdapterCapabilities(stream=stream, human=True, cancel="certain", recover=False)

    async def run(self, ctx: RunContext) -> AsyncGenerator[Event, None]:
        message_id = ctx.message_id
        if message_id.startswith("tck-reject-task"):
            raise RunError("rejected", code="rejected")
        if message_id.startswith("tck-input-required"):
            yield InputRequired(f"question-{len(ctx.answers)}", "What else?")
            return
        if message_id.startswith("test-resubscribe-message-id"):
            await asyncio.sleep(_LONG)
            return
        # The longer prefix goes first: `tck-artifact-file` begins `tck-artifact-file-url` as well.
        for prefix in sorted(_BEHAVIOURS, key=len, reverse=True):
            if message_id.startswith(prefix):
                for event in _BEHAVIOURS[prefix]:
                    yield event
                return
        yield TextDelta(f"no scenario is for {message_id}")


class TckTeam(TeamServer):
    adapter = TckAdapter(os.environ.get("TCK_STREAM") != "off")

    async def _authenticate(self, request: Request) -> Principal:
        if "authorization" in request.headers:
            return await super()._authenticate(request)
        settings = load_settings()
        issuer = Issuer(settings.jwt_secret, settings.organisation, settings.environment)
        headers = [(b"authorization", f"Bearer {issuer.user_token('tck', self.spec.name)}".encode())]
        return await super()._authenticate(Request({"type": "http", "headers": headers}))


def tck_server() -> TeamServer:
    """The team."""
    return TckTeam(
        TeamSpec(
            name="tck",
            display_name="TCK",
            purpose="Does what the A2A TCK asks for.",
            members=(Member(role="Tester", is_manager=True),),
        )
    )


class _LetIn:
    """Gives each request without a credential one, and closes its connection, so that the next may go elsewhere."""

    def __init__(self, app: ASGIApp, token: Callable[[], str]) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        if scope["type"] == "http" and not any(name == b"authorization" for name, _ in scope["headers"]):
            bearer = (b"authorization", f"Bearer {self._token()}".encode())
            scope = {**scope, "headers": [*scope["headers"], bearer]}
        await self._app(scope, receive, closing)


def main() -> None:
    """Serve until stopped; the first line of the output is the address."""
    settings = load_settings()
    team = tck_server()
    issuer = Issuer(settings.jwt_secret, settings.organisation, settings.environment)
    sock = bind(settings.host, settings.port)
    print("http://{}:{}".format(*sock.getsockname()[:2]), flush=True)  # noqa: T201 - it is waited for
    server_for(_LetIn(team, lambda: issuer.user_token("tck", team.spec.name))).run(sockets=[sock])


if __name__ == "__main__":
    main()
