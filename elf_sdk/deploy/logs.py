"""`elf logs`: what all replicas of a team write, as one stream in the order of time.

Each line comes with the time at which the node took it, by which the replicas' lines are merged and a stream that broke
is taken up again without a line twice or missing.
"""

from __future__ import annotations

import heapq
import json
import queue
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from elf_sdk.deploy.cluster.api import PODS, KubeApi, Lines, Object
from elf_sdk.deploy.rollout import CONTAINER
from elf_sdk.errors import ElfError, Failure, NotFound, Retryable

__all__ = ["Entry", "LogLine", "entry_of", "follow_logs", "read_logs"]

Note = Callable[[str], None]
"""Told why a replica's lines do not come, one sentence at a time."""

_BYTES: Final = 32 * 1024 * 1024
"""Of one replica at most, where nobody follows."""
_SILENCE: Final = 30.0
_WAITING: Final = 10_000
"""Lines that wait for a slow reader; then the replicas wait."""
_LOOK_SECONDS: Final = 3.0
"""Between two looks for new replicas."""
_END_SECONDS: Final = 3.0
"""For the threads that read, once nobody follows any more."""


@dataclass(frozen=True, slots=True, order=True)
class LogLine:
    """One line.

    Attributes:
        time: when the node took it, RFC 3339 in UTC with nanoseconds.
        pod: which replica wrote it.
        text: as it was written.
    """

    time: str
    pod: str
    text: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the runtime's JSON, by its parts; see docs/reference/logs.md.

    Attributes:
        time: as written.
        level: as written, such as `info`.
        logger: who speaks.
        message: what happened, its further lines after the first.
        about: request, run and trace, where there are any.
        exception: the lines of a traceback.
    """

    time: str
    level: str
    logger: str
    message: str
    about: Mapping[str, str]
    exception: tuple[str, ...]


def entry_of(text: str) -> Entry | None:
    """A line's parts; None where it is no line of the runtime."""
    if not text.startswith("{"):
        return None
    try:
        line = json.loads(text)
    except ValueError:
        return None
    if not all(isinstance(line.get(name), str) for name in ("time", "level", "logger", "message")):
        return None
    about = {name: str(line[name]) for name in ("request_id", "run_id", "trace_id") if line.get(name)}
    exception = tuple(str(line.get("exception") or "").splitlines())
    return Entry(line["time"], line["level"], line["logger"], line["message"], about, exception)


def read_logs(
    api: KubeApi,
    namespace: str,
    team: str,
    *,
    lines: int,
    since: float = 0,
    previous: bool = False,
    note: Note = lambda sentence: None,
) -> Generator[LogLine, None, None]:
    """What the replicas have written, merged by time. Nothing is kept in memory but a line of each.

    Args:
        api: of the cluster.
        namespace: of the team.
        team: its name.
        lines: of each replica at most, the last ones.
        since: seconds back; 0 for all.
        previous: of the containers before those that run now.
        note: told of a replica that has nothing to show.

    Raises:
        NotFound: the team has no replica there.
        ElfError: the cluster cannot be asked.
    """
    query = {"limitBytes": str(_BYTES), **_query(lines, since)}
    if previous:
        query["previous"] = "true"
    streams = [_stream(api, namespace, pod["metadata"]["name"], query, note) for pod in _pods(api, namespace, team)]
    yield from heapq.merge(*streams)


def follow_logs(
    api: KubeApi,
    namespace: str,
    team: str,
    *,
    lines: int,
    since: float = 0,
    note: Note = lambda sentence: None,
) -> Generator[LogLine, None, None]:
    """What the replicas have written and will write, as it comes; replicas that start later, too.

    It ends only when the iterator is closed. Arguments and errors are those of `read_logs`.
    """
    yield from _Follower(api, namespace, team, _query(lines, since), note).lines()


