"""The A2A client with which teams call each other. No A2A type crosses its border.

A message is sent under an id of the caller's. A server that declares `IDEMPOTENT_MESSAGE_ID` gets the very same
message again after a dropped connection, and answers with the task as it is by now; what was passed on before is
not passed on again. Any other server is never sent a message twice: its task is subscribed to, once it is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from a2a.client import (
    A2ACardResolver,
    A2AClientError,
    AgentCardResolutionError,
    Client,
    ClientCallContext,
    ClientConfig,
    ClientFactory,
)
from a2a.types import (
    AgentCard,
    CancelTaskRequest,
    GetTaskRequest,
    Message,
    Part,
    Role,
    SendMessageConfiguration,
    SendMessageRequest,
    StreamResponse,
    SubscribeToTaskRequest,
    Task,
)
from a2a.utils.constants import PROTOCOL_VERSION_1_0, TransportProtocol
from a2a.utils.errors import (
    A2AError,
    InternalError,
    InvalidParamsError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)
from google.protobuf.json_format import ParseError

from elf_sdk.errors import (
    BadInput,
    Conflict,
    ElfError,
    Failure,
    Forbidden,
    NotFound,
    Retryable,
    Unauthenticated,
)
from elf_sdk.server.a2a.card import A2A_PATH, IDEMPOTENT_MESSAGE_ID
from elf_sdk.server.a2a.codec import DELEGATION
from elf_sdk.server.a2a.remote import Seen, remote_task
from elf_sdk.server.remote import RemoteTask, RemoteUpdate

__all__ = ["TeamClient"]

_TIMEOUT: Final = 40.0
"""Seconds without a byte after which a connection counts as dropped; a stream carries a sign of life each 15 s."""
_BACKOFF: Final = 0.2
"""Seconds before the first repeat; doubled for each one after."""
_POLL: Final = (0.1, 2.0)
"""Seconds between two looks at a task whose server does not stream: the first, and the longest."""


class TeamClient:
    """Calls one other team.

    Args:
        url: the team's base URL.
        token_provider: a bearer token for that team; asked before each request.
        http: the connections, shared and closed by whoever made them.
        team: its name, for messages to people.
        retries: how often in a row a request is repeated without any news in between.
    """

    def __init__(
        self,
        url: str,
        token_provider: Callable[[], str],
        http: httpx.AsyncClient,
        *,
        team: str = "",
        retries: int = 4,
    ) -> None:
        self.url = url.rstrip("/")
        self._token = token_provider
        self._http = http
        self._retries = retries
        self._where = f"the team {team!r} at {self.url}" if team else f"the team at {self.url}"
        self._card: AgentCard | None = None

    async def name(self) -> str:
        """The team's name, from its card.

        Raises:
            ElfError: as `send` does.
        """
        return (await self._discover()).name

    async def send(
        self,
        text: str,
        *,
        message_id: str,
        context_id: str | None = None,
        task_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> AsyncGenerator[RemoteUpdate, None]:
        """Send a message, and follow its task until it ends or asks something.

        Args:
            text: what is asked, or the answer to what the task asks.
            message_id: the caller's id; the same one again gives the same task.
            context_id: the conversation.
            task_id: the task that waits for this answer.
            metadata: `chain`, `delegation_id` and `user` of a delegation; must be the same when it is sent again.

        Raises:
            Denied: the team does not let us in.
            BadInput: the team refuses the message as it is.
            Conflict: the task does not wait for an answer.
            NotFound: there is no such task of ours.
            Retryable: the team is not reachable, or stayed unreachable after the message was sent.
            Failure: the answer is none, or a server without idempotent ids left the outcome unknown.
        """
        message = Message(message_id=message_id, role=Role.ROLE_USER, parts=[Part(text=text)])
        message.context_id = context_id or ""
        message.task_id = task_id or ""
        if metadata:
            message.metadata.update({DELEGATION: dict(metadata)})
        seen = Seen(task_id or "")
        failures = 0
        while True:
            problem: ElfError
            sent = False
            try:
                with self._plain_errors():
                    card = await self._discover()
                    seen.only_answer = _is_elf(card)
                    sent = True
                    async with aclosing(self._responses(card, message, seen)) as responses:
                        async for response in responses:
                            for update in seen.updates(response):
                                failures = 0
                                yield update
                                if update.final or update.state.waits:
                                    return
                problem = Retryable(f"{self._where} closed the stream before the task had ended")
            except Retryable as error:
                problem = error
            card_known = self._card
            if sent and card_known and not _is_elf(card_known) and not seen.task_id and not _never_arrived(problem):
                raise Failure(
                    f"the connection to {self._where} was lost and it is unknown whether the message {message_id!r} "
                    "arrived; the server does not take a message twice, so it was not sent again"
                ) from problem
            failures += 1
            if failures > self._retries:
                raise problem
            await asyncio.sleep(_BACKOFF * 2 ** (failures - 1))

    async def get(self, task_id: str) -> RemoteTask:
        """The task as it is now.

        Raises:
            ElfError: as `send` does.
        """
        with self._plain_errors():
            card = await self._discover()
            task = await self._client(card).get_task(GetTaskRequest(id=task_id, history_length=0), context=self._call())
            return remote_task(task, _is_elf(card))

    async def cancel(self, task_id: str) -> RemoteTask:
        """Cancel the task; returns how it ended.

        Raises:
            Conflict: it has ended already.
            ElfError: as `send` does.
        """
        with self._plain_errors():
            card = await self._discover()
            task = await self._client(card).cancel_task(CancelTaskRequest(id=task_id), context=self._call())
            return remote_task(task, _is_elf(card))

    async def _responses(self, card: AgentCard, message: Message, seen: Seen) -> AsyncGenerator[StreamResponse, None]:
        client = self._client(card)
        if not card.capabilities.streaming:
            async with aclosing(self._polled(client, message, seen, _is_elf(card))) as tasks:
                async for task in tasks:
                    yield StreamResponse(task=task)
            return
        if seen.task_id and not message.task_id and not _is_elf(card):
            stream = client.subscribe(SubscribeToTaskRequest(id=seen.task_id), context=self._call())
        else:
            stream = client.send_message(SendMessageRequest(message=message), context=self._call())
        async for response in stream:
            yield response

    async def _polled(self, client: Client, message: Message, seen: Seen, elf: bool) -> AsyncGenerator[Task, None]:
        if elf or not seen.task_id or message.task_id:
            request = SendMessageRequest(
                message=message, configuration=SendMessageConfiguration(return_immediately=True, history_length=0)
            )
            async for response in client.send_message(request, context=self._call()):
                if response.HasField("message"):
                    raise Failure(f"{self._where} answered with a message where a task was expected")
                seen.task_id = response.task.id
                yield response.task
        wait, longest = _POLL
        while True:
            await asyncio.sleep(wait)
            wait = min(wait * 1.5, longest)
            yield await client.get_task(GetTaskRequest(id=seen.task_id, history_length=0), context=self._call())

    def _client(self, card: AgentCard) -> Client:
        return ClientFactory(ClientConfig(httpx_client=self._http)).create(card)

    def _call(self) -> ClientCallContext:
        return ClientCallContext(
            service_parameters={
                "Authorization": f"Bearer {self._token()}",
                "A2A-Extensions": IDEMPOTENT_MESSAGE_ID,
            },
            timeout=_TIMEOUT,
        )

    async def _discover(self) -> AgentCard:
        """The team's card, with the one interface that is used."""
        if self._card is None:
            with self._plain_errors():
                card = await A2ACardResolver(self._http, self.url).get_agent_card(http_kwargs={"timeout": _TIMEOUT})
            self._card = self._with_interface(card)
        return self._card

    def _with_interface(self, card: AgentCard) -> AgentCard:
        fitting = [
            interface
            for interface in card.supported_interfaces
            if interface.protocol_binding == TransportProtocol.JSONRPC.value
            and interface.protocol_version == PROTOCOL_VERSION_1_0
        ]
        here = [interface for interface in fitting if _origin(interface.url) == _origin(self.url)]
        if not here and fitting and _is_elf(card):
            # A team's card may name its public address while we call it inside the cluster; the path is the same.
            here = fitting[:1]
            here[0].url = f"{self.url}{A2A_PATH}"
        if not here:
            # Our token must not go where a card says, only where we were told to send it.
            raise Failure(f"the card of {self._where} names no JSON-RPC interface of A2A 1.0 at that address")
        chosen = AgentCard()
        chosen.CopyFrom(card)
        del chosen.supported_interfaces[:]
        chosen.supported_interfaces.append(here[0])
        return chosen

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        try:
            yield
        except (A2AError, ParseError, httpx.HTTPError) as error:
            raise self._plain(error) from error

    def _plain(self, error: Exception) -> ElfError:
        where = self._where
        cause = error.__cause__ if isinstance(error, A2AClientError) else error
        match error:
            case TaskNotFoundError():
                return NotFound(f"{where} has no such task of ours")
            case TaskNotCancelableError() | UnsupportedOperationError():
                return Conflict(f"{where} refused: {error.message}")
            case InvalidParamsError():
                return BadInput(f"{where} refused the message: {error.message}")
            case InternalError(data={"retryable": "true"}):
                return Retryable(f"{where} cannot take it now: {error.message}")
            case _:
                pass
        if isinstance(cause, httpx.HTTPStatusError):
            return self._refused(where, cause.response)
        if isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout):
            return Retryable(f"{where} cannot be reached; check the address, and that it runs")
        if isinstance(cause, httpx.TransportError):
            return Retryable(f"the connection to {where} broke ({type(cause).__name__})")
        if isinstance(error, AgentCardResolutionError | ParseError | A2AClientError):
            return Failure(f"{where} gave an answer that is not A2A: {str(error)[:300]}")
        return Failure(f"{where} failed: {str(error)[:300]}")

    def _refused(self, where: str, response: httpx.Response) -> ElfError:
        match response.status_code:
            case 401:
                return Unauthenticated(f"{where} does not accept our token (401){_said(response)}")
            case 403:
                return Forbidden(f"{where} does not let us call it (403){_said(response)}")
            case 429 | 502 | 503 | 504 as status:
                return Retryable(f"{where} cannot answer now (HTTP {status})")
            case status:
                return Failure(f"{where} answered with HTTP {status}{_said(response)}")


def _is_elf(card: AgentCard) -> bool:
    return any(extension.uri == IDEMPOTENT_MESSAGE_ID for extension in card.capabilities.extensions)


def _never_arrived(problem: ElfError) -> bool:
    cause = problem.__cause__
    return isinstance(cause.__cause__ if cause else None, httpx.ConnectError | httpx.ConnectTimeout)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _said(response: httpx.Response) -> str:
    """The sentence in a refusal, where there is one."""
    try:
        said = response.json()["message"]
    except (ValueError, KeyError, TypeError, httpx.ResponseNotRead):
        return ""
    return f": {said[:300]}" if isinstance(said, str) else ""
