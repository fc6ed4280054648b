"""What a graph's tasks have said, kept with the checkpoints by which they count as done.

A run that goes on repeats the tasks that were not done. What those had said is void, and what the others had said
holds, whatever of it had reached the run's log: both are compared here, and the difference is said.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import orjson

from elf_sdk.adapters.base import Bridge
from elf_sdk.runs.checkpoints import Checkpoints
from elf_sdk.runs.events import (
    Answered,
    Artifact,
    DelegationProposed,
    Event,
    InputRequired,
    LoggedEvent,
    Rewound,
    Started,
    TextDelta,
    Usage,
    clean,
    decode,
    encode,
    holding,
    stored_kind,
)

__all__ = ["Journal", "amends", "belongs"]

_PREFIX: Final = "said/"
_MESSAGE: Final = "message"
"""In the place of an event's kind."""
_ASIDE: Final = (Answered, InputRequired, Rewound, Started, Usage)
"""What the engine says, and what is never void."""
_RESULTS: Final = (Artifact, DelegationProposed, TextDelta)
"""What a run is for; all else tells how it goes."""


@dataclass(frozen=True, slots=True)
class _Said:
    """An event, or the id of a message that was said, by which task, as the how many-th of the run."""

    number: int
    task: str
    event: Event | str


class Journal:
    """What is said in one run, on its way to the reader.

    A task is named as LangGraph names it: the namespace of its graph, its node and its id (`outer:1f|inner:9c`). What
    belongs to a graph and to none of its tasks ends with a bar (`outer:1f|`), and is empty for the graph itself.

    Args:
        bridge: leads to the reader.

    Attributes:
        kept: what tasks had said that were done when the run was cut off, in order.
        known: ids of the messages in which they did.
    """

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._lock = threading.Lock()
        self._open: list[_Said] = []
        self._next = 0
        self.kept: list[Event] = []
        self.known: set[str] = set()

    async def open(self, checkpoints: Checkpoints) -> None:
        """Read what was kept before.

        Raises:
            Retryable: the database is away.
        """
        entries = await checkpoints.load(_PREFIX)
        rows = sorted((row for value in entries.values() for row in orjson.loads(value)), key=lambda row: int(row[0]))
        self.known = {data for _, kind, data in rows if kind == _MESSAGE}
        self.kept = [decode(kind, orjson.dumps(data)) for _, kind, data in rows if kind != _MESSAGE]
        self._next = rows[-1][0] + 1 if rows else 0

    def say(self, event: Event, task: str = "") -> None:
        """Hand an event to the reader, from any thread.

        Raises:
            Closed: the reader has gone.
        """
        self._add(event, task)
        self._bridge.push(event)

    def know(self, message_id: str, task: str) -> None:
        """Remember that a message was said, so that no graph that hands it on says it again."""
        if message_id not in self.known:
            self.known.add(message_id)
            self._add(message_id, task)

    def _add(self, event: Event | str, task: str) -> None:
        with self._lock:
            self._open.append(_Said(self._next, task, event))
            self._next += 1

    def repeat(self, event: Event) -> None:
        """Hand over what is in the journal already, or not for it."""
        self._bridge.push(event)

    def finished(self, namespace: str, task_id: str | None) -> dict[str, bytes]:
        """What is to be kept with the end of a task, or of a step of a whole graph; see `saver.Finished`."""
        with self._lock:
            done = [said for said in self._open if belongs(said.task, namespace, task_id)]
            if not done:
                return {}
            self._open = [said for said in self._open if not belongs(said.task, namespace, task_id)]
        # Seven digits order a day's work.
        return {f"{_PREFIX}{done[0].number:07}": orjson.dumps([_row(said) for said in _joined(done)])}


