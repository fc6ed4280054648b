"""A run at work in this process: its wait for a place, its work, and the way to its one end.

A job stores the terminal event of its run, or the questions that a person has to answer, or lets go of the run for
others. The engine starts jobs and stops them; one that has ended is forgotten.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any, Final

from elf_sdk.errors import Conflict, ElfError, Retryable
from elf_sdk.models.llm import Endpoint
from elf_sdk.runs.adapter import Adapter, Delegate, RunContext, RunError, Whereabouts
from elf_sdk.runs.current import current_run
from elf_sdk.runs.events import (
    Answered,
    Event,
    Failed,
    Finished,
    InputRequired,
    LoggedEvent,
    Started,
    TextDelta,
    Usage,
    is_terminal,
)
from elf_sdk.runs.history import all_events, earlier_messages
from elf_sdk.runs.log import Run, RunLog, RunState
from elf_sdk.runs.observer import RunWatch
from elf_sdk.runs.places import raised_place
from elf_sdk.runs.usage import priced
from elf_sdk.runs.writer import RunWriter
from elf_sdk.team.spec import TeamSpec

__all__ = ["INTERRUPTED", "Job", "Leave", "Resources"]

log = logging.getLogger("elf.runs")

INTERRUPTED: Final = Failed("interrupted", "the server stopped while this ran; send it again", retryable=True)
_POISON: Final = Failed("interrupted", "each server that ran this stopped; it is not tried again")
_UNSTORED: Final = Failed("internal", "what it did could not be stored; send it again", retryable=True)
_CLOSE_TIMEOUT: Final = 5.0
"""Seconds that an adapter gets to close after a cancel, before its run is ended over its head."""
_TELL: Final = 1.0
"""Seconds that an adapter gets to tell where its work stands."""
_RETRY: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds between tries to store the end of a run; the last one over and over."""
_ATTEMPTS: Final = 5
"""How often a run is taken up that was cut off each time."""
_ANSWER: Final = 8_000_000
"""Characters of an answer; whoever reads it needs all of it in memory."""
_MESSAGE: Final = 2000
"""Characters that are kept of what the team's code says of its failure."""


class Leave(Enum):
    """How a run is left that is not at its end: for others to claim, or without another word."""

    HAND_OVER = auto()
    FORSAKE = auto()


@dataclass(frozen=True, slots=True)
class Resources:
    """What all jobs of an engine share.

    Attributes:
        spec: the team, environment merged in.
        adapter: does the work.
        log: where runs are kept.
        endpoint: the team's model.
        delegates: the teams that may be proposed for delegation.
        deadline: seconds that a run may work.
        places: one for each run that may work at once.
        closing: set when the engine takes no more.
        strays: adapters that would not close, and what writes ends in their place; kept so that they are not collected
            while they go on.
    """

    spec: TeamSpec
    adapter: Adapter
    log: RunLog
    endpoint: Endpoint
    delegates: tuple[Delegate, ...]
    deadline: float
    places: asyncio.Semaphore
    closing: asyncio.Event
    strays: set[asyncio.Task[None]] = field(default_factory=set)


