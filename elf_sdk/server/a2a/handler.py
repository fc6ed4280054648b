"""A2A's operations on the run engine: values in, ProtoJSON out.

Every access is scoped by the caller's owner, so another's task answers exactly as an absent one. Nothing is kept
here: a task is a run, and its stream is a subscription to the run's log.
"""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final, NoReturn

from elf_sdk.errors import BadInput, Conflict, NotFound
from elf_sdk.runs.adapter import Owner
from elf_sdk.runs.engine import Engine
from elf_sdk.runs.events import Answered, InputRequired, clean
from elf_sdk.runs.run import IdempotencyKey, Place, Run, RunFilter, RunState
from elf_sdk.server.a2a.codec import RUN_STATES, TaskView, message_text, push_target, run_request
from elf_sdk.server.a2a.errors import Fault, FaultKind
from elf_sdk.server.a2a.push import PushSender
from elf_sdk.server.a2a.values import ListPush, ListTasks, Message, PushQuery, PushTarget, SendMessage, TaskQuery

__all__ = ["Handler", "Json", "Stream", "no_push"]

Json = dict[str, Any]
Stream = AsyncGenerator[tuple[int | None, Json], None]
"""StreamResponses, each with the number of the log up to which it says all, or None where more of that event comes."""

_PLACE: Final = re.compile(r"(\d{1,18})\.(\d{1,18})")
_PAGE: Final = 50
_LARGEST_PAGE: Final = 100


