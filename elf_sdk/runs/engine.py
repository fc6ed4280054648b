"""The engine: start, subscribe, answer, cancel, and exactly one terminal event a run.

Every protocol goes through here, and nothing is executed any other way. The engine holds an asyncio task for each
run that works, and none for a run that waits for a person.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from elf_sdk.errors import BadInput, Conflict, ElfError, NotFound, Retryable
from elf_sdk.models.llm import Endpoint
from elf_sdk.runs.adapter import Adapter, Delegate, Owner
from elf_sdk.runs.events import (
    MAX_EVENT_BYTES,
    Answered,
    Cancelled,
    InputRequired,
    LoggedEvent,
    clean,
    encode,
    is_terminal,
)
from elf_sdk.runs.history import all_events
from elf_sdk.runs.job import INTERRUPTED, Job, Leave, Resources
from elf_sdk.runs.log import WORK, IdempotencyKey, Run, RunLog, RunRequest, RunState
from elf_sdk.runs.observer import RunObserver
from elf_sdk.team.kinds import duration_seconds
from elf_sdk.team.spec import TeamSpec

__all__ = ["Engine", "EngineStatus"]

log = logging.getLogger("elf.runs")

_LOOK: Final = 5.0
"""Seconds between two looks for work that nobody told of."""
_OBEY: Final = 30.0
"""Seconds for another process to do what it was asked."""
_ASK: Final = 2.0
"""Seconds after which it is looked at again whether it has, when nobody told of it."""
_WAITING: Final = 10
"""Runs that may wait in one conversation."""
_PAGE: Final = 1000
"""Events in one read."""
_REASON: Final = 2000
"""Characters that are kept of what a caller says of its cancel."""


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
        self.delegates = delegates
        self._observer = observer or RunObserver()
        self._places = asyncio.Semaphore(spec.runs.concurrency)
        self._closing = asyncio.Event()
        self._resources = Resources(
            spec,
            adapter,
            run_log,
            endpoint,
            delegates,
            duration_seconds(spec.runs.deadline),
            self._places,
            self._closing,
        )
        self._jobs: dict[str, Job] = {}
        self._steps: set[asyncio.Task[Run]] = set()
        self._last_activity: datetime | None = None
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
                job.stop(Leave.HAND_OVER)
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
            again = self.adapter.capabilities.recover or job.untouched
            job.stop(Leave.HAND_OVER if again and not self.log.volatile else INTERRUPTED)
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
            job.stop(Leave.FORSAKE)

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
                job.stop(end)

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
        end = Cancelled(reason[:_REASON])
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
                    job.stop(end)
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
                        async with asyncio.timeout(_ASK):
                            await news.wait()
                    except TimeoutError:
                        pass

    async def status(self) -> EngineStatus:
        """Counts for `/status`."""
        runs = await self.log.count(self.spec.name)
        running = sum(job.placed for job in self._jobs.values())
        return EngineStatus(runs, running, queued=len(self._jobs) - running, last_activity=self._last_activity)

    @property
    def _waiting(self) -> int:
        return min(_WAITING, self.spec.runs.queue)

    def _launch(self, run: Run, *, begun: bool = False) -> None:
        if lost := self._jobs.get(run.id):
            # Lost and claimed again; what is still done for the hold before is nobody's any more.
            lost.stop(Leave.FORSAKE)
        job = Job(run, self._resources, self._observer.queued(run), self._over, begun=begun)
        self._jobs[run.id] = job
        job.start()

    def _over(self, job: Job) -> None:
        # A run that was lost and claimed again has another one by now.
        if self._jobs.get(job.run.id) is job:
            del self._jobs[job.run.id]
        if len(self._jobs) == self.spec.runs.concurrency - 1:
            # There may be work that waited for a place in this process.
            self.log.waiters.notify((WORK,))
        self._last_activity = datetime.now(UTC)


def _nothing() -> None:
    """Nobody watches."""
