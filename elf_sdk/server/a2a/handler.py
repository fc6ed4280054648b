"""A2A's operations on the run engine: values in, ProtoJSON out.

Every access is scoped by the caller's owner, so another's task answers exactly as an absent one. Nothing is kept
here: a task is a run, and its stream is a subscription to the run's log.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final, NoReturn

from elf_sdk.errors import BadInput, Conflict
from elf_sdk.runs.adapter import Owner
from elf_sdk.runs.engine import Engine
from elf_sdk.runs.events import Answered, InputRequired, clean
from elf_sdk.runs.run import IdempotencyKey, Run, RunFilter, RunState
from elf_sdk.server.a2a.codec import RUN_STATES, TASK_STATES, TaskView, message_text, run_request
from elf_sdk.server.a2a.errors import Fault, FaultKind
from elf_sdk.server.a2a.values import ListTasks, Message, SendMessage, TaskQuery

__all__ = ["Handler", "no_push"]

Json = dict[str, Any]

_LISTED: Final = 1000
"""The latest runs that ListTasks pages through."""
_PAGE: Final = 50
_LARGEST_PAGE: Final = 100


class Handler:
    """A2A's operations as operations of an `Engine`. All of them raise `Fault` or `ElfError`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def send(self, request: SendMessage, owner: Owner) -> Json:
        """The Task that the message starts, started before, or answers, once it rests."""
        run = await self._begin(request, owner)
        if not request.return_immediately:
            run = await self._engine.settled(run.id, owner)
        return await self._task(run, request.history_length)

    async def stream(self, request: SendMessage, owner: Owner) -> AsyncGenerator[Json, None]:
        """The same as StreamResponses, until the task has ended or asks something."""
        self._require_streaming()
        run = await self._begin(request, owner)
        async with aclosing(self._follow(run, owner, request.history_length, until_asked=True)) as stream:
            async for event in stream:
                yield event

    async def subscribe(self, query: TaskQuery, owner: Owner) -> AsyncGenerator[Json, None]:
        """The task as it is and what happens from now on, as StreamResponses."""
        self._require_streaming()
        run = await self._engine.get(query.id, owner)
        if run.state.terminal:
            raise Fault(FaultKind.UNSUPPORTED_OPERATION, f"the task {run.id!r} has ended; get it with GetTask")
        async with aclosing(self._follow(run, owner, None)) as stream:
            async for event in stream:
                yield event

    async def get(self, query: TaskQuery, owner: Owner) -> Json:
        """The Task."""
        run = await self._engine.get(query.id, owner)
        return await self._task(run, _history_length(query.history_length))

    async def cancel(self, query: TaskQuery, owner: Owner) -> Json:
        """The Task, cancelled."""
        try:
            return await self._task(await self._engine.cancel(query.id, owner), None)
        except Conflict as error:
            raise Fault(FaultKind.TASK_NOT_CANCELABLE, str(error)) from error

    async def list(self, query: ListTasks, owner: Owner) -> Json:
        """A page of the owner's tasks, the latest changed first, as a ListTasksResponse."""
        history_length = _history_length(query.history_length)
        size = _PAGE if query.page_size is None else query.page_size
        if not 1 <= size <= _LARGEST_PAGE:
            raise BadInput(f"pageSize is {size}; ask for 1 to {_LARGEST_PAGE} tasks")
        start = _page_start(query.page_token)
        runs = await self._engine.log.list(self._filter(query, owner), _LISTED)
        if query.changed_since is not None:
            runs = tuple(run for run in runs if run.updated_at >= query.changed_since)
        runs = tuple(sorted(runs, key=lambda run: run.updated_at, reverse=True))
        return {
            "tasks": [
                await self._task(run, history_length, query.include_artifacts) for run in runs[start : start + size]
            ],
            "nextPageToken": str(start + size) if start + size < len(runs) else "",
            "pageSize": size,
            "totalSize": len(runs),
        }

    async def _begin(self, request: SendMessage, owner: Owner) -> Run:
        """The run that the message starts, started before, or answers."""
        _history_length(request.history_length)
        if request.push:
            no_push()
        message = request.message
        if message.task_id:
            return await self._answer(message, owner)
        spec = self._engine.spec
        wanted = run_request(message, spec.name, owner, spec.delegation.max_depth)
        try:
            return await self._engine.start(wanted, IdempotencyKey("a2a", "send", message.message_id))
        except Conflict as error:
            raise Fault(FaultKind.INVALID_PARAMS, str(error)) from error

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
    ) -> AsyncGenerator[Json, None]:
        """The task as it is, then what happens, until it ends; or, with `until_asked`, until it asks something."""
        view = TaskView(run, await self._engine.events(run.id, owner))
        yield {"task": view.task(history_length)}
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

    async def _task(self, run: Run, history_length: int | None, artifacts: bool = True) -> Json:
        return TaskView(run, await self._engine.events(run.id, run.request.owner)).task(history_length, artifacts)

    def _require_streaming(self) -> None:
        if not self._engine.adapter.capabilities.stream:
            raise Fault(
                FaultKind.UNSUPPORTED_OPERATION,
                "this team does not stream, as its card says; use SendMessage and GetTask",
            )

    def _filter(self, query: ListTasks, owner: Owner) -> RunFilter:
        states = None
        if query.status:
            state = RUN_STATES.get(query.status)
            # A state that no run has here fits no task.
            states = frozenset({state} if state and TASK_STATES[state] == query.status else ())
        return RunFilter(self._engine.spec.name, owner, query.context_id or None, states)


def no_push() -> NoReturn:
    """Push notifications are not there.

    Raises:
        Fault: always.
    """
    raise Fault(
        FaultKind.PUSH_NOT_SUPPORTED, "this team sends no push notifications, as its card says; subscribe instead"
    )


def _history_length(length: int | None) -> int | None:
    if length is not None and length < 0:
        raise BadInput(f"historyLength is {length}; it cannot be negative")
    return length


def _page_start(token: str) -> int:
    if not token:
        return 0
    if not token.isdecimal() or len(token) > 6:
        raise BadInput("pageToken is not one that this team gave")
    return int(token)
