"""The engine: start, subscribe, answer, cancel, and exactly one terminal event a run.

Every protocol goes through here, and nothing is executed any other way. The engine holds an asyncio task for each
run that works, and none for a run that waits for a person.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any, Final

from elf_sdk.errors import BadInput, Conflict, ElfError, NotFound, Retryable
from elf_sdk.models.llm import Endpoint
from elf_sdk.runs.adapter import Adapter, Delegate, Owner, RunContext, RunError, TurnMessage, Whereabouts
from elf_sdk.runs.current import current_run
from elf_sdk.runs.events import (
    MAX_EVENT_BYTES,
    Answered,
    Cancelled,
    Event,
    Failed,
    Finished,
    InputRequired,
    LoggedEvent,
    Started,
    TextDelta,
    Usage,
    clean,
    encode,
    is_terminal,
)
from elf_sdk.runs.history import all_events, earlier_messages
from elf_sdk.runs.log import WORK, IdempotencyKey, Run, RunLog, RunRequest, RunState
from elf_sdk.runs.observer import RunObserver, RunWatch
from elf_sdk.runs.places import raised_place
from elf_sdk.runs.usage import priced
from elf_sdk.runs.writer import RunWriter
from elf_sdk.team.kinds import duration_seconds
from elf_sdk.team.spec import TeamSpec

__all__ = ["Engine", "EngineStatus"]

log = logging.getLogger("elf.runs")

_INTERRUPTED: Final = Failed("interrupted", "the server stopped while this ran; send it again", retryable=True)
_POISON: Final = Failed("interrupted", "each server that ran this stopped; it is not tried again")
_UNSTORED: Final = Failed("internal", "what it did could not be stored; send it again", retryable=True)
_CLOSE_TIMEOUT: Final = 5.0
"""Seconds that an adapter gets to close after a cancel, before its run is ended over its head."""
_TELL: Final = 1.0
"""Seconds that an adapter gets to tell where its work stands."""
_RETRY: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds between tries to store the end of a run; the last one over and over."""
_LOOK: Final = 5.0
"""Seconds between two looks for work that nobody told of."""
_OBEY: Final = 30.0
"""Seconds for another process to do what it was asked."""
_ATTEMPTS: Final = 5
"""How often a run is taken up that was cut off each time."""
_WAITING: Final = 10
"""Runs that may wait in one conversation."""
_PAGE: Final = 1000
"""Events in one read."""
_ANSWER: Final = 8_000_000
"""Characters of an answer; whoever reads it needs all of it in memory."""
_MESSAGE: Final = 2000
"""Characters of a message that are kept when somebody else wrote it."""


