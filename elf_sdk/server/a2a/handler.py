"""The SDK's request handler on the run engine.

Every access is scoped by the caller's owner, so another's task answers exactly as an absent one. Nothing is kept
here: a task is a run, and its stream is a subscription to the run's log.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, NoReturn

from a2a.server.context import ServerCallContext
from a2a.server.request_handlers import RequestHandler
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
    SendMessageConfiguration,
    SendMessageRequest,
    SubscribeToTaskRequest,
    Task,
    TaskPushNotificationConfig,
    TaskState,
)
from a2a.utils.constants import DEFAULT_LIST_TASKS_PAGE_SIZE, MAX_LIST_TASKS_PAGE_SIZE
from a2a.utils.errors import (
    ExtendedAgentCardNotConfiguredError,
    InvalidParamsError,
    PushNotificationNotSupportedError,
    TaskNotCancelableError,
    UnsupportedOperationError,
)
from a2a.utils.proto_utils import validate_proto_required_fields
from typing_extensions import override

from elf_sdk.errors import BadInput, Conflict
from elf_sdk.runs.adapter import Owner
from elf_sdk.runs.engine import Engine
from elf_sdk.runs.events import Answered, InputRequired, clean
from elf_sdk.runs.run import IdempotencyKey, Run, RunFilter, RunState
from elf_sdk.server.a2a.codec import RUN_STATES, TASK_STATES, StreamEvent, TaskView, message_text, run_request
from elf_sdk.server.a2a.errors import speaking_a2a

__all__ = ["PRINCIPAL", "EngineHandler"]

PRINCIPAL: Final = "elf.principal"
"""Key of the caller's `Principal` in the state of a call's context."""

_LISTED: Final = 1000
"""The latest runs that ListTasks pages through."""


class EngineHandler(RequestHandler):
    """A2A's operations as operations of an `Engine`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @override
    async def on_message_send(self, params: SendMessageRequest, context: ServerCallContext) -> Task:
        with speaking_a2a():
            owner = _owner(context)
            run = await self._begin(params, owner)
            if not params.configuration.return_immediately:
                run = await self._engine.settled(run.id, owner)
            return await self._task(run, _history_length(params.configuration))

    @override
    async def on_message_send_stream(
        self, params: SendMessageRequest, context: ServerCallContext
    ) -> AsyncGenerator[StreamEvent, None]:
        with speaking_a2a():
            self._require_streaming()
            owner = _owner(context)
            run = await self._begin(params, owner)
            async with aclosing(
                self._follow(run, owner, _history_length(params.configuration), until_asked=True)
            ) as stream:
                async for event in stream:
                    yield event

    @override
    async def on_subscribe_to_task(
        self, params: SubscribeToTaskRequest, context: ServerCallContext
    ) -> AsyncGenerator[StreamEvent, None]:
        with speaking_a2a():
            validate_proto_required_fields(params)
            self._require_streaming()
            owner = _owner(context)
            run = await self._engine.get(params.id, owner)
            if run.state.terminal:
                raise UnsupportedOperationError(f"the task {run.id!r} has ended; get it with GetTask")
            async with aclosing(self._follow(run, owner, None)) as stream:
                async for event in stream:
                    yield event

    @override
    async def on_get_task(self, params: GetTaskRequest, context: ServerCallContext) -> Task:
        with speaking_a2a():
            validate_proto_required_fields(params)
            run = await self._engine.get(params.id, _owner(context))
            return await self._task(run, _history_length(params))

    @override
    async def on_cancel_task(self, params: CancelTaskRequest, context: ServerCallContext) -> Task:
        with speaking_a2a(conflict=TaskNotCancelableError):
            validate_proto_required_fields(params)
            return await self._task(await self._engine.cancel(params.id, _owner(context)), None)

    @override
    async def on_list_tasks(self, params: ListTasksRequest, context: ServerCallContext) -> ListTasksResponse:
        with speaking_a2a():
            history_length = _history_length(params)
            size = params.page_size if params.HasField("page_size") else DEFAULT_LIST_TASKS_PAGE_SIZE
            if not 1 <= size <= MAX_LIST_TASKS_PAGE_SIZE:
                raise BadInput(f"pageSize is {size}; ask for 1 to {MAX_LIST_TASKS_PAGE_SIZE} tasks")
            start = _page_start(params.page_token)
            runs = await self._engine.log.list(self._filter(params, _owner(context)), _LISTED)
            if params.HasField("status_timestamp_after"):
                after = params.status_timestamp_after.ToNanoseconds() / 1e9
                runs = tuple(run for run in runs if run.updated_at.timestamp() >= after)
            runs = tuple(sorted(runs, key=lambda run: run.updated_at, reverse=True))
            page = runs[start : start + size]
            return ListTasksResponse(
                tasks=[await self._task(run, history_length, params.include_artifacts) for run in page],
                next_page_token=str(start + size) if start + size < len(runs) else "",
                page_size=size,
                total_size=len(runs),
            )

    @override
    async def on_create_task_push_notification_config(
        self, params: TaskPushNotificationConfig, context: ServerCallContext
    ) -> TaskPushNotificationConfig:
        _no_push()

    @override
    async def on_get_task_push_notification_config(
        self, params: GetTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> TaskPushNotificationConfig:
        _no_push()

    @override
    async def on_list_task_push_notification_configs(
        self, params: ListTaskPushNotificationConfigsRequest, context: ServerCallContext
    ) -> ListTaskPushNotificationConfigsResponse:
        _no_push()

    @override
    async def on_delete_task_push_notification_config(
        self, params: DeleteTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> None:
        _no_push()

    @override
    async def on_get_extended_agent_card(
        self, params: GetExtendedAgentCardRequest, context: ServerCallContext
    ) -> AgentCard:
        raise ExtendedAgentCardNotConfiguredError("this team has no extended card; the public one says it all")

    async def _begin(self, params: SendMessageRequest, owner: Owner) -> Run:
        """The run that the message starts, started before, or answers."""
        validate_proto_required_fields(params)
        _history_length(params.configuration)
        if params.configuration.HasField("task_push_notification_config"):
            _no_push()
        message = params.message
        if message.task_id:
            return await self._answer(message, owner)
        spec = self._engine.spec
        request = run_request(message, spec.name, owner, spec.delegation.max_depth)
        with speaking_a2a(conflict=InvalidParamsError):
            return await self._engine.start(request, IdempotencyKey("a2a", "send", message.message_id))

    async def _answer(self, message: Message, owner: Owner) -> Run:
        """The run of `message.task_id`, which gets the message as the answer to its oldest open question."""
        run = await self._engine.get(message.task_id, owner)
        if message.context_id and message.context_id != run.request.context_id:
            raise BadInput(f"message.contextId is not that of the task {run.id!r}; leave it out")
        # As the log keeps them, so that a repeat is recognised.
        text, message_id = clean(message_text(message)), clean(message.message_id)
        open_questions: list[str] = []
        for logged in await self._engine.events(run.id, owner):
            match logged.event:
                case Answered(key=key, answer=answer) if key == message_id:
                    if answer != text:
                        raise BadInput(f"the messageId {message_id!r} was used for another answer")
                    return run
                case Answered(question_id) if question_id in open_questions:
                    open_questions.remove(question_id)
                case InputRequired(question_id) if question_id not in open_questions:
                    open_questions.append(question_id)
                case _:
                    pass
        if run.state is not RunState.INPUT_REQUIRED or not open_questions:
            state = "has ended" if run.state.terminal else "asks nothing now"
            raise Conflict(f"the task {run.id!r} {state}; send a message without taskId to start another")
        return await self._engine.answer(run.id, owner, open_questions[0], text, message_id)

    async def _follow(
        self, run: Run, owner: Owner, history_length: int | None, *, until_asked: bool = False
    ) -> AsyncGenerator[StreamEvent, None]:
        """The task as it is, then what happens, until it ends; or, with `until_asked`, until it asks something."""
        view = TaskView(run, await self._engine.events(run.id, owner))
        yield view.task(history_length)
        if until_asked and await self._rests(run, view):
            return
        async with aclosing(self._engine.subscribe(run.id, owner, view.seq)) as subscription:
            async for logged in subscription:
                for update in view.updates(logged):
                    yield update
                if until_asked and await self._rests(run, view):
                    return

    async def _rests(self, run: Run, view: TaskView) -> bool:
        """Whether the run waits for a person and all that it did before was shown."""
        if view.state is not RunState.INPUT_REQUIRED:
            return False
        now = await self._engine.get(run.id, run.request.owner)
        return now.state is RunState.INPUT_REQUIRED and now.head == view.seq

    async def _task(self, run: Run, history_length: int | None, artifacts: bool = True) -> Task:
        return TaskView(run, await self._engine.events(run.id, run.request.owner)).task(history_length, artifacts)

    def _require_streaming(self) -> None:
        if not self._engine.adapter.capabilities.stream:
            raise UnsupportedOperationError("this team does not stream, as its card says; use SendMessage and GetTask")

    def _filter(self, params: ListTasksRequest, owner: Owner) -> RunFilter:
        states = None
        if params.status != TaskState.TASK_STATE_UNSPECIFIED:
            state = RUN_STATES.get(params.status)
            # A state that no run has here fits no task.
            states = frozenset({state} if state and TASK_STATES[state] == params.status else ())
        return RunFilter(self._engine.spec.name, owner, params.context_id or None, states)


def _owner(context: ServerCallContext) -> Owner:
    owner: Owner = context.state[PRINCIPAL].owner
    return owner


def _history_length(params: SendMessageConfiguration | GetTaskRequest | ListTasksRequest) -> int | None:
    """The `history_length` of a request; None where it is not given."""
    if not params.HasField("history_length"):
        return None
    length: int = params.history_length
    if length < 0:
        raise BadInput(f"historyLength is {length}; it cannot be negative")
    return length


def _page_start(token: str) -> int:
    if not token:
        return 0
    if not token.isdecimal() or len(token) > 6:
        raise BadInput("pageToken is not one that this team gave")
    return int(token)


def _no_push() -> NoReturn:
    raise PushNotificationNotSupportedError(
        "this team sends no push notifications, as its card says; subscribe instead"
    )
