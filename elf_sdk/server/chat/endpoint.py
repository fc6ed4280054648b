"""`/chat`: a WebSocket around a session. Credentials, limits, and the two loops that read and write."""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Final

import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketDisconnected

from elf_sdk.closing import CLOSE_CODES
from elf_sdk.errors import BadInput, ElfError, Forbidden, Retryable, Unauthenticated
from elf_sdk.server.auth import LEEWAY, Principal, Verifier, bearer_token
from elf_sdk.server.chat.frames import SUBPROTOCOL, Answer, End, Greeting, Message, ServerFrame, parse
from elf_sdk.server.chat.session import ChatSession
from elf_sdk.server.courier import Progress
from elf_sdk.team.spec import TeamSpec
from elf_sdk.team.work import Chat

__all__ = ["ChatEndpoint"]

log = logging.getLogger("elf.chat")

_SEND_TIMEOUT: Final = 10.0
"""Seconds that one frame may take to leave; a reader that is slower is cut off."""
_CLOSE_TIMEOUT: Final = 5.0
"""Seconds that all sockets together get to close when the server stops."""
_FRAMES_PER_MINUTE: Final = 600
"""Frames that a client may send, understood or not. A person sends a few; messages have a limit of their own."""
_BEARER: Final = "elf.bearer."


class ChatEndpoint:
    """Holds the sessions of one team in this process.

    Args:
        spec: the team, environment merged in.
        verifier: of tokens.
        open_session: makes a session for a caller.
        greet: the first message, from the team's hook.
        summarise: told of the end of a session with its reason; returns the summary.
        query_token: whether a token may stand in the address.
        image: digest of the container image that answers; empty where it is not known.
    """

    def __init__(
        self,
        spec: TeamSpec,
        verifier: Verifier,
        *,
        open_session: Callable[[Principal], ChatSession],
        greet: Callable[[ChatSession], Awaitable[str]],
        summarise: Callable[[ChatSession, str], Awaitable[str]],
        query_token: bool,
        image: str = "",
    ) -> None:
        self._spec = spec
        self._limits: Chat = spec.chat
        self._verifier = verifier
        self._open_session = open_session
        self._greet = greet
        self._summarise = summarise
        self._query_token = query_token
        self._image = image
        self._sessions: dict[str, ChatSession] = {}
        self._connections: Counter[str] = Counter()
        self._sockets: set[asyncio.Future[None]] = set()
        self._stopping = asyncio.Event()

    @property
    def sessions(self) -> int:
        """How many are open."""
        return len(self._sessions)

    async def publish(self, news: Progress) -> None:
        """Tell the session that confirmed a delegation what became of it; if it is gone, the store knows."""
        session = self._sessions.get(news.session_id)
        if session is not None:
            await session.progress(news)

    async def close(self) -> None:
        """Close every socket with `restarting`, so that clients come back."""
        self._stopping.set()
        if self._sockets:
            await asyncio.wait(self._sockets, timeout=_CLOSE_TIMEOUT)

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one socket until it ends."""
        try:
            principal = await self._admit(websocket)
        except ElfError as error:
            # Accepted first, because a browser cannot read a code from a refused handshake.
            await websocket.accept(subprotocol=_subprotocol(websocket))
            code = _refusal(error)
            await _close(websocket, code, str(error))
            return
        await websocket.accept(subprotocol=_subprotocol(websocket))
        if self._connections[principal.owner.key] >= self._limits.max_connections_per_user:
            most = self._limits.max_connections_per_user
            await _close(websocket, "limit", f"you have {most} chats open with this team, which is the most; close one")
            return
        self._connections[principal.owner.key] += 1
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sockets.add(ended)
        try:
            await self._converse(websocket, principal)
        finally:
            self._sockets.discard(ended)
            ended.set_result(None)
            self._connections[principal.owner.key] -= 1
            if not self._connections[principal.owner.key]:
                del self._connections[principal.owner.key]

    async def _admit(self, websocket: WebSocket) -> Principal:
        self._check_origin(websocket)
        principal = await self._verifier.identify(_token(websocket, in_address=self._query_token))
        if principal.kind != "user":
            raise Forbidden("chat is for people; a team calls by A2A")
        if not principal.roles & set(self._limits.allowed_roles):
            wanted = " or ".join(self._limits.allowed_roles)
            raise Forbidden(f"chatting with {self._spec.name} needs the role {wanted}")
        return principal

    def _check_origin(self, websocket: WebSocket) -> None:
        origin = websocket.headers.get("origin")
        if origin is None:
            return
        host = websocket.headers.get("host", "")
        # Compared as text: what is written differently is another origin, and nothing is parsed that could fail.
        if not host or origin not in (f"http://{host}", f"https://{host}"):
            raise Forbidden(f"pages of {origin} may not connect to this team's chat")

    async def _converse(self, websocket: WebSocket, principal: Principal) -> None:
        session = self._open_session(principal)
        try:
            greeting = await self._greet(session)
        except Exception:
            log.exception("the greeting of %s failed in the team's code", self._spec.name)
            await _close(websocket, "failed", "the team could not begin the session; the server's log says why")
            return
        first: Greeting = {
            "type": "greeting",
            "session_id": session.id,
            "team": self._spec.title,
            "manager": self._spec.manager.role,
            "message": greeting,
        }
        if self._image:
            first["image"] = self._image
        await session.outbox.put(first)
        self._sessions[session.id] = session
        reader = asyncio.create_task(self._read(websocket, session))
        sender = asyncio.create_task(_send(websocket, session))
        stopping = asyncio.create_task(self._stopping.wait())
        limit = self._seconds_left(principal)
        try:
            done, _ = await asyncio.wait({reader, sender, stopping}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if reader in done:
                code, reason = reader.result()
            elif sender in done:
                sender.result()
                code, reason = "", "disconnected"
            elif stopping in done:
                code, reason = "restarting", "the server restarts; connect again"
            else:
                code, reason = "session_over", "the session has reached its time limit"
        except (WebSocketDisconnect, WebSocketDisconnected, TimeoutError):
            code, reason = "", "disconnected"
        finally:
            for task in (reader, sender, stopping):
                task.cancel()
            await asyncio.gather(reader, sender, stopping, return_exceptions=True)
            del self._sessions[session.id]
            await session.close()
        summary = await self._summarise(session, reason)
        if code:
            await self._say_goodbye(websocket, session, summary, reason)
            await _close(websocket, code, reason)

    async def _say_goodbye(self, websocket: WebSocket, session: ChatSession, summary: str, reason: str) -> None:
        frames: list[ServerFrame] = []
        while not session.outbox.empty():
            frames.append(session.outbox.get_nowait())
        frames.append({"type": "session_ended", "summary": summary, "reason": reason})
        try:
            async with asyncio.timeout(_SEND_TIMEOUT):
                for frame in frames:
                    await websocket.send_text(orjson.dumps(frame).decode())
        except (WebSocketDisconnect, RuntimeError, TimeoutError):
            log.debug("the client of %s left before the end", session.id)

    def _seconds_left(self, principal: Principal) -> float:
        token = principal.expires_at + LEEWAY - time.time()
        return max(0.0, min(token, self._limits.max_session_duration_minutes * 60))

    async def _read(self, websocket: WebSocket, session: ChatSession) -> tuple[str, str]:
        """Take frames until the session ends; returns the closing code's name and the reason."""
        recent: deque[float] = deque()
        frames: deque[float] = deque(maxlen=_FRAMES_PER_MINUTE)
        while True:
            try:
                async with asyncio.timeout(self._limits.idle_timeout_minutes * 60):
                    raw = await websocket.receive_text()
            except TimeoutError:
                return "session_over", f"nothing was said for {self._limits.idle_timeout_minutes} minutes"
            except KeyError:
                return "too_big", "only text frames are understood"
            if len(frames) == _FRAMES_PER_MINUTE and frames[0] > time.monotonic() - 60:
                return "limit", f"at most {_FRAMES_PER_MINUTE} frames a minute, of whatever kind"
            frames.append(time.monotonic())
            # What was received in one go is otherwise handled in one go, and everybody else waits.
            await asyncio.sleep(0)
            if len(raw.encode()) > self._limits.max_message_bytes:
                return "too_big", f"a message may have at most {self._limits.max_message_bytes} bytes"
            try:
                frame = parse(raw)
            except BadInput as error:
                await session.outbox.put({"type": "error", "code": "BadInput", "message": str(error)})
                continue
            if isinstance(frame, End):
                return "done", "ended by the user"
            if isinstance(frame, Message | Answer):
                if session.messages >= self._limits.max_messages_per_session:
                    return "limit", f"a session has at most {self._limits.max_messages_per_session} messages"
                now = time.monotonic()
                while recent and recent[0] < now - 60:
                    recent.popleft()
                if len(recent) >= self._limits.messages_per_minute:
                    message = f"at most {self._limits.messages_per_minute} messages a minute; wait a little"
                    await session.outbox.put({"type": "error", "code": "limit", "message": message})
                    continue
                recent.append(now)
            await session.handle(frame)