class Job:
    """A run that works or waits for a place, in this process.

    Args:
        run: as it is when the job begins, with the epoch of the hold.
        resources: of the engine.
        watch: told how it goes.
        over: called with the job when the run's end is written, or the run is left.
        begun: whether the log says already that it has started.

    Attributes:
        run: as given.
        placed: whether it has a place.
        done: set when the run's end is written, or the run is left.
    """

    def __init__(
        self, run: Run, resources: Resources, watch: RunWatch, over: Callable[[Job], None], *, begun: bool
    ) -> None:
        self.run = run
        self.placed = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._resources = resources
        self._watch = watch
        self._over = over
        self._begun = begun
        self._writer = RunWriter(resources.log, run.id, run.epoch, watch)
        # How it is to end before its time, once somebody has said so.
        self._stopped: Event | Leave | None = None
        # Whether the work is done, and its own end is being written.
        self._ending = False
        # Whether it did anything yet that others can see.
        self._effects = False
        # What it asks, once the adapter has returned.
        self._questions: dict[str, InputRequired] = {}
        # Stops it; set while the run has a place, with the moment by the monotonic clock.
        self._deadline: asyncio.TimerHandle | None = None
        self._ends: float | None = None
        self._whereabouts = Whereabouts()
        self._task: asyncio.Task[None]

    @property
    def untouched(self) -> bool:
        """Whether the run has done nothing yet, in this life or one before, so that it may as well begin anew."""
        return not (self._effects or self.run.head > self._begun)

    def start(self) -> None:
        """Do the work, and write the end where nobody stops it."""
        self._task = asyncio.create_task(self._execute(), name=f"run {self.run.id}")

    def stop(self, end: Event | Leave) -> None:
        """End it like this, unless it has ended or was stopped before."""
        if self._stopped is None:
            self._stopped = end
            if not self._ending:
                self._beside(self._halt(end))

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        self._keep(asyncio.create_task(work, name=f"end of run {self.run.id}"))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._resources.strays.add(task)
        task.add_done_callback(self._resources.strays.discard)

    async def _execute(self) -> None:
        """Have the work done, and write its end; when somebody stops it, `_halt` does that instead and cancels this."""
        current_run.set(self.run.id)
        end = await self._outcome()
        if self._stopped is not None:
            return
        self._ending = True
        task = asyncio.current_task()
        try:
            if task is not None and task.cancelling():
                # The team's code did that, and the next step would be the one to notice.
                raise asyncio.CancelledError
            left = await self._leave(end)
        except asyncio.CancelledError:
            # Nobody has this other task to cancel. What was stored already is not stored again.
            self._beside(self._finish(end))
        else:
            self._close(left)

    async def _halt(self, end: Event | Leave) -> None:
        """Stop the work, and write the end, also when the adapter does not close."""
        current_run.set(self.run.id)
        if isinstance(end, Failed) and end.code == "deadline" and (place := await self._place()):
            end = replace(end, message=f"{end.message}; it was at {place}")
        self._task.cancel()
        await asyncio.wait({self._task}, timeout=_CLOSE_TIMEOUT)
        if not self._task.done():
            log.warning("the adapter of run %s does not close; the run is left over its head", self.run.id)
            self._keep(self._task)
        await self._finish(end)

    async def _place(self) -> str:
        """Where the work stands that takes too long."""
        try:
            async with asyncio.timeout(_TELL):
                return await self._whereabouts.place()
        except Exception:
            # Nothing that an adapter does keeps a run from its end.
            log.debug("run %s: the adapter could not tell where it is", self.run.id, exc_info=True)
            return ""

    async def _finish(self, end: Event | Leave | None) -> None:
        left: Event | Leave | None = Leave.FORSAKE
        try:
            left = await self._leave(end)
        finally:
            self._close(left)

    async def _leave(self, end: Event | Leave | None) -> Event | Leave | None:
        """Store the end, or the questions that a person has to answer, or let go of the run.

        Returns:
            What has come of it: the end that is stored, None for questions, or how this process let go of the run.
        """
        run, shared = self.run, self._resources
        tries = 0
        while self._stopped is not Leave.FORSAKE:
            try:
                if end is Leave.HAND_OVER:
                    await self._writer.flush()
                    again = self._effects or shared.adapter.capabilities.recover
                    await shared.log.release(run, unstarted=not again)
                elif isinstance(end, Event):
                    await self._writer.end(end)
                else:
                    await self._writer.park(tuple(self._questions.values()))
            except Conflict as error:
                log.info("run %s: %s", run.id, error)
                return Leave.FORSAKE
            except Exception as error:
                if tries and not isinstance(error, Retryable):
                    log.exception("the end of run %s could not be stored; the next start of the server ends it", run.id)
                    return Leave.FORSAKE
                log.warning("run %s could not be stored: %s", run.id, error)
                if end is not Leave.HAND_OVER:
                    end = _UNSTORED
                if tries and await self._closed_within(_RETRY[min(tries, len(_RETRY)) - 1]):
                    return Leave.FORSAKE
                tries += 1
                continue
            return end
        return Leave.FORSAKE

    async def _closed_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._resources.closing.wait()
        except TimeoutError:
            return False

    def _close(self, left: Event | Leave | None) -> None:
        """The run's end is written, or left to others; `left` as `_leave` gives it."""
        if isinstance(left, Leave):
            self._watch.left()
        else:
            self._watch.ended(left)
        if self._deadline is not None:
            self._deadline.cancel()
        if self.placed:
            self._resources.places.release()
        self._over(self)
        self.done.set_result(None)

    async def _outcome(self) -> Event | None:
        """The terminal event that the work comes to; or None, when the run waits for a person, or was stopped."""
        try:
            return await self._take_place()
        except KeyboardInterrupt:
            raise
        except asyncio.CancelledError:
            if self._stopped is not None:
                raise
            return Failed("team", "the team's code cancelled itself")
        except BaseException as error:
            # SystemExit too: a task would hand it on to the event loop and with it stop the server.
            if self._stopped is not None:
                log.debug("an adapter raised while it was stopped", exc_info=error)
                return None
            if error is self._writer.failure:
                log.error("run %s could not be stored", self.run.id, exc_info=error)
                return _UNSTORED
            return _failure(self.run, error)

    async def _take_place(self) -> Event | None:
        """Wait for a place, then work.

        The place is given back only when the end is stored, and also when the adapter does not close.
        """
        came = time.monotonic()
        await self._resources.places.acquire()
        self.placed = True
        self._watch.working()
        return await self._work(time.monotonic() - came)

    async def _work(self, waited: float) -> Event | None:
        """The terminal event; or None, when the run now waits for a person."""
        run, writer, shared = self.run, self._writer, self._resources
        request, adapter, endpoint = run.request, shared.adapter, shared.endpoint
        before = await all_events(shared.log, run.id) if run.head > self._begun else ()
        said = [logged.event for logged in before if isinstance(logged.event, Answered)]
        answers = {answered.question_id: answered.answer for answered in said}
        cut_off = _since_answer(before)
        attempt = len(cut_off) + 1
        if self._begun:
            self._set_deadline(0, waited)
        elif run.state is RunState.WORKING and not adapter.capabilities.recover:
            return INTERRUPTED
        elif attempt > _ATTEMPTS:
            return _POISON
        else:
            # Stored before anything is done, so that whoever finds the run after a crash knows.
            await writer.add(Started(attempt))
            await self._time_left(cut_off)
        ctx = RunContext(
            run_id=run.id,
            spec=shared.spec,
            owner=request.owner,
            conversation=request.conversation,
            text=request.text,
            message_id=said[-1].key if said else request.metadata.get("message_id", ""),
            endpoint=endpoint,
            delegates=shared.delegates,
            history=lambda: earlier_messages(shared.log, request, run.id, shared.spec.chat.context_window_messages),
            answers=answers,
            attempt=attempt,
            before=before,
            deadline=self._ends,
            whereabouts=self._whereabouts,
            checkpoints=shared.log.checkpoints(run),
        )
        written = 0
        async with aclosing(adapter.run(ctx)) as events:
            async for event in events:
                if self._stopped is not None:
                    break
                if isinstance(event, TextDelta):
                    written += len(event.text)
                    if written > _ANSWER:
                        raise RunError(f"the answer has more than {_ANSWER} characters, and does not end")
                if is_terminal(event):
                    raise TypeError(
                        f"{type(adapter).__name__} yielded a {event.kind} event; only the engine ends a run"
                    )
                self._effects = True
                if isinstance(event, InputRequired):
                    # Asked when the adapter has returned: only then can an answer be of use.
                    if event.question_id not in answers:
                        self._questions[event.question_id] = event
                else:
                    await writer.add(await priced(event, endpoint) if isinstance(event, Usage) else event)
        if self._questions or self._stopped is not None:
            return None
        writer.hold()
        return Finished()

    async def _time_left(self, cut_off: Sequence[LoggedEvent]) -> None:
        """Set the deadline of a run that is taken up, by the times that the log has given."""
        await self._writer.flush()
        now = (await all_events(self._resources.log, self.run.id, self.run.head))[-1].at
        worked = (now - cut_off[0].at).total_seconds() if cut_off else 0
        self._set_deadline(worked, (now - self.run.created_at).total_seconds())

    def _set_deadline(self, worked: float, since_creation: float) -> None:
        shared = self._resources
        left = shared.deadline - worked
        late = Failed("deadline", f"it took longer than {shared.spec.runs.deadline}", retryable=True)
        given = self.run.request.deadline
        if given is not None and given - since_creation < left:
            left = given - since_creation
            late = Failed("deadline", f"it took longer than the {given:g} s that its caller gave it")
        self._ends = time.monotonic() + max(left, 0)
        self._deadline = asyncio.get_running_loop().call_later(max(left, 0), self.stop, late)


def _failure(run: Run, error: BaseException) -> Failed:
    """The end of a run whose work raised."""
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


def _since_answer(events: Sequence[LoggedEvent]) -> list[LoggedEvent]:
    """The beginnings that came to no end, since a person last answered."""
    begun: list[LoggedEvent] = []
    for logged in events:
        if isinstance(logged.event, Started):
            begun.append(logged)
        elif isinstance(logged.event, Answered):
            begun.clear()
    return begun