class _Follower:
    """The lines of all replicas as they come: a thread for each replica, and one that looks for new ones."""

    def __init__(self, api: KubeApi, namespace: str, team: str, query: Mapping[str, str], note: Note) -> None:
        self._api, self._namespace, self._team = api, namespace, team
        self._query = query
        self._note = note
        self._taken: queue.Queue[LogLine | ElfError] = queue.Queue(_WAITING)
        self._over = threading.Event()
        self._readers: dict[str, threading.Thread] = {}
        self._streams: set[Lines] = set()

    def lines(self) -> Generator[LogLine, None, None]:
        """Every line; it ends when it is closed, or raises what keeps all of them from being read."""
        looker = threading.Thread(target=self._look, name="elf-logs", daemon=True)
        looker.start()
        try:
            while True:
                item = self._taken.get()
                if isinstance(item, ElfError):
                    raise item
                yield item
        finally:
            # All of them end here: a thread that still reads would outlive the connection that its caller closes.
            self._over.set()
            until = time.monotonic() + _END_SECONDS
            looker.join(_END_SECONDS)
            for stream in tuple(self._streams):
                stream.interrupt()
            for reader in tuple(self._readers.values()):
                reader.join(max(0.0, until - time.monotonic()))

    def _put(self, item: LogLine | ElfError) -> None:
        while not self._over.is_set():
            with suppress(queue.Full):
                self._taken.put(item, timeout=0.5)
                return

    def _look(self) -> None:
        query = self._query
        while True:
            try:
                for pod in _pods(self._api, self._namespace, self._team):
                    name = pod["metadata"]["name"]
                    if name not in self._readers:
                        reader = threading.Thread(
                            target=self._read, args=(name, query), name=f"elf-logs-{name}", daemon=True
                        )
                        self._readers[name] = reader
                        reader.start()
            except (Retryable, NotFound) as error:
                if not self._readers:
                    self._put(error)
                    return
            except ElfError as error:
                self._put(error)
                return
            # A replica that starts from now on is shown from its beginning.
            query = {}
            if self._over.wait(_LOOK_SECONDS):
                return

    def _read(self, pod: str, first: Mapping[str, str]) -> None:
        query, seen = dict(first), _Seen()
        while not self._over.is_set():
            try:
                self._read_on(pod, query, seen)
            except NotFound:
                return
            except (Retryable, Failure) as error:
                # Not started yet, or the line is broken.
                if not seen.last and not isinstance(error, Retryable) and not _waits(error):
                    self._note(f"{pod}: {error}")
            except ElfError as error:
                self._put(error)
                return
            if self._over.wait(_LOOK_SECONDS) or not _lives(self._api, self._namespace, pod):
                return
            query = {"sinceTime": seen.last} if seen.last else dict(first)

    def _read_on(self, pod: str, query: Mapping[str, str], seen: _Seen) -> None:
        """Give the lines of one stream, until it ends or breaks."""
        with _open(self._api, self._namespace, pod, {**query, "follow": "true"}, None) as stream:
            self._streams.add(stream)
            try:
                if self._over.is_set():
                    return
                for line in _parsed(stream, pod):
                    if seen.is_new(line):
                        self._put(line)
            finally:
                self._streams.discard(stream)


class _Seen:
    """What was shown of a replica, so that a stream which is taken up again repeats nothing."""

    def __init__(self) -> None:
        self.last = ""
        self._at_last: list[str] = []

    def is_new(self, line: LogLine) -> bool:
        if line.time < self.last:
            return False
        if line.time > self.last:
            self.last, self._at_last = line.time, [line.text]
            return True
        if line.text in self._at_last:
            return False
        self._at_last.append(line.text)
        return True


def _query(lines: int, since: float) -> dict[str, str]:
    query = {"tailLines": str(lines)}
    if since:
        query["sinceSeconds"] = str(max(1, int(since)))
    return query


def _pods(api: KubeApi, namespace: str, team: str) -> list[Object]:
    pods = api.list(PODS, namespace, labels={"app": team, "app.kubernetes.io/component": "team"})
    if not pods:
        raise NotFound(f"{team} has no replica in {namespace} of {api.name}; elf status shows where it runs")
    return sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))


def _stream(api: KubeApi, namespace: str, pod: str, query: Mapping[str, str], note: Note) -> Iterator[LogLine]:
    try:
        yield from _lines(api, namespace, pod, query, _SILENCE)
    except (Failure, NotFound) as error:
        # One that has not started, or was not there before, does not hide what the others wrote.
        note(f"{pod}: {error}")


def _lines(
    api: KubeApi, namespace: str, pod: str, query: Mapping[str, str], silence: float | None
) -> Iterator[LogLine]:
    with _open(api, namespace, pod, query, silence) as lines:
        yield from _parsed(lines, pod)


def _open(
    api: KubeApi, namespace: str, pod: str, query: Mapping[str, str], silence: float | None
) -> AbstractContextManager[Lines]:
    wanted = {"container": CONTAINER, "timestamps": "true", **query}
    return api.lines(PODS, namespace, pod, "log", wanted, silence=silence)


def _parsed(lines: Lines, pod: str) -> Iterator[LogLine]:
    for line in lines:
        moment, _, text = line.decode("utf-8", "replace").partition(" ")
        yield LogLine(_utc(moment), pod, text)


def _utc(written: str) -> str:
    """A node's time in a form that sorts: UTC, nine digits. Nodes write in their own zone."""
    if written.endswith("Z") and len(written) == _SORTED:
        return written
    found = _TIME.fullmatch(written)
    if found is None:
        return written
    moment = datetime.fromisoformat(found[1] + found[3].replace("Z", "+00:00")).astimezone(UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{found[2] or '':0<9}Z"


_SORTED: Final = len("2026-01-01T00:00:00.000000000Z")
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


def _waits(error: Failure) -> bool:
    return "waiting to start" in str(error)


def _lives(api: KubeApi, namespace: str, pod: str) -> bool:
    try:
        found: dict[str, Any] | None = api.find(PODS, namespace, pod)
    except ElfError:
        return True
    return found is not None and found.get("status", {}).get("phase") not in ("Succeeded", "Failed")