class Handler:
    """A2A's operations as operations of an `Engine`. All of them raise `Fault` or `ElfError`.

    Args:
        engine: runs the team's work.
        push: sends push notifications; None where there are none.
        idempotent: whether two messages with the same id are the same one also for callers that promise nothing of ids.

    Attributes:
        idempotent: the same.
    """

    def __init__(self, engine: Engine, push: PushSender | None = None, *, idempotent: bool = True) -> None:
        self._engine = engine
        self.idempotent = idempotent
        self._push = push

    @property
    def pushes(self) -> bool:
        """Whether there are push notifications."""
        return self._push is not None

    async def send(self, request: SendMessage, owner: Owner, *, unique: bool = False) -> Json:
        """The SendMessageResponse: the task that the message starts, started before, or answers, once it rests.

        Args:
            request: what is said.
            owner: on whose behalf.
            unique: whether the caller promises that no two of its messages share an id.
        """
        run = await self._begin(request, owner, unique)
        if not request.return_immediately:
            run = await self._engine.settled(run.id, owner)
        return (await self._view(run)).answer(request.history_length)

    async def stream(
        self, request: SendMessage, owner: Owner, *, unique: bool = False, after: int | None = None
    ) -> Stream:
        """The same as StreamResponses, until the task has ended or asks something; arguments as for both others."""
        self._require_streaming()
        run = await self._begin(request, owner, unique)
        async with aclosing(self._follow(run, owner, after, request.history_length, until_asked=True)) as stream:
            async for item in stream:
                yield item

    async def subscribe(self, query: TaskQuery, owner: Owner, *, after: int | None = None) -> Stream:
        """The task as it is and what happens from now on, as StreamResponses.

        Args:
            query: which task.
            owner: on whose behalf.
            after: number of the last item that the caller has of an earlier stream, to go on behind it and not with
                the task as it is.
        """
        self._require_streaming()
        run = await self._engine.get(query.id, owner)
        if run.state.terminal and (after is None or after >= run.head):
            raise Fault(FaultKind.UNSUPPORTED_OPERATION, f"the task {run.id!r} has ended; get it with GetTask")
        async with aclosing(self._follow(run, owner, after)) as stream:
            async for item in stream:
                yield item

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
        page = await self._engine.log.page(self._filter(query, owner), size, _place(query.page_token))
        return {
            "tasks": [await self._task(run, history_length, query.include_artifacts) for run in page.runs],
            "nextPageToken": _page_token(page.last),
            "pageSize": size,
            "totalSize": page.total,
        }

    async def create_push(self, target: PushTarget, owner: Owner) -> Json:
        """The TaskPushNotificationConfig, stored; one with its id is replaced."""
        push = self._pushing()
        run = await self._engine.get(target.task_id, owner)
        await _checked(push, target, "url")
        return push_target(await push.add(run.id, target))

    async def get_push(self, query: PushQuery, owner: Owner) -> Json:
        """The TaskPushNotificationConfig."""
        push = self._pushing()
        run = await self._engine.get(query.task_id, owner)
        target = await push.get(run.id, query.id)
        if target is None:
            raise NotFound(f"the task {run.id!r} has no push notification config {query.id!r}")
        return push_target(target)

    async def list_push(self, query: ListPush, owner: Owner) -> Json:
        """A page of the task's configs, the oldest first, as a ListTaskPushNotificationConfigsResponse."""
        push = self._pushing()
        run = await self._engine.get(query.task_id, owner)
        size = _LARGEST_PAGE if query.page_size is None else query.page_size
        if size < 1:
            raise BadInput(f"pageSize is {size}; ask for at least one config")
        start = _page_start(query.page_token)
        targets = await push.of_run(run.id)
        page: Json = {"configs": [push_target(target) for target in targets[start : start + size]]}
        if start + size < len(targets):
            page["nextPageToken"] = str(start + size)
        return page

    async def delete_push(self, query: PushQuery, owner: Owner) -> Json:
        """Nothing; and so it is when there was none."""
        push = self._pushing()
        run = await self._engine.get(query.task_id, owner)
        await push.remove(run.id, query.id)
        return {}

    def _pushing(self) -> PushSender:
        if self._push is None:
            no_push()
        return self._push

    async def _begin(self, request: SendMessage, owner: Owner, unique: bool) -> Run:
        """The run that the message starts, started before, or answers, with whoever is to hear of it."""
        _history_length(request.history_length)
        known = unique or self.idempotent
        if request.push is None:
            return await self._begun(request.message, owner, known)
        push = self._pushing()
        await _checked(push, request.push, "configuration.taskPushNotificationConfig.url")
        run = await self._begun(request.message, owner, known)
        # Not one change with the run, and nothing is missed all the same: a receiver gets the task as it is first,
        # and who has no answer yet sends the message again.
        await push.add(run.id, request.push)
        return run

    async def _begun(self, message: Message, owner: Owner, known: bool) -> Run:
        if message.task_id:
            return await self._answer(message, owner, known)
        spec = self._engine.spec
        wanted = run_request(message, spec.name, owner, spec.delegation.max_depth, repeatable=known)
        if not known:
            return await self._engine.start(wanted)
        try:
            return await self._engine.start(wanted, IdempotencyKey("a2a", "send", message.message_id))
        except Conflict as error:
            raise Fault(FaultKind.INVALID_PARAMS, str(error)) from error

    async def _answer(self, message: Message, owner: Owner, known: bool) -> Run:
        """The run of `message.task_id`, which gets the message as the answer to its oldest open question.

        Where messages are `known` by their ids, one that was taken before changes nothing.
        """
        run = await self._engine.get(message.task_id, owner)
        if message.context_id and message.context_id != run.request.context_id:
            raise BadInput(f"message.contextId is not that of the task {run.id!r}; leave it out")
        # As the log keeps them, so that a repeat is recognised.
        text, message_id = clean(message_text(message)), clean(message.message_id)
        open_questions: list[str] = []
        for logged in await self._engine.events(run.id, owner):
            match logged.event:
                case Answered(key=key, answer=answer) if known and key == message_id:
                    if answer != text:
                        raise BadInput(f"the messageId {message_id!r} was used for another answer")
                    return run
                case Answered(question_id) if question_id in open_questions:
                    open_questions.remove(question_id)
                case InputRequired(question_id) if question_id not in open_questions:
                    open_questions.append(question_id)
                case _:
                    pass
        if not run.state.waits or not open_questions:
            state = "has ended" if run.state.terminal else "asks nothing now"
            raise Conflict(f"the task {run.id!r} {state}; send a message without taskId to start another")
        return await self._engine.answer(run.id, owner, open_questions[0], text, message_id)

    async def _follow(
        self,
        run: Run,
        owner: Owner,
        after: int | None,
        history_length: int | None = None,
        *,
        until_asked: bool = False,
    ) -> Stream:
        """The task as it is, then what happens, until it ends; or, with `until_asked`, until it asks something.

        With `after` nothing, said at once so that the caller knows that its stream goes on, and what happened since.
        """
        # Of a run that has just begun nothing more is to be known, and who waits for its first item waits for no read.
        known = await self._engine.events(run.id, owner) if run.head > 1 or after is not None else ()
        if after is None:
            view = TaskView(run, known)
            yield view.seq, {"task": view.task(history_length)}
        else:
            view = TaskView(run, known[:after])
            yield None, {}
        if until_asked and await self._rests(run, view):
            return
        async with aclosing(self._engine.subscribe(run.id, owner, view.seq)) as subscription:
            async for logged in subscription:
                held: Json | None = None
                # The number stands at the last item of an event only: who has that one has all of them.
                for update in view.updates(logged):
                    if held is not None:
                        yield None, held
                    held = update
                if held is not None:
                    yield logged.seq, held
                if until_asked and await self._rests(run, view):
                    return

    async def _rests(self, run: Run, view: TaskView) -> bool:
        """Whether the run asks something and all that it did before was shown.

        One that waits for a credential goes on by itself when it is there, so its stream stays (section 7.6.1).
        """
        if view.state is not RunState.INPUT_REQUIRED:
            return False
        now = await self._engine.get(run.id, run.request.owner)
        return now.state is RunState.INPUT_REQUIRED and now.head == view.seq

    async def _task(self, run: Run, history_length: int | None, artifacts: bool = True) -> Json:
        return (await self._view(run)).task(history_length, artifacts)

    async def _view(self, run: Run) -> TaskView:
        return TaskView(run, await self._engine.events(run.id, run.request.owner))

    def _require_streaming(self) -> None:
        if not self._engine.adapter.capabilities.stream:
            raise Fault(
                FaultKind.UNSUPPORTED_OPERATION,
                "this team does not stream, as its card says; use SendMessage and GetTask",
            )

    def _filter(self, query: ListTasks, owner: Owner) -> RunFilter:
        states = None
        if query.status:
            states = frozenset({RUN_STATES[query.status]})
        return RunFilter(self._engine.spec.name, owner, query.context_id or None, states, query.changed_since)


async def _checked(push: PushSender, target: PushTarget, where: str) -> None:
    try:
        await push.check(target)
    except BadInput as error:
        raise Fault(FaultKind.INVALID_PARAMS, f"{where}: {error}", violations=[(where, str(error))]) from None


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


def _page_token(last: Place | None) -> str:
    """Where the next page begins, as text that says nothing to a caller; empty for none."""
    if last is None:
        return ""
    return base64.urlsafe_b64encode(f"{last.changed_at}.{last.number}".encode()).decode().rstrip("=")


def _place(token: str) -> Place | None:
    if not token:
        return None
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True).decode("ascii")
    except ValueError:
        text = ""
    found = _PLACE.fullmatch(text)
    if found is None:
        raise BadInput("pageToken is not one that this team gave")
    return Place(int(found[1]), int(found[2]))


def _page_start(token: str) -> int:
    if not token:
        return 0
    if not token.isdecimal() or len(token) > 6:
        raise BadInput("pageToken is not one that this team gave")
    return int(token)
