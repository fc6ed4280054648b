"""What clients were told, compared with what the log holds: acknowledged, lost, doubled, and seconds to resume."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from elf_sdk.runs.durable import DurableLog
from elf_sdk.runs.events import (
    Answered,
    Failed,
    Finished,
    InputRequired,
    LoggedEvent,
    Started,
    answer_text,
    decode,
    is_terminal,
)
from elf_sdk.runs.log import Run
from elf_sdk.server.a2a.codec import TaskView
from elf_sdk.store import store_at
from elf_sdk.store.database import moment
from tests.faults.client import Ledger, Told
from tests.faults.work import finished_steps

__all__ = ["Verdict", "judge"]

Json = dict[str, Any]


@dataclass
class Verdict:
    """The count.

    Attributes:
        messages: that clients sent.
        acknowledged: tasks, items of streams, answers and cancels that clients were told of.
        lost: what of it the log does not hold, or not like that.
        doubled: what is there more often than once: runs of a message, ends, answers, finished steps and their text.
        repeated: effects of steps that were cut off before their end was stored, and so were done again.
        ends: runs by how they ended.
        resumed: for each run that a kill interrupted, seconds from the kill to its next event.
    """

    messages: int = 0
    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    repeated: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    resumed: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        ends = ", ".join(f"{number} {end}" for end, number in sorted(self.ends.items()))
        line = (
            f"{self.messages} messages ({ends}), {self.acknowledged} acknowledged, "
            f"{len(self.lost)} lost, {len(self.doubled)} doubled, {self.repeated} unfinished steps repeated"
        )
        if self.resumed:
            middle, most = statistics.median(self.resumed), max(self.resumed)
            line += f"; {len(self.resumed)} runs resumed, p50 {middle:.1f} s, max {most:.1f} s"
        return "\n  ".join([line, *self.lost[:20], *self.doubled[:20]])

    def check(self) -> None:
        """Print the count, and raise AssertionError where it is not 0 and 0."""
        print(self)  # noqa: T201 - for a person who looks, and in a failure
        assert not self.lost, str(self)
        assert not self.doubled, str(self)


async def judge(
    database: str, ledger: Ledger, effects: Path, *, kills: Sequence[float] = (), recover: bool, settle: float = 10
) -> Verdict:
    """Compare.

    Args:
        database: URL of the PostgreSQL, or path of the SQLite file.
        ledger: what clients were told; each has finished.
        effects: the file with what the work did.
        kills: Unix times of what interrupted runs.
        recover: whether work goes on elsewhere, so that none may end as interrupted.
        settle: seconds for the last runs to end.
    """
    store = store_at(Path(database), database if "://" in database else "")
    await store.open()
    try:
        await _settled(store, settle)
        ids = [
            row[0] for row in await store.read(lambda connection: connection.execute("SELECT id FROM runs").fetchall())
        ]
        rows = await store.read(
            lambda connection: connection.execute(
                "SELECT run_id, seq, epoch, kind, data, at FROM events ORDER BY run_id, seq"
            ).fetchall()
        )
        (turns,) = await store.read(lambda connection: connection.execute("SELECT COUNT(*) FROM turns").fetchone())
        log = DurableLog(store)
        runs = {run_id: run for run_id in ids if (run := await log.get(run_id)) is not None}
    finally:
        await store.close()
    events: dict[str, list[LoggedEvent]] = defaultdict(list)
    epochs: dict[str, list[int]] = defaultdict(list)
    for run_id, seq, epoch, kind, data, at in rows:
        events[run_id].append(LoggedEvent(run_id, seq, moment(at), decode(kind, data)))
        epochs[run_id].append(epoch)
    verdict = Verdict(messages=len(ledger.told))
    if turns:
        verdict.lost.append(f"{turns} conversations wait for a run that has ended")
    for message, made in Counter(str(run.request.metadata["message_id"]) for run in runs.values()).items():
        if made > 1:
            verdict.doubled.append(f"the message {message} has {made} runs")
    for told in ledger.told:
        _compare(verdict, told, runs, events)
    for run in runs.values():
        _check_log(verdict, run, events[run.id], recover=recover)
        verdict.resumed += _resumed(run, events[run.id], epochs[run.id], kills)
    _count_effects(verdict, effects, events)
    return verdict


async def _settled(store: Any, within: float) -> None:
    until = time.monotonic() + within
    statement = "SELECT id, state, holder, epoch FROM runs WHERE state IN ('queued', 'working')"
    while busy := await store.read(lambda connection: connection.execute(statement).fetchall()):
        assert time.monotonic() < until, f"still at work after {within} s: {busy}"
        await asyncio.sleep(0.1)


def _compare(
    verdict: Verdict, told: Told, runs: Mapping[str, Run], events: Mapping[str, Sequence[LoggedEvent]]
) -> None:
    name = f"message {told.message_id} ({told.text})"
    verdict.acknowledged += len(told.tasks) + sum(map(len, told.seen)) + len(told.answered) + told.cancelled
    if len(told.tasks) > 1:
        verdict.doubled.append(f"{name} was given several tasks: {told.tasks}")
    for task in told.tasks:
        run = runs.get(task)
        if run is None:
            verdict.lost.append(f"{name}: there is no run {task}")
            continue
        logged = events[task]
        verdict.lost += [f"{name}: {wrong}" for items in told.seen if (wrong := _misfit(run, logged, items))]
        keys = Counter(entry.event.key for entry in logged if isinstance(entry.event, Answered))
        verdict.lost += [f"{name}: its answer {key} is not in the log" for key in told.answered if not keys[key]]
        if told.cancelled and run.state != "cancelled":
            verdict.lost.append(f"{name}: its cancel was acknowledged, and it is {run.state}")
        if told.ended and told.state != TaskView(run, logged).task()["status"]["state"]:
            verdict.lost.append(f"{name}: it was said to be {told.state}, and is {run.state}")


def _misfit(run: Run, logged: Sequence[LoggedEvent], items: Sequence[Json]) -> str:
    """Where a stream is not what the log says from some event on; empty where it has no gap, repeat or other order."""
    task, wrong = items[0].get("task"), f"the log never was at {items[0]}, from which a stream went on"
    view = TaskView(run)
    for number in range(len(logged) + 1):
        if number:
            view.take(logged[number - 1])
        if view.task() != task:
            continue
        rest = TaskView(run, logged[:number])
        updates = [update for entry in logged[number:] for update in rest.updates(entry)]
        pairs = zip_longest(items[1:], updates[: len(items) - 1])
        differs = next(((place, *pair) for place, pair in enumerate(pairs, 1) if pair[0] != pair[1]), None)
        if differs is None:
            return ""
        wrong = "item {} of a stream from event {} is {}, and the log says {}".format(differs[0], number, *differs[1:])
    return wrong


def _check_log(verdict: Verdict, run: Run, logged: Sequence[LoggedEvent], *, recover: bool) -> None:
    name = f"run {run.id} ({run.request.text})"
    if [entry.seq for entry in logged] != list(range(1, run.head + 1)):
        verdict.lost.append(f"{name} has not the events 1 to {run.head}: {[entry.seq for entry in logged]}")
    ends = [entry for entry in logged if is_terminal(entry.event)]
    if len(ends) > 1 or (ends and ends[0] is not logged[-1]):
        verdict.doubled.append(f"{name} has {len(ends)} ends, or goes on after its end")
    if not ends and run.state != "input_required":
        verdict.lost.append(f"{name} has no end: it is {run.state}")
    answered = Counter(entry.event.question_id for entry in logged if isinstance(entry.event, Answered))
    verdict.doubled += [
        f"{name} has {count} answers to {question}" for question, count in answered.items() if count > 1
    ]
    asked = Counter(entry.event.question_id for entry in logged if isinstance(entry.event, InputRequired))
    verdict.doubled += [f"{name} asks {question} {count} times" for question, count in asked.items() if count > 1]
    end = logged[-1].event if logged else None
    verdict.ends[_said(end, str(run.state))] += 1
    steps = [step for _, step in finished_steps(logged)]
    words = run.request.text.split()
    expected = [str(number) for number in range(int(words[1]))] if words[0] == "steps" else []
    if steps != expected[: len(steps)]:
        verdict.doubled.append(f"{name} has finished the steps {steps}")
    if isinstance(end, Finished) and words[0] == "steps":
        text = answer_text(logged)
        if steps != expected or text.split() != expected:
            verdict.lost.append(f"{name} has finished with the steps {steps} and the text {text!r}")
    if isinstance(end, Failed) and (recover or (end.code, end.retryable) != ("interrupted", True)):
        verdict.lost.append(f"{name} has ended as {end}")


def _said(end: object, state: str) -> str:
    return end.code if isinstance(end, Failed) else state


def _resumed(run: Run, logged: Sequence[LoggedEvent], epochs: Sequence[int], kills: Sequence[float]) -> list[float]:
    """Seconds from a kill to the first event of the next holder; the earliest kill, where there may have been two."""
    found: list[float] = []
    before, epoch, over = run.created_at, 1, False
    for entry, now in zip(logged, epochs, strict=True):
        if now > epoch and not over:
            kill = next((kill for kill in kills if before.timestamp() <= kill <= entry.at.timestamp()), None)
            if kill is not None:
                found.append(entry.at.timestamp() - kill)
        before, epoch, over = entry.at, now, isinstance(entry.event, InputRequired | Answered)
    return found


def _count_effects(verdict: Verdict, effects: Path, events: Mapping[str, Sequence[LoggedEvent]]) -> None:
    had: Counter[tuple[str, str]] = Counter()
    for line in effects.read_text(encoding="ascii").splitlines():
        run_id, step, attempt, _ = line.split()
        had[run_id, step] += 1
        done: set[str] = set()
        for place, entry in enumerate(events[run_id]):
            if isinstance(entry.event, Started) and entry.event.attempt == int(attempt):
                done = {name for _, name in finished_steps(events[run_id][:place])}
        if step in done:
            verdict.doubled.append(f"run {run_id} had the effect of its finished step {step} once more")
    verdict.repeated = sum(count - 1 for count in had.values())
