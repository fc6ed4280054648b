"""The engine: start, subscribe, answer, cancel, and exactly one terminal event a run.

Every protocol goes through here, and nothing is executed any other way. The engine holds an asyncio task for each
run that works, and none for a run that waits for a person.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final
from weakref import WeakValueDictionary

from elf_sdk.errors import Conflict, ElfError, NotFound, Retryable
from elf_sdk.models.llm import Endpoint
from elf_sdk.runs.adapter import Adapter, Delegate, Owner, RunContext, RunError, TurnMessage
from elf_sdk.runs.current import current_run
from elf_sdk.runs.events import (
    Answered,
    Cancelled,
    Event,
    Failed,
    Finished,
    InputRequired,
    LoggedEvent,
    Started,
    Usage,
    clean,
    is_terminal,
)
from elf_sdk.runs.history import all_events, earlier_messages
from elf_sdk.runs.log import IdempotencyKey, Run, RunFilter, RunLog, RunRequest, RunState
from elf_sdk.runs.observer import RunObserver, RunWatch
from elf_sdk.runs.usage import priced
from elf_sdk.runs.writer import RunWriter
from elf_sdk.team.kinds import duration_seconds
from elf_sdk.team.spec import TeamSpec

__all__ = ["Engine", "EngineStatus"]

log = logging.getLogger("elf.runs")

_INTERRUPTED: Final = Failed("interrupted", "the server stopped while this ran; send it again", retryable=True)
_UNSTORED: Final = Failed("internal", "what it did could not be stored; send it again", retryable=True)
_CLOSE_TIMEOUT: Final = 5.0
"""Seconds that an adapter gets to close after a cancel, before its run is ended over its head."""
_RETRY: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds between tries to store the end of a run; the last one over and over."""
_PAGE: Final = 1000
"""Events in one read."""
_MESSAGE: Final = 2000
"""Characters of a message that are kept when somebody else wrote it."""
_UNFINISHED: Final = frozenset({RunState.QUEUED, RunState.WORKING})


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What `/status` shows.

    Attributes:
        runs: number of runs by state.
        running: runs that work now, in this process.
        queued: runs that wait for a place, in this process.
        last_activity: when a run last changed here, or None.
    """

    runs: Mapping[RunState, int]
    running: int
    queued: int
    last_activity: datetime | None


@dataclass(eq=False, slots=True)
class _Job:
    """A run that works or waits for its turn, in this process.

    Attributes:
        run: as it was when the job began.
        writer: the way of its events.
        stopped: how it is to end before its time, once somebody has said so.
        watch: told how it goes.
        task: writes the end, whatever happens; nobody cancels it.
        turn: the conversation's lock, while the run holds it.
        deadline: stops it; set while the run holds a place.
    """

    run: Run
    writer: RunWriter
    stopped: asyncio.Future[Event]
    watch: RunWatch
    task: asyncio.Task[None] = field(init=False)
    turn: asyncio.Lock | None = None
    deadline: asyncio.TimerHandle | None = None

    def stop(self, end: Event) -> None:
        """End it like this, unless it has ended or was stopped before."""
        if not self.stopped.done():
            self.stopped.set_result(end)


class Engine:
    """Runs one team's work.

    Args:
        spec: the team, environment merged in.
        adapter: does the work.
        run_log: where runs are kept.
        endpoint: the team's model.
        delegates: the teams that may be proposed for delegation.
        observer: told what the engine does.
    """

    def __init__(
        self,
        spec: TeamSpec,
        adapter: Adapter,
        run_log: RunLog,
        endpoint: Endpoint,
        delegates: tuple[Delegate, ...] = (),
        observer: RunObserver | None = None,
    ) -> None:
        self.spec = spec
        self.adapter = adapter
        self.log = run_log
        self._endpoint = endpoint
        self._observer = observer or RunObserver()
        self.delegates = delegates
        self._deadline = duration_seconds(spec.runs.deadline)
        self._places = asyncio.Semaphore(spec.runs.concurrency)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._jobs: dict[str, _Job] = {}
        self._steps: set[asyncio.Task[Run]] = set()
        # Adapters that would not close; kept here so that they are not collected while they go on.
        self._strays: set[asyncio.Task[Event | None]] = set()
        self._running = 0
        self._last_activity: datetime | None = None
        self._closing = asyncio.Event()

    async def open(self) -> None:
        """End what a process before this one left unfinished; its callers can retry.

        Raises:
            Conflict: another process serves the team from the same database.
        """
        await self.log.claim(self.spec.name)
        while runs := await self.log.list(RunFilter(self.spec.name, states=_UNFINISHED)):
            await asyncio.gather(*(self.log.append(run.id, [_INTERRUPTED]) for run in runs))

    async def close(self) -> None:
        """Stop all runs, each with its terminal event, and take no more."""
        self._closing.set()
        if self._steps:
            await asyncio.wait(self._steps)
        for job in self._jobs.values():
            job.stop(_INTERRUPTED)
        if self._jobs:
            await asyncio.wait({job.task for job in self._jobs.values()})

    async def start(self, request: RunRequest, key: IdempotencyKey | None = None) -> Run:
        """Start a run, or return the one that the same key started before.

        A caller that is cancelled meanwhile may have started it all the same.

        Raises:
            Conflict: the key was used for a different request.
            Retryable: the queue is full, or the server is stopping.
        """
        self._refuse_when_closing()
        if len(self._jobs) + len(self._steps) >= self.spec.runs.concurrency + self.spec.runs.queue:
            if key is not None and (known := await self.log.find(request, key)) is not None:
                return known
            raise Retryable(
                f"{self.spec.name} has {len(self._jobs)} runs at work or waiting already; try again in a moment"
            )
        return await self._whole(self._start(request, key))

    async def _start(self, request: RunRequest, key: IdempotencyKey | None) -> Run:
        run, created = await self.log.create(str(uuid.uuid4()), request, key)
        if created:
            self._launch(run)
        return run

    async def _whole(self, step: Coroutine[Any, Any, Run]) -> Run:
        """Store and launch together, also when the caller goes in between."""
        if self.log.volatile:
            # Such a log never gives way, so nobody can come in between.
            return await step
        task = asyncio.create_task(step)
        self._steps.add(task)
        task.add_done_callback(self._steps.discard)
        return await asyncio.shield(task)

    def _refuse_when_closing(self) -> None:
        if self._closing.is_set():
            raise Retryable(f"{self.spec.name} is stopping; try again in a moment")

    async def get(self, run_id: str, owner: Owner) -> Run:
        """The run.

        Raises:
            NotFound: there is none, or it is somebody else's; both answer the same.
        """
        run = await self.log.get(run_id)
        if run is None or run.request.owner != owner or run.request.team != self.spec.name:
            raise NotFound(f"there is no run {run_id!r}")
        return run

    async def subscribe(self, run_id: str, owner: Owner, after: int = 0) -> AsyncGenerator[LoggedEvent, None]:
        """Replay the events above `after`, then follow. Ends after the terminal event.

        Raises:
            NotFound: there is no such run of this owner.
        """
        run = await self.get(run_id, owner)
        # A number that was never given out would otherwise be waited for without end.
        after = min(max(after, 0), run.head)
        if run.state.terminal and after == run.head:
            return
        with self.log.waiters.register(run_id) as news:
            while True:
                news.clear()
                batch = await self.log.read(run_id, after, _PAGE)
                for logged in batch:
                    after = logged.seq
                    yield logged
                    if is_terminal(logged.event):
                        return
                if len(batch) < _PAGE:
                    await news.wait()

    async def settled(self, run_id: str, owner: Owner) -> Run:
        """The run, as soon as it has ended or waits for a person.

        Raises:
            NotFound: there is no such run of this owner.
        """
        with self.log.waiters.register(run_id, until_rest=True) as news:
            while True:
                news.clear()
                run = await self.get(run_id, owner)
                if run.state.terminal or run.state is RunState.INPUT_REQUIRED:
                    return run
                await news.wait()

    async def events(self, run_id: str, owner: Owner) -> tuple[LoggedEvent, ...]:
        """All events so far.

        Raises:
            NotFound: there is no such run of this owner.
        """
        await self.get(run_id, owner)
        return await all_events(self.log, run_id)

    async def answer(self, run_id: str, owner: Owner, question_id: str, answer: str, key: str = "") -> Run:
        """Answer a question that the run waits for; the run goes on. The same answer twice is one answer.

        `key` is the caller's own id of the answer and is kept with it.

        Raises:
            Conflict: the run does not wait for this question, or has another answer to it.
            NotFound: there is no such run of this owner.
        """
        self._refuse_when_closing()
        while True:
            run = await self.get(run_id, owner)
            events = [logged.event for logged in await all_events(self.log, run_id)]
            given = {event.question_id: event.answer for event in events if isinstance(event, Answered)}
            if question_id in given:
                if given[question_id] == clean(answer):
                    return run
                raise Conflict(f"the question {question_id!r} has another answer already")
            asked = {event.question_id for event in events if isinstance(event, InputRequired)}
            if run.state is not RunState.INPUT_REQUIRED or question_id not in asked:
                raise Conflict(f"the run {run_id!r} does not wait for an answer to {question_id!r}")
            if job := self._jobs.get(run_id):
                # It has asked and not returned yet.
                await asyncio.wait({job.task})
                continue
            try:
                return await self._whole(self._go_on(run, Answered(question_id, answer, key)))
            except Conflict:
                # Somebody else was first: an answer, or a cancel.
                continue

    async def _go_on(self, run: Run, answered: Answered) -> Run:
        (logged,) = await self.log.append(run.id, [answered], head=run.head)
        run = replace(run, head=logged.seq, state=RunState.QUEUED, updated_at=logged.at)
        self._launch(run)
        return run

    async def cancel(self, run_id: str, owner: Owner, reason: str = "") -> Run:
        """Cancel, and wait until the run has ended.

        Raises:
            Conflict: it has ended already.
            NotFound: there is no such run of this owner.
        """
        while True:
            run = await self.get(run_id, owner)
            if run.state.terminal:
                raise Conflict(f"the run {run_id!r} has ended already as {run.state}")
            if job := self._jobs.get(run_id):
                job.stop(Cancelled(reason[:_MESSAGE]))
                await asyncio.wait({job.task})
            elif self._steps and run.state is RunState.QUEUED:
                # Stored, and about to be launched.
                await asyncio.wait(self._steps)
                continue
            else:
                try:
                    await self.log.append(run_id, [Cancelled(reason[:_MESSAGE])], head=run.head)
                except Conflict:
                    continue
            run = await self.get(run_id, owner)
            if run.state is RunState.CANCELLED:
                return run

    async def history(self, request: RunRequest, before: str) -> tuple[TurnMessage, ...]:
        """Earlier messages of the conversation, oldest first, without the run `before`."""
        return await earlier_messages(self.log, request, before, self.spec.chat.context_window_messages)

    async def status(self) -> EngineStatus:
        """Counts for `/status`."""
        return EngineStatus(
            runs=await self.log.count(self.spec.name),
            running=self._running,
            queued=len(self._jobs) - self._running,
            last_activity=self._last_activity,
        )

    def _launch(self, run: Run) -> None:
        watch = self._observer.queued(run)
        job = _Job(run, RunWriter(self.log, run.id, watch), asyncio.get_running_loop().create_future(), watch)
        self._jobs[run.id] = job
        job.task = asyncio.create_task(self._execute(job), name=f"run {run.id}")
        job.task.add_done_callback(lambda _: self._jobs.pop(run.id))

    async def _execute(self, job: _Job) -> None:
        """Have the work done, or stopped, and write the end, before the next run of the conversation begins."""
        run = job.run
        current_run.set(run.id)
        try:
            work = asyncio.create_task(self._take_turn(job), name=f"work of run {run.id}")
            await _first(work, job.stopped)
            if work.done():
                end = self._outcome(job, work)
            else:
                end = job.stopped.result()
                work.cancel()
                await asyncio.wait({work}, timeout=_CLOSE_TIMEOUT)
                if not work.done():
                    log.warning("the adapter of run %s does not close; the run is ended over its head", run.id)
                self._strays.add(work)
                work.add_done_callback(self._forget_stray)
            await self._write_end(job, end)
            job.watch.ended(end)
        finally:
            self._give_back(job)
        self._last_activity = datetime.now(UTC)

    def _forget_stray(self, work: asyncio.Task[Event | None]) -> None:
        self._strays.discard(work)
        if not work.cancelled() and (error := work.exception()) is not None:
            log.debug("an adapter raised while it was stopped", exc_info=error)

    async def _write_end(self, job: _Job, end: Event | None) -> None:
        """Store the end, or, where the run waits for a person, all up to there."""
        tries = 0
        while True:
            try:
                await (job.writer.flush() if end is None else job.writer.end(end))
            except Conflict as error:
                log.info("run %s: %s", job.run.id, error)
            except Exception as error:
                if tries and not isinstance(error, Retryable):
                    log.exception(
                        "the end of run %s could not be stored; the next start of the server ends it", job.run.id
                    )
                    return
                log.warning("run %s could not be stored: %s", job.run.id, error)
                end = _UNSTORED
                if tries and await self._closed_within(_RETRY[min(tries, len(_RETRY)) - 1]):
                    return
                tries += 1
                continue
            return

    async def _closed_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._closing.wait()
        except TimeoutError:
            return False

    def _outcome(self, job: _Job, work: asyncio.Task[Event | None]) -> Event | None:
        if work.cancelled():
            return Failed("team", "the team's code cancelled itself")
        error = work.exception()
        if error is None:
            return work.result()
        if error is job.writer.failure:
            log.error("run %s could not be stored", job.run.id, exc_info=error)
            return _UNSTORED
        return self._failure(job.run, error)

    def _failure(self, run: Run, error: BaseException) -> Failed:
        try:
            message = str(error)[:_MESSAGE]
        except Exception:  # noqa: BLE001 - the team's own __str__
            message = ""
        if isinstance(error, RunError):
            log.warning("run %s failed: %s", run.id, message)
            return Failed(error.code, message, error.retryable)
        if isinstance(error, ElfError):
            log.warning("run %s failed: %s", run.id, message)
            return Failed("team", message, retryable=isinstance(error, Retryable))
        log.error("run %s failed in the team's code", run.id, exc_info=error)
        return Failed("team", f"the team's code raised {type(error).__name__}: {message}")

    async def _take_turn(self, job: _Job) -> Event | None:
        """Wait for the conversation and for a place, then work.

        What is taken is kept in the job, because it is given back only when the end is stored, and also when the
        adapter does not close.
        """
        conversation = job.run.request.conversation
        # A lock lives as long as some run holds it or waits for it.
        turn = self._turns.get(conversation)
        if turn is None:
            turn = self._turns[conversation] = asyncio.Lock()
        await turn.acquire()
        job.turn = turn
        await self._places.acquire()
        self._running += 1
        job.watch.working()
        late = Failed("deadline", f"it took longer than {self.spec.runs.deadline}", retryable=True)
        job.deadline = asyncio.get_running_loop().call_later(self._deadline, job.stop, late)
        try:
            return await self._work(job, conversation)
        except SystemExit as error:
            # A task would hand it on to the event loop and with it stop the server.
            return self._failure(job.run, error)

    def _give_back(self, job: _Job) -> None:
        if job.deadline is not None:
            job.deadline.cancel()
            self._running -= 1
            self._places.release()
        if job.turn is not None:
            job.turn.release()

    async def _work(self, job: _Job, conversation: str) -> Event | None:
        """The terminal event; or None, when the run now waits for a person."""
        run, writer = job.run, job.writer
        request = run.request
        answers = {
            logged.event.question_id: logged.event.answer
            for logged in (await all_events(self.log, run.id) if run.head else ())
            if isinstance(logged.event, Answered)
        }
        ctx = RunContext(
            run_id=run.id,
            spec=self.spec,
            owner=request.owner,
            conversation=conversation,
            text=request.text,
            endpoint=self._endpoint,
            delegates=self.delegates,
            history=lambda: self.history(request, run.id),
            answers=answers,
        )
        await writer.add(Started())
        waits = False
        async with aclosing(self.adapter.run(ctx)) as events:
            async for event in events:
                if job.stopped.done():
                    return job.stopped.result()
                if is_terminal(event):
                    adapter = type(self.adapter).__name__
                    raise TypeError(f"{adapter} yielded a {event.kind} event; only the engine ends a run")
                if isinstance(event, InputRequired):
                    if event.question_id in answers:
                        continue
                    waits = True
                await writer.add(await priced(event, self._endpoint) if isinstance(event, Usage) else event)
        if waits:
            return None
        writer.hold()
        return Finished()


async def _first(*futures: asyncio.Future[Any]) -> None:
    """Wait until one of them is done. As `asyncio.wait`, at a third of its price, which every run pays."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake(_: object) -> None:
        if not done.done():
            done.set_result(None)

    for future in futures:
        future.add_done_callback(wake)
    try:
        await done
    finally:
        for future in futures:
            future.remove_done_callback(wake)