def amends(before: Sequence[LoggedEvent], kept: Sequence[Event], *, cut_off: bool) -> Iterator[Event]:
    """What has to be said so that the log says what was kept, and nothing else.

    Args:
        before: the log.
        kept: what the tasks that are done had said.
        cut_off: whether the work was cut off. Where it merely stopped for an answer, steps and calls of tools stand as
            they are, though some will come again; only results must not be there twice.
    """
    wanted = [event for event in kept if not isinstance(event, _ASIDE) and (cut_off or isinstance(event, _RESULTS))]
    match = _Match(wanted)
    for logged in holding(before):
        if isinstance(logged.event, _ASIDE) or not (cut_off or isinstance(logged.event, _RESULTS)):
            continue
        if not match.take(logged.event):
            yield Rewound(logged.seq - 1)
            break
    yield from match.rest()
    yield from _unlogged_usage(before, kept)


class _Match:
    """A place in what is wanted, as far as the log has it. Text may be cut into other pieces there."""

    def __init__(self, wanted: Sequence[Event]) -> None:
        self._wanted = wanted
        self._place = 0
        self._offset = 0

    def take(self, event: Event) -> bool:
        """Move on behind `event`, or say that something else is wanted."""
        if not isinstance(event, TextDelta):
            fits = self._offset == 0 and self._at() == event
            self._place += fits
            return fits
        place, offset, text = self._place, self._offset, event.text
        while text:
            wanted = self._wanted[place] if place < len(self._wanted) else None
            if not isinstance(wanted, TextDelta):
                return False
            piece = wanted.text[offset : offset + len(text)]
            if not text.startswith(piece):
                return False
            text, offset = text[len(piece) :], offset + len(piece)
            if offset == len(wanted.text):
                place, offset = place + 1, 0
        self._place, self._offset = place, offset
        return True

    def rest(self) -> Iterator[Event]:
        """What is wanted and not there."""
        first = self._at()
        if isinstance(first, TextDelta) and self._offset:
            yield TextDelta(first.text[self._offset :])
            self._place += 1
        yield from self._wanted[self._place :]

    def _at(self) -> Event | None:
        return self._wanted[self._place] if self._place < len(self._wanted) else None


def _unlogged_usage(before: Sequence[LoggedEvent], kept: Sequence[Event]) -> Iterator[Event]:
    # What was used was used: it is never void, and must not be counted twice.
    logged = Counter(replace(entry.event, cost=None) for entry in before if isinstance(entry.event, Usage))
    for event in kept:
        if isinstance(event, Usage):
            bare = replace(event, cost=None)
            if logged[bare]:
                logged[bare] -= 1
            else:
                yield event


def belongs(task: str, namespace: str, task_id: str | None) -> bool:
    """Whether a task is that of this id in the graph of this namespace, or in that graph at all, or in one inside."""
    if task == (f"{namespace}|" if namespace else ""):
        # Nobody knows by which of its tasks: rather twice than never.
        return True
    if namespace:
        if not task.startswith(f"{namespace}|"):
            return False
        task = task[len(namespace) + 1 :]
    return task_id is None or any(part.endswith(f":{task_id}") for part in task.split("|"))


def _joined(said: Sequence[_Said]) -> Iterator[_Said]:
    """The same with text joined that nothing came between."""
    text: list[_Said] = []
    for one in said:
        follows = isinstance(one.event, TextDelta) and (not text or text[-1].number + 1 == one.number)
        if text and not follows:
            yield _whole(text)
            text = []
        if isinstance(one.event, TextDelta):
            text.append(one)
        else:
            yield one
    if text:
        yield _whole(text)


def _whole(text: Sequence[_Said]) -> _Said:
    if len(text) == 1:
        return text[0]
    return replace(
        text[0], event=TextDelta("".join(one.event.text for one in text if isinstance(one.event, TextDelta)))
    )


def _row(said: _Said) -> tuple[int, str, object]:
    event = said.event
    if isinstance(event, str):
        return said.number, _MESSAGE, event
    # Joined text may be larger than an event.
    data = {"text": clean(event.text)} if isinstance(event, TextDelta) else orjson.Fragment(encode(event))
    return said.number, stored_kind(event), data
