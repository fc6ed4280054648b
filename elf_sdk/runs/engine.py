"""The engine: start, subscribe, answer, cancel, and exactly one terminal event a run.

Every protocol goes through here, and nothing is executed any other way. The engine holds an asyncio task for each
run that works, and none for a run that waits for a person.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from weakref import WeakValueDictionary

from elf_sdk.errors import Conflict, ElfError, NotFound, Retryable
from elf_sdk.models.llm import Endpoint
from elf_sdk.runs.adapter import Adapter, Delegate, Owner, RunContext, RunError, TurnMessage
from elf_sdk.runs.events import (
    Answered,
    Cancelled,
    Event,
    Failed,
    Finished,
    InputRequired,
    LoggedEvent,
    Started,
    answer_text,
    is_terminal,
)
from elf_sdk.runs.log import IdempotencyKey, Run, RunFilter, RunLog, RunRequest, RunState
from elf_sdk.runs.writer import RunWriter
from elf_sdk.team.spec import TeamSpec, duration_seconds

__all__ = ["Engine", "EngineStatus"]

log = logging.getLogger("elf.runs")

_INTERRUPTED: Final = Failed("interrupted", "the server stopped while this ran; send it again", retryable=True)
_CLOSE_TIMEOUT: Final = 5.0
"""Seconds that an adapter gets to close after a cancel, before its run is ended over its head."""


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
    """

    def __init__(
        self,
        spec: TeamSpec,
        adapter: Adapter,
        run_log: RunLog,
        endpoint: Endpoint,
        delegates: tuple[Delegate, ...] = (),
    ) -> None:
        self.spec = spec
        self.adapter = adapter
        self.log = run_log
        self._endpoint = endpoint
        self.delegates = delegates
        self._deadline = duration_seconds(spec.runs.deadline)
        self._places = asyncio.Semaphore(spec.runs.concurrency)
        # A lock lives as long as some run holds it or waits for it.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._cancelling: dict[str, str] = {}
        self._running = 0
        self._last_activity: datetime | None = None
        self._closing = False

    async def open(self) -> None:
        """End what a process before this one left unfinished; its callers can retry."""
        unfinished = frozenset({RunState.QUEUED, RunState.WORKING})
        while runs := await self.log.list(RunFilter(self.spec.name, states=unfinished)):
            for run in runs:
                await self.log.append(run.id, [_INTERRUPTED])

    async def close(self) -> None:
        """Stop all runs, each with its terminal event, and take no more."""
        self._closing = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def start(self, request: RunRequest, key: IdempotencyKey | None = None) -> Run:
        """Start a run, or return the one that the same key started before.

        Raises:
            Conflict: the key was used for a different request.
            Retryable: the queue is full, or the server is stopping.
        """
        if self._closing:
            raise Retryable(f"{self.spec.name} is stopping; try again in a moment")
        if self._places.locked() and len(self._tasks) - self._running >= self.spec.runs.queue:
            raise Retryable(f"{self.spec.name} has {self.spec.runs.queue} runs waiting already; try again in a moment")
        run, created = await self.log.create(str(uuid.uuid4()), request, key)
        if created:
            self._launch(run)
        return run

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
        if run.state.terminal and after >= run.head:
            return
        with self.log.waiters.register(run_id) as news:
            while True:
                news.clear()
                while batch := await self.log.read(run_id, after):
                    for logged in batch:
                        after = logged.seq
                        yield logged
                        if is_terminal(logged.event):
                            return
                await news.wait()

    async def settled(self, run_id: str, owner: Owner) -> Run:
        """The run, as soon as it has ended or waits for a person.

        Raises:
            NotFound: there is no such run of this owner.
        """
        with self.log.waiters.register(run_id) as news:
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
        return await self._all(run_id)

    async def _all(self, run_id: str) -> tuple[LoggedEvent, ...]:
        events: list[LoggedEvent] = []
        while batch := await self.log.read(run_id, len(events)):
            events += batch
        return tuple(events)

    async def answer(self, run_id: str, owner: Owner, question_id: str, answer: str, key: str = "") -> Run:
        """Answer a question that the run waits for; the run goes on. The same answer twice is one answer.

        `key` is the caller's own id of the answer and is kept with it.

        Raises:
            Conflict: the run does not wait for this question, or has another answer to it.
            NotFound: there is no such run of this owner.
        """
        run = await self.get(run_id, owner)
        events = [logged.event for logged in await self._all(run_id)]
        given = {event.question_id: event.answer for event in events if isinstance(event, Answered)}
        if question_id in given:
            if given[question_id] == answer:
                return run
            raise Conflict(f"the question {question_id!r} has another answer already")
        asked = {event.question_id for event in events if isinstance(event, InputRequired)}
        if run.state is not RunState.INPUT_REQUIRED or question_id not in asked:
            raise Conflict(f"the run {run_id!r} does not wait for an answer to {question_id!r}")
        await self.log.append(run_id, [Answered(question_id, answer, key)])
        run = await self.get(run_id, owner)
        self._launch(run)
        return run

    async def cancel(self, run_id: str, owner: Owner, reason: str = "") -> Run:
        """Cancel, and wait until the run has ended.

        Raises:
            Conflict: it has ended already.
            NotFound: there is no such run of this owner.
        """
        run = await self.get(run_id, owner)
        if run.state.terminal:
            raise Conflict(f"the run {run_id!r} has ended already as {run.state}")
        task = self._tasks.get(run_id)
        if task is not None:
            self._cancelling[run_id] = reason
            task.cancel()
            await asyncio.wait({task}, timeout=_CLOSE_TIMEOUT)
        run = await self.get(run_id, owner)
        if not run.state.terminal:
            await self.log.append(run_id, [Cancelled(reason)])
        return await self.get(run_id, owner)

    async def history(self, request: RunRequest, before: str) -> tuple[TurnMessage, ...]:
        """Earlier messages of the conversation, oldest first, without the run `before`."""
        limit = self.spec.chat.context_window_messages
        which = RunFilter(request.team, request.owner, request.context_id)
        messages: list[TurnMessage] = []
        for run in await self.log.list(which, limit=limit // 2 + 1):
            if run.id == before or not run.state.terminal:
                continue
            if answer := answer_text(await self._all(run.id)):
                messages.append(TurnMessage("team", answer))
            messages.append(TurnMessage("user", run.request.text))
            messages.extend(_results(run.request))
        messages = messages[:limit]
        messages.reverse()
        return (*messages, *_results(request))

    async def status(self) -> EngineStatus:
        """Counts for `/status`."""
        return EngineStatus(
            runs=await self.log.count(self.spec.name),
            running=self._running,
            queued=len(self._tasks) - self._running,
            last_activity=self._last_activity,
        )

    def busy(self, run: Run) -> bool:
        """Whether `run` waits, because its conversation or every place is taken."""
        turn = self._turns.get(run.request.conversation)
        return run.head == 0 and ((turn is not None and turn.locked()) or self._places.locked())

    def _launch(self, run: Run) -> None:
        task = asyncio.create_task(self._execute(run), name=f"run {run.id}")
        self._tasks[run.id] = task
        task.add_done_callback(lambda _: self._forget(run))

    def _forget(self, run: Run) -> None:
        self._tasks.pop(run.id, None)
        self._cancelling.pop(run.id, None)

    async def _execute(self, run: Run) -> None:
        """Take a turn and a place, work, and write the end, whatever happens."""
        writer = RunWriter(self.log, run.id)
        turn = self._turns.setdefault(run.request.conversation, asyncio.Lock())
        end: Event | None
        try:
            async with turn, self._places:
                self._running += 1
                try:
                    end = await self._within_deadline(run, writer)
                finally:
                    self._running -= 1
        except asyncio.CancelledError:
            reason = self._cancelling.get(run.id)
            end = _INTERRUPTED if reason is None else Cancelled(reason)
        except Exception as error:  # noqa: BLE001 - whatever a team's code raises is this run's failure, not the server's
            end = self._failure(run, error)
        self._last_activity = datetime.now(UTC)
        if end is not None:
            try:
                await writer.end(end)
            except Conflict:
                log.info("run %s was ended while its adapter was still closing", run.id)
            except Exception:
                log.exception("the end of run %s could not be stored; the next start of the server ends it", run.id)

    async def _within_deadline(self, run: Run, writer: RunWriter) -> Event | None:
        deadline = asyncio.timeout(self._deadline)
        try:
            async with deadline:
                return await self._work(run, writer)
        except TimeoutError:
            if not deadline.expired():
                raise
            return Failed("deadline", f"it took longer than {self.spec.runs.deadline}", retryable=True)

    def _failure(self, run: Run, error: Exception) -> Failed:
        if isinstance(error, RunError):
            log.warning("run %s failed: %s", run.id, error)
            return Failed(error.code, str(error), error.retryable)
        if isinstance(error, ElfError):
            log.warning("run %s failed: %s", run.id, error)
            return Failed("team", str(error), retryable=isinstance(error, Retryable))
        log.error("run %s failed in the team's code", run.id, exc_info=error)
        return Failed("team", f"the team's code raised {type(error).__name__}: {error}")

    async def _work(self, run: Run, writer: RunWriter) -> Event | None:
        """The terminal event; or None, when the run now waits for a person."""
        request = run.request
        answers = {
            logged.event.question_id: logged.event.answer
            for logged in (await self._all(run.id) if run.head else ())
            if isinstance(logged.event, Answered)
        }
        ctx = RunContext(
            run_id=run.id,
            spec=self.spec,
            owner=request.owner,
            conversation=request.conversation,
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
                if is_terminal(event):
                    adapter = type(self.adapter).__name__
                    raise TypeError(f"{adapter} yielded a {event.kind} event; only the engine ends a run")
                if isinstance(event, InputRequired):
                    if event.question_id in answers:
                        continue
                    waits = True
                await writer.add(event)
        await writer.flush()
        return None if waits else Finished()


def _results(request: RunRequest) -> list[TurnMessage]:
    """What other teams sent back before this message, as the conversation shows it."""
    return [
        TurnMessage("team", f"{result['team']} returned, for {result['title']!r}:\n{result['text']}")
        for result in request.metadata.get("results", ())
    ]