class _Leave(Enum):
    """How a run is left that is not at its end: for others to claim, or without another word."""

    HAND_OVER = auto()
    FORSAKE = auto()


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
    """A run that works or waits for a place, in this process.

    Attributes:
        run: as it was when the job began, with the epoch of the hold.
        writer: the way of its events.
        done: set when the end is written, or the run is left.
        work: does the work, and writes the end where nobody stops it.
        stopped: how it is to end before its time, once somebody has said so.
        watch: told how it goes.
        ending: whether the work is done, and its own end is being written.
        begun: whether the log says already that it has started.
        placed: whether it has a place.
        effects: whether it did anything yet that others can see.
        questions: what it asks, once the adapter has returned.
        deadline: stops it; set while the run has a place.
        ends: when that is, by the monotonic clock.
        whereabouts: of the work, as far as the adapter can tell.
    """

    run: Run
    writer: RunWriter
    watch: RunWatch
    begun: bool
    done: asyncio.Future[None]
    work: asyncio.Task[None] = field(init=False)
    stopped: Event | _Leave | None = None
    ending: bool = False
    placed: bool = False
    effects: bool = False
    questions: dict[str, InputRequired] = field(default_factory=dict)
    deadline: asyncio.TimerHandle | None = None
    ends: float | None = None
    whereabouts: Whereabouts = field(default_factory=Whereabouts)


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
        self._jobs: dict[str, _Job] = {}
        self._steps: set[asyncio.Task[Run]] = set()
        # Adapters that would not close, and what writes ends in their place; kept here so that they are not collected
        # while they go on.
        self._strays: set[asyncio.Task[None]] = set()
        self._running = 0
        self._last_activity: datetime | None = None
        self._closing = asyncio.Event()
        self._looking = asyncio.Lock()
        self._attending: asyncio.Task[None] | None = None
        self._stop_watching: Callable[[], None] = _nothing

    async def open(self) -> None:
        """Take up what a process before this one left, and from now on what others leave.

        Raises:
            Retryable: the log is out of reach.
        """
        self._stop_watching = self.log.watch(self._forsake)
        await self._look()
        self._attending = asyncio.create_task(self._attend(), name=f"work of {self.spec.name}")

    async def drain(self, within: float) -> None:
        """Take no more, hand over what another can go on with, and wait for the rest, at most so many seconds."""
        self._closing.set()
        if self._steps:
            await asyncio.wait(self._steps)
        # What was about to be claimed is handed over like the rest.
        async with self._looking:
            pass
        for job in list(self._jobs.values()):
            if not job.placed or self.adapter.capabilities.recover:
                self._stop(job, _Leave.HAND_OVER)
        if ends := [job.done for job in self._jobs.values()]:
            await asyncio.wait(ends, timeout=within)

    async def close(self) -> None:
        """Take no more, and leave each run handed over or with its terminal event."""
        self._closing.set()
        await self._stop_attending()
        if self._steps:
            await asyncio.wait(self._steps)
        jobs = list(self._jobs.values())
        for job in jobs:
            # What has done nothing yet may as well be done by another, once.
            again = self.adapter.capabilities.recover or not (job.effects or job.run.head > job.begun)
            self._stop(job, _Leave.HAND_OVER if again and not self.log.volatile else _INTERRUPTED)
        if jobs:
            await asyncio.wait({job.done for job in jobs})
        self._stop_watching()
        self._stop_watching = _nothing

    async def _stop_attending(self) -> None:
        if self._attending is not None:
            self._attending.cancel()
            await asyncio.wait({self._attending})
            self._attending = None

    def _forsake(self) -> None:
        """The lease is no good: what is still done here is not this process's to do."""
        for job in list(self._jobs.values()):
            self._stop(job, _Leave.FORSAKE)

    async def _attend(self) -> None:
        """Claim what nobody holds, and do what others ask of what is held here, for as long as the engine is open."""
        while True:
            holder = self.log.holder
            with self.log.waiters.register(WORK, holder) as news:
                while holder == self.log.holder:
                    try:
                        async with asyncio.timeout(_LOOK):
                            await news.wait()
                    except TimeoutError:
                        pass
                    news.clear()
                    try:
                        await self._look()
                    except ElfError as error:
                        log.warning("%s could not look for work: %s", self.spec.name, error)

    async def _look(self) -> None:
        async with self._looking:
            if not self._closing.is_set():
                for run in await self.log.claim(self.spec.name, self.spec.runs.concurrency - len(self._jobs)):
                    self._launch(run)
        for run_id, end in await self.log.commands():
            if job := self._jobs.get(run_id):
                self._stop(job, end)

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
        # What comes while this process stops is for another.
        hold = not self._closing.is_set()
        run, created = await self.log.create(
            str(uuid.uuid4()), request, key, hold=hold, begin=not self._places.locked(), waiting=self._waiting
        )
        if created and run.held:
            self._launch(run, begun=run.head == 1)
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
        if self._closing.is_set() and not self.log.shared:
            raise Retryable(f"{self.spec.name} is stopping; try again in a moment")

    async def get(self, run_id: str, owner: Owner) -> Run:
        """The run.

        Raises:
            NotFound: there is none, or it is somebody else's; both answer the same.
        """
        return self._own(run_id, await self.log.get(run_id), owner)

    def _own(self, run_id: str, run: Run | None, owner: Owner) -> Run:
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
                batch = await self.log.read(run_id, after, _PAGE, lately=True)
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
                run = self._own(run_id, await self.log.get(run_id, lately=True), owner)
                if run.state.terminal or run.state.waits:
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
            BadInput: the answer is longer than an event may be.
            Conflict: the run does not wait for this question, or has another answer to it.
            NotFound: there is no such run of this owner.
        """
        self._refuse_when_closing()
        answered = Answered(question_id, answer, key)
        try:
            encode(answered)
        except ValueError as error:
            raise BadInput(
                f"the answer has {len(answer)} characters, and an event holds {MAX_EVENT_BYTES} bytes; "
                "write a shorter one"
            ) from error
        while True:
            run = await self.get(run_id, owner)
            events = [logged.event for logged in await all_events(self.log, run_id)]
            given = {event.question_id: event.answer for event in events if isinstance(event, Answered)}
            if question_id in given:
                if given[question_id] == clean(answer):
                    return run
                raise Conflict(f"the question {question_id!r} has another answer already")
            asked = {event.question_id for event in events if isinstance(event, InputRequired)}
            if not run.state.waits or question_id not in asked:
                raise Conflict(f"the run {run_id!r} does not wait for an answer to {question_id!r}")
            if job := self._jobs.get(run_id):
                # It has asked, and is about to be done.
                await asyncio.wait({job.done})
            try:
                return await self._whole(self._go_on(run, answered))
            except Conflict:
                # Somebody else was first: an answer, or a cancel.
                continue

    async def _go_on(self, run: Run, answered: Answered) -> Run:
        run = await self.log.take(run, answered)
        if run.held and self._closing.is_set():
            await self.log.release(run)
        elif run.held:
            self._launch(run)
        return run

    async def cancel(self, run_id: str, owner: Owner, reason: str = "") -> Run:
        """Cancel, and wait until the run has ended, whatever process works on it.

        Raises:
            Conflict: it has ended already.
            NotFound: there is no such run of this owner.
            Retryable: the process that works on it does not answer; it will be cancelled once it does.
        """
        end = Cancelled(reason[:_MESSAGE])
        until = time.monotonic() + _OBEY
        asked = False
        with self.log.waiters.register(run_id, until_rest=True) as news:
            while True:
                news.clear()
                run = await self.get(run_id, owner)
                if run.state is RunState.CANCELLED and asked:
                    return run
                if run.state.terminal:
                    raise Conflict(f"the run {run_id!r} has ended already as {run.state}")
                if job := self._jobs.get(run_id):
                    self._stop(job, end)
                    asked = True
                    await asyncio.wait({job.done})
                elif run.held and self._steps:
                    # Stored, and about to be launched.
                    await asyncio.wait(self._steps)
                else:
                    try:
                        return await self.log.take(run, end)
                    except Conflict:
                        if not asked:
                            await self.log.command(run, end)
                            asked = True
                    if time.monotonic() > until:
                        raise Retryable(f"the process that works on the run {run_id!r} does not answer; ask again")
                    try:
                        async with asyncio.timeout(_RETRY[-2]):
                            await news.wait()
                    except TimeoutError:
                        pass

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

    @property
    def _waiting(self) -> int:
        return min(_WAITING, self.spec.runs.queue)

    def _launch(self, run: Run, *, begun: bool = False) -> None:
        if lost := self._jobs.get(run.id):
            # Lost and claimed again; what is still done for the hold before is nobody's any more.
            self._stop(lost, _Leave.FORSAKE)
        watch = self._observer.queued(run)
        writer = RunWriter(self.log, run.id, run.epoch, watch)
        job = _Job(run, writer, watch, begun, asyncio.get_running_loop().create_future())
        self._jobs[run.id] = job
        job.work = asyncio.create_task(self._execute(job), name=f"run {run.id}")

    def _stop(self, job: _Job, end: Event | _Leave) -> None:
        """End it like this, unless it has ended or was stopped before."""
        if job.stopped is None:
            job.stopped = end
            if not job.ending:
                self._beside(self._halt(job, end), f"end of run {job.run.id}")

    def _beside(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._keep(asyncio.create_task(work, name=name))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._strays.add(task)
        task.add_done_callback(self._strays.discard)

    def _forget(self, job: _Job, left: Event | _Leave | None) -> None:
        """Its end is written, or left to others; `left` as `_leave` gives it."""
        if isinstance(left, _Leave):
            job.watch.left()
        else:
            job.watch.ended(left)
        if job.deadline is not None:
            job.deadline.cancel()
        if job.placed:
            self._running -= 1
            self._places.release()
        # A run that was lost and claimed again has another one by now.
        if self._jobs.get(job.run.id) is job:
            del self._jobs[job.run.id]
        if len(self._jobs) == self.spec.runs.concurrency - 1:
            # There may be work that waited for a place in this process.
            self.log.waiters.notify((WORK,))
        self._last_activity = datetime.now(UTC)
        job.done.set_result(None)

    async def _execute(self, job: _Job) -> None:
        """Have the work done, and write its end; when somebody stops it, `_halt` does that instead and cancels this."""
        current_run.set(job.run.id)
        end = await self._outcome(job)
        if job.stopped is not None:
            return
        job.ending = True
        task = asyncio.current_task()
        try:
            if task is not None and task.cancelling():
                # The team's code did that, and the next step would be the one to notice.
                raise asyncio.CancelledError
            left = await self._leave(job, end)
        except asyncio.CancelledError:
            # Nobody has this other task to cancel. What was stored already is not stored again.
            self._beside(self._finish(job, end), f"end of run {job.run.id}")
        else:
            self._forget(job, left)

    async def _halt(self, job: _Job, end: Event | _Leave) -> None:
        """Stop the work, and write the end, also when the adapter does not close."""
        current_run.set(job.run.id)
        if isinstance(end, Failed) and end.code == "deadline" and (place := await self._place(job)):
            end = replace(end, message=f"{end.message}; it was at {place}")
        job.work.cancel()
        await asyncio.wait({job.work}, timeout=_CLOSE_TIMEOUT)
        if not job.work.done():
            log.warning("the adapter of run %s does not close; the run is left over its head", job.run.id)
            self._keep(job.work)
        await self._finish(job, end)

    async def _place(self, job: _Job) -> str:
        """Where the work stands that takes too long."""
        try:
            async with asyncio.timeout(_TELL):
                return await job.whereabouts.place()
        except Exception:
            # Nothing that an adapter does keeps a run from its end.
            log.debug("run %s: the adapter could not tell where it is", job.run.id, exc_info=True)
            return ""

    async def _finish(self, job: _Job, end: Event | _Leave | None) -> None:
        left: Event | _Leave | None = _Leave.FORSAKE
        try:
            left = await self._leave(job, end)
        finally:
            self._forget(job, left)

    async def _outcome(self, job: _Job) -> Event | None:
        """The terminal event that the work comes to; or None, when the run waits for a person, or was stopped."""
        try:
            return await self._take_place(job)
        except KeyboardInterrupt:
            raise
        except asyncio.CancelledError:
            if job.stopped is not None:
                raise
            return Failed("team", "the team's code cancelled itself")
        except BaseException as error:
            # SystemExit too: a task would hand it on to the event loop and with it stop the server.
            if job.stopped is not None:
                log.debug("an adapter raised while it was stopped", exc_info=error)
                return None
            if error is job.writer.failure:
                log.error("run %s could not be stored", job.run.id, exc_info=error)
                return _UNSTORED
            return self._failure(job.run, error)

    async def _leave(self, job: _Job, end: Event | _Leave | None) -> Event | _Leave | None:
        """Store the end, or the questions that a person has to answer, or let go of the run.

        Returns:
            What has come of it: the end that is stored, None for questions, or how this process let go of the run.
        """
        tries = 0
        while job.stopped is not _Leave.FORSAKE:
            try:
                if end is _Leave.HAND_OVER:
                    await job.writer.flush()
                    await self.log.release(job.run, unstarted=not (job.effects or self.adapter.capabilities.recover))
                elif isinstance(end, Event):
                    await job.writer.end(end)
                else:
                    await job.writer.park(tuple(job.questions.values()))
            except Conflict as error:
                log.info("run %s: %s", job.run.id, error)
                return _Leave.FORSAKE
            except Exception as error:
                if tries and not isinstance(error, Retryable):
                    log.exception(
                        "the end of run %s could not be stored; the next start of the server ends it", job.run.id
                    )
                    return _Leave.FORSAKE
                log.warning("run %s could not be stored: %s", job.run.id, error)
                if end is not _Leave.HAND_OVER:
                    end = _UNSTORED
                if tries and await self._closed_within(_RETRY[min(tries, len(_RETRY)) - 1]):
                    return _Leave.FORSAKE
                tries += 1
                continue
            return end
        return _Leave.FORSAKE

    async def _closed_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._closing.wait()
        except TimeoutError:
            return False

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
        place = f" ({place})" if (place := raised_place(error)) else ""
        return Failed("team", f"the team's code raised {type(error).__name__}: {message}{place}")

    async def _take_place(self, job: _Job) -> Event | None:
        """Wait for a place, then work.

        The place is kept in the job, because it is given back only when the end is stored, and also when the adapter
        does not close.
        """
        came = time.monotonic()
        await self._places.acquire()
        job.placed = True
        self._running += 1
        job.watch.working()
        return await self._work(job, time.monotonic() - came)

    async def _work(self, job: _Job, waited: float) -> Event | None:
        """The terminal event; or None, when the run now waits for a person."""
        run, writer = job.run, job.writer
        request = run.request
        before = await all_events(self.log, run.id) if run.head > job.begun else ()
        said = [logged.event for logged in before if isinstance(logged.event, Answered)]
        answers = {answered.question_id: answered.answer for answered in said}
        cut_off = _since_answer(before)
        attempt = len(cut_off) + 1
        if job.begun:
            self._set_deadline(job, 0, waited)
        elif run.state is RunState.WORKING and not self.adapter.capabilities.recover:
            return _INTERRUPTED
        elif attempt > _ATTEMPTS:
            return _POISON
        else:
            # Stored before anything is done, so that whoever finds the run after a crash knows.
            await writer.add(Started(attempt))
            await self._time_left(job, cut_off)
        ctx = RunContext(
            run_id=run.id,
            spec=self.spec,
            owner=request.owner,
            conversation=request.conversation,
            text=request.text,
            message_id=said[-1].key if said else request.metadata.get("message_id", ""),
            endpoint=self._endpoint,
            delegates=self.delegates,
            history=lambda: self.history(request, run.id),
            answers=answers,
            attempt=attempt,
            before=before,
            deadline=job.ends,
            whereabouts=job.whereabouts,
            checkpoints=self.log.checkpoints(run),
        )
        written = 0
        async with aclosing(self.adapter.run(ctx)) as events:
            async for event in events:
                if job.stopped is not None:
                    break
                if isinstance(event, TextDelta):
                    written += len(event.text)
                    if written > _ANSWER:
                        raise RunError(f"the answer has more than {_ANSWER} characters, and does not end")
                if is_terminal(event):
                    adapter = type(self.adapter).__name__
                    raise TypeError(f"{adapter} yielded a {event.kind} event; only the engine ends a run")
                job.effects = True
                if isinstance(event, InputRequired):
                    # Asked when the adapter has returned: only then can an answer be of use.
                    if event.question_id not in answers:
                        job.questions[event.question_id] = event
                else:
                    await writer.add(await priced(event, self._endpoint) if isinstance(event, Usage) else event)
        if job.questions or job.stopped is not None:
            return None
        writer.hold()
        return Finished()

    async def _time_left(self, job: _Job, cut_off: Sequence[LoggedEvent]) -> None:
        """Set the deadline of a run that is taken up, by the times that the log has given."""
        await job.writer.flush()
        now = (await all_events(self.log, job.run.id, job.run.head))[-1].at
        worked = (now - cut_off[0].at).total_seconds() if cut_off else 0
        self._set_deadline(job, worked, (now - job.run.created_at).total_seconds())

    def _set_deadline(self, job: _Job, worked: float, since_creation: float) -> None:
        left = self._deadline - worked
        late = Failed("deadline", f"it took longer than {self.spec.runs.deadline}", retryable=True)
        given = job.run.request.deadline
        if given is not None and given - since_creation < left:
            left = given - since_creation
            late = Failed("deadline", f"it took longer than the {given:g} s that its caller gave it")
        job.ends = time.monotonic() + max(left, 0)
        job.deadline = asyncio.get_running_loop().call_later(max(left, 0), self._stop, job, late)


def _since_answer(events: Sequence[LoggedEvent]) -> list[LoggedEvent]:
    """The beginnings that came to no end, since a person last answered."""
    begun: list[LoggedEvent] = []
    for logged in events:
        if isinstance(logged.event, Started):
            begun.append(logged)
        elif isinstance(logged.event, Answered):
            begun.clear()
    return begun


def _nothing() -> None:
    """Nobody watches."""
