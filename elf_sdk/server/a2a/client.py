"""The A2A client with which teams call each other. No A2A type crosses its border.

A message is sent under an id of the caller's. A server that declares `IDEMPOTENT_MESSAGE_ID` gets the very same
message again after a dropped connection, and answers with the task as it is by now; what was passed on before is
not passed on again. Any other server is never sent a message twice: its task is subscribed to, once it is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
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
    Artifact,
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
    TaskState,
    TaskStatus,
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
from google.protobuf.json_format import MessageToDict, ParseError

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
from elf_sdk.runs.log import RunState
from elf_sdk.server.a2a.card import A2A_PATH, IDEMPOTENT_MESSAGE_ID
from elf_sdk.server.a2a.codec import ANSWER, DELEGATION, RUN_STATES

__all__ = ["RemoteTask", "RemoteUpdate", "TeamClient"]

_TIMEOUT: Final = 40.0
"""Seconds without a byte after which a connection counts as dropped; a stream carries a sign of life each 15 s."""
_BACKOFF: Final = 0.2
"""Seconds before the first repeat; doubled for each one after."""
_POLL: Final = (0.1, 2.0)
"""Seconds between two looks at a task whose server does not stream: the first, and the longest."""


@dataclass(frozen=True, slots=True)
class RemoteTask:
    """Another team's task.

    Attributes:
        task_id: its id there.
        state: where it is.
        text: the answer, as far as it goes.
        message: the question, the error or the reason, as the state is; else empty.
        code: of a failure, as `Failed.code`; else empty.
        retryable: of a failure.
    """

    task_id: str
    state: RunState
    text: str
    message: str = ""
    code: str = ""
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class RemoteUpdate:
    """What is new about another team's task.

    Attributes:
        task_id: its id there.
        state: where it is.
        text_delta: the next piece of the answer, or empty.
        replaces: `text_delta` is the whole answer so far, and what came before is void.
        step: name of a step that began, or empty.
        question: what the team asks, where the state is INPUT_REQUIRED.
        error: why it failed or was cancelled.
        retryable: of a failure.
        final: the task has ended.
    """

    task_id: str
    state: RunState
    text_delta: str = ""
    replaces: bool = False
    step: str = ""
    question: str = ""
    error: str = ""
    retryable: bool = False
    final: bool = False


class TeamClient:
    """Calls one other team.

    Args:
        url: the team's base URL.
        token_provider: a bearer token for that team; asked before each request.
        http: the connections, shared and closed by whoever made them.
        retries: how often in a row a request is repeated without any news in between.
    """

    def __init__(
        self, url: str, token_provider: Callable[[], str], http: httpx.AsyncClient, *, retries: int = 4
    ) -> None:
        self.url = url.rstrip("/")
        self._token = token_provider
        self._http = http
        self._retries = retries
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
        seen = _Seen(task_id or "")
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
                                if update.final or update.state is RunState.INPUT_REQUIRED:
                                    return
                problem = Retryable(f"the team at {self.url} closed the stream before the task had ended")
            except Retryable as error:
                problem = error
            card_known = self._card
            if sent and card_known and not _is_elf(card_known) and not seen.task_id and not _never_arrived(problem):
                raise Failure(
                    f"the connection to {self.url} was lost and it is unknown whether the message {message_id!r} "
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
            return _remote_task(task, _is_elf(card))

    async def cancel(self, task_id: str) -> RemoteTask:
        """Cancel the task; returns how it ended.

        Raises:
            Conflict: it has ended already.
            ElfError: as `send` does.
        """
        with self._plain_errors():
            card = await self._discover()
            task = await self._client(card).cancel_task(CancelTaskRequest(id=task_id), context=self._call())
            return _remote_task(task, _is_elf(card))

    async def _responses(self, card: AgentCard, message: Message, seen: _Seen) -> AsyncGenerator[StreamResponse, None]:
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

    async def _polled(self, client: Client, message: Message, seen: _Seen, elf: bool) -> AsyncGenerator[Task, None]:
        if elf or not seen.task_id or message.task_id:
            request = SendMessageRequest(
                message=message, configuration=SendMessageConfiguration(return_immediately=True, history_length=0)
            )
            async for response in client.send_message(request, context=self._call()):
                if response.HasField("message"):
                    raise Failure(f"the team at {self.url} answered with a message where a task was expected")
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
            service_parameters={"Authorization": f"Bearer {self._token()}"},
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
            raise Failure(f"the card of the team at {self.url} names no JSON-RPC interface of A2A 1.0 at that address")
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
        where = f"the team at {self.url}"
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


class _Seen:
    """What was passed on of a task, so that nothing is passed on twice."""

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        self.only_answer = True
        self._text = ""
        self._last: tuple[RunState, str] | None = None

    def updates(self, response: StreamResponse) -> Iterator[RemoteUpdate]:
        match response.WhichOneof("payload"):
            case "task":
                self.task_id = response.task.id
                yield from self._upto(response.task)
            case "status_update":
                self.task_id = response.status_update.task_id
                metadata = response.status_update.metadata
                yield from self._status(response.status_update.status, _step(metadata))
            case "artifact_update":
                event = response.artifact_update
                self.task_id = event.task_id
                if _counts(event.artifact, self.only_answer):
                    text = _text(event.artifact)
                    if not event.append and self._text and self.only_answer:
                        self._text = text
                        yield self._update(text_delta=text, replaces=True)
                    elif text:
                        self._text += text
                        yield self._update(text_delta=text)
            case "message":
                # An agent that answers without a task: all is said.
                text = "".join(part.text for part in response.message.parts)
                self._last = (RunState.FINISHED, "")
                yield self._update(text_delta=text, final=True)
            case _:
                pass

    def _upto(self, task: Task) -> Iterator[RemoteUpdate]:
        text = _answer(task, self.only_answer)
        if text.startswith(self._text):
            delta, replaces = text[len(self._text) :], False
        else:
            delta, replaces = text, True
        self._text = text
        if delta or replaces:
            self._last = self._last or (RunState.WORKING, "")
            yield self._update(text_delta=delta, replaces=replaces)
        yield from self._status(task.status, "")

    def _status(self, status: TaskStatus, step: str) -> Iterator[RemoteUpdate]:
        state = RUN_STATES.get(status.state, RunState.WORKING)
        said = "".join(part.text for part in status.message.parts)
        if (state, said) == self._last and not step:
            return
        self._last = (state, said)
        yield self._update(
            step=step,
            question=said if state is RunState.INPUT_REQUIRED else "",
            error=said if state in (RunState.FAILED, RunState.CANCELLED) else "",
            retryable=_failure(status)[1],
            final=state.terminal,
        )

    def _update(self, **about: Any) -> RemoteUpdate:
        state = self._last[0] if self._last else RunState.WORKING
        return RemoteUpdate(self.task_id, state, **about)


def _is_elf(card: AgentCard) -> bool:
    return any(extension.uri == IDEMPOTENT_MESSAGE_ID for extension in card.capabilities.extensions)


def _never_arrived(problem: ElfError) -> bool:
    cause = problem.__cause__
    return isinstance(cause.__cause__ if cause else None, httpx.ConnectError | httpx.ConnectTimeout)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _counts(artifact: Artifact, only_answer: bool) -> bool:
    return artifact.artifact_id == ANSWER or not only_answer


def _text(artifact: Artifact) -> str:
    return "".join(part.text for part in artifact.parts)


def _answer(task: Task, only_answer: bool) -> str:
    return "".join(_text(artifact) for artifact in task.artifacts if _counts(artifact, only_answer))


def _step(metadata: Any) -> str:
    given = MessageToDict(metadata)
    return str(given.get("name", "")) if given.get("event") == "step" and given.get("phase") == "start" else ""


def _failure(status: TaskStatus) -> tuple[str, bool]:
    if status.state != TaskState.TASK_STATE_FAILED:
        return "", False
    metadata = MessageToDict(status.message.metadata)
    return str(metadata.get("code", "")), metadata.get("retryable") is True


def _remote_task(task: Task, only_answer: bool) -> RemoteTask:
    code, retryable = _failure(task.status)
    return RemoteTask(
        task_id=task.id,
        state=RUN_STATES.get(task.status.state, RunState.WORKING),
        text=_answer(task, only_answer),
        message="".join(part.text for part in task.status.message.parts),
        code=code,
        retryable=retryable,
    )


def _said(response: httpx.Response) -> str:
    """The sentence in a refusal, where there is one."""
    try:
        said = response.json()["error"]
    except (ValueError, KeyError, TypeError, httpx.ResponseNotRead):
        return ""
    return f": {said[:300]}" if isinstance(said, str) else ""