async def _send(websocket: WebSocket, session: ChatSession) -> None:
    while True:
        frame = await session.outbox.get()
        async with asyncio.timeout(_SEND_TIMEOUT):
            await websocket.send_text(orjson.dumps(frame).decode())


async def _close(websocket: WebSocket, code: str, reason: str) -> None:
    # A close reason has at most 123 bytes (RFC 6455, section 5.5).
    short = reason.encode()[:123].decode(errors="ignore")
    try:
        await websocket.close(CLOSE_CODES[code], short)
    except (WebSocketDisconnect, RuntimeError):
        log.debug("the client left before the close")


def _refusal(error: ElfError) -> str:
    if isinstance(error, Retryable):
        return "restarting"  # the only code that tells clients to come again
    return "unauthenticated" if isinstance(error, Unauthenticated) else "forbidden"


def _subprotocol(websocket: WebSocket) -> str | None:
    """What to echo: never the one that holds the token."""
    return SUBPROTOCOL if SUBPROTOCOL in websocket.scope.get("subprotocols", ()) else None


def _token(websocket: WebSocket, *, in_address: bool) -> str:
    for protocol in websocket.scope.get("subprotocols", ()):
        if protocol.startswith(_BEARER):
            encoded = protocol.removeprefix(_BEARER)
            try:
                return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
            except ValueError:
                raise Unauthenticated("the token in the subprotocol is not base64url") from None
    if token := websocket.query_params.get("token"):
        if not in_address:
            raise Unauthenticated(
                "no token is taken from the address here; send it as a subprotocol or an Authorization header"
            )
        return token
    return bearer_token(websocket.headers.get("authorization"))
