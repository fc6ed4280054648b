"""Push notifications (A2A 1.0, section 4.3): what happens in a run, posted to whoever asked for it.

The run's log is the queue and a row of `PushConfigs` is a cursor in it, so nothing is kept for a receiver but where it
is. A receiver gets the task as it is and then each StreamResponse that a subscriber gets, in order and at least once.
Whichever replica claims a row delivers it for a turn; the run and its subscribers know nothing of it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Final

from elf_sdk.errors import ElfError, Retryable
from elf_sdk.runs.events import is_terminal
from elf_sdk.runs.history import all_events
from elf_sdk.runs.log import RunLog
from elf_sdk.server.a2a.codec import TaskView
from elf_sdk.server.a2a.values import PushTarget
from elf_sdk.server.a2a.webhooks import Sign, Undelivered, Webhooks, unsigned
from elf_sdk.server.egress import Egress
from elf_sdk.store.push import NOTHING, PushConfig, PushConfigs

__all__ = ["Pace", "PushSender"]

log = logging.getLogger("elf.push")

_MOST: Final = 10
"""Receivers of one task."""
_READ: Final = 100
"""Events in one read."""
_WATCHED: Final = 500
"""Runs whose news wake the sender; those of others are seen at the next look."""
_VIEWS: Final = 200
"""Tasks that are kept between two turns, so that their log is not read from the start again."""
_CLOCKS: Final = 0.05
"""Seconds by which this process's clock may be ahead of the database's over one delay."""
_IDS: Final = uuid.UUID("0c8f0c5e-5e7b-5d0e-8a52-7c1f5d7a4b19")


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast, how often and how long. Times are in seconds.

    Attributes:
        look: between two looks for what is due, beside being woken.
        timeout: of one request, from the connection to the end of its answer; section 13.2 recommends 10 to 30.
        turn: after so long the next receiver has its turn.
        lease: of a claim; more than a turn and the two requests that may follow it.
        first_delay: after the first failure; doubled after each.
        longest_delay: the bound of that.
        attempts: failures in a row after which a receiver is given up; with the delays above, after one to three hours.
        at_once: requests at the same time.
        each_host: of these to one host.
        grace: for requests under way when the sender is closed.
    """

    look: float = 5.0
    timeout: float = 10.0
    turn: float = 5.0
    lease: float = 30.0
    first_delay: float = 1.0
    longest_delay: float = 900.0
    attempts: int = 20
    at_once: int = 32
    each_host: int = 4
    grace: float = 5.0


@dataclass(slots=True)
class _Turn:
    """What one claim is used for.

    Attributes:
        config: the row as it was claimed.
        attempts: that failed since something arrived.
        until: monotonic time after which no further event is begun.
        last_request: monotonic time after which no request is begun, because it might outlive the claim.
    """

    config: PushConfig
    attempts: int
    until: float
    last_request: float


class PushSender:
    """One team's push notifications, as far as this process sends them.

    Args:
        team: whose runs.
        configs: the receivers.
        run_log: what happened; on the same store.
        egress: where requests may go.
        sign: proves to receivers who sends.
        pace: how fast.
    """

    def __init__(
        self,
        team: str,
        configs: PushConfigs,
        run_log: RunLog,
        egress: Egress,
        *,
        sign: Sign = unsigned,
        pace: Pace | None = None,
    ) -> None:
        self._configs = configs
        self._team = team
        self._log = run_log
        self._egress = egress
        self._pace = pace = pace or Pace()
        self._webhooks = Webhooks(egress, sign, timeout=pace.timeout, connections=pace.at_once)
        self._looking: asyncio.Task[None] | None = None
        self._turns: dict[asyncio.Task[None], PushConfig] = {}
        self._woken = asyncio.Event()
        self._news: set[str] = set()
        self._more = False
        self._watches: OrderedDict[str, ExitStack] = OrderedDict()
        self._views: OrderedDict[tuple[str, str], TaskView] = OrderedDict()
        self._closing = False

    async def open(self) -> None:
        """Take up what is due, also what another process left."""
        self._looking = asyncio.create_task(self._look(), name=f"push notifications of {self._team}")

    async def close(self) -> None:
        """Begin no request any more, and give back what is claimed. What is left is for another process."""
        self._closing = True
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})
        if self._turns:
            _, late = await asyncio.wait(set(self._turns), timeout=self._pace.grace)
            for turn in late:
                turn.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for watch in self._watches.values():
            watch.close()
        self._watches.clear()
        await self._webhooks.aclose()

    async def check(self, target: PushTarget) -> None:
        """See that a receiver may be sent anything.

        Raises:
            BadInput: it may not.
        """
        await self._egress.check(target.url)

    async def get(self, run_id: str, config_id: str) -> PushTarget | None:
        """A receiver of a run, whoever owns that."""
        config = await self._configs.get(run_id, config_id)
        return None if config is None else _target(config)

    async def of_run(self, run_id: str) -> tuple[PushTarget, ...]:
        """A run's receivers, the oldest first, also those to which all was sent."""
        return tuple(_target(config) for config in await self._configs.of_run(run_id))

    async def remove(self, run_id: str, config_id: str) -> None:
        """Send nothing more to a receiver, or do nothing where there is none."""
        await self._configs.remove(run_id, config_id)

    async def add(self, run_id: str, target: PushTarget) -> PushTarget:
        """Store a receiver that was checked, in the place of one with its id.

        Without an id it gets one that is always the same for this run and URL, so that a repeat doubles nothing.

        Raises:
            BadInput: the run has too many already.
        """
        _, host = self._egress.target(target.url)
        config = PushConfig(
            run_id=run_id,
            config_id=target.id or str(uuid.uuid5(_IDS, f"{run_id} {target.url}")),
            team=self._team,
            url=target.url,
            host=host,
            token=target.token,
            scheme=target.scheme,
            credentials=target.credentials,
        )
        stored = await self._configs.put(config, _MOST)
        self._watch(run_id)
        self._wake(run_id)
        return _target(stored)

    def _wake(self, run_id: str) -> None:
        self._news.add(run_id)
        self._woken.set()

    def _watch(self, run_id: str) -> None:
        """Be woken by a run's news, until it has ended or there are many others."""
        if run_id in self._watches:
            self._watches.move_to_end(run_id)
            return
        watch = ExitStack()
        watch.enter_context(self._log.waiters.watch(run_id, self._wake))
        self._watches[run_id] = watch
        if len(self._watches) > _WATCHED:
            self._watches.popitem(last=False)[1].close()

    async def _look(self) -> None:
        everything = True
        while True:
            self._woken.clear()
            try:
                await self._take(everything)
            except ElfError as error:
                log.warning("push notifications of %s wait: %s", self._team, error)
                self._more = True
            except Exception:
                log.exception("push notifications of %s wait", self._team)
                self._more = True
            everything = True
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pace.look):
                    await self._woken.wait()
                everything = self._more

    async def _take(self, everything: bool) -> None:
        """Claim what is due, as far as there is room, and begin its turns."""
        pace = self._pace
        room = pace.at_once - len(self._turns)
        if room <= 0:
            # The end of a turn wakes.
            self._more = True
            return
        news, self._news = self._news, set()
        # Many names in one statement are no better than all of them.
        runs = None if everything or len(news) > _READ else news
        if runs is not None and not runs:
            return
        busy = Counter(config.host for config in self._turns.values())
        keys, self._more = await self._configs.due(self._team, room, busy, pace.each_host, runs)
        before = time.monotonic()
        for config in await self._configs.claim(self._team, keys, round(pace.lease * 1000)):
            turn = _Turn(config, config.attempts, before + pace.turn, before + pace.lease - pace.timeout)
            task = asyncio.create_task(self._take_turn(turn), name=f"push {config.run_id}")
            self._turns[task] = config
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        # There may be news that came while the row was claimed, and there is room.
        self._wake(self._turns.pop(task).run_id)

    async def _take_turn(self, turn: _Turn) -> None:
        """Deliver what there is, for a while, and settle the claim."""
        config = turn.config
        try:
            await self._deliver(turn)
        except Undelivered as error:
            await _settled(self._missed(turn, error))
        except ElfError as error:
            # The fault is not the receiver's, so its attempts are not counted.
            log.warning("push notifications of run %s wait: %s", config.run_id, error)
            await _settled(self._configs.failed(config, turn.attempts, round(self._pace.look * 1000)))
        except asyncio.CancelledError:
            await _settled(self._configs.released(config))
            raise
        except Exception:
            log.exception("push notifications of run %s cannot be made", config.run_id)
            await _settled(self._missed(turn, Undelivered("the team could not make it; its log says why")))

    async def _deliver(self, turn: _Turn) -> None:
        config = turn.config
        run = await self._log.get(config.run_id)
        if run is None:
            return
        view = self._views.pop((config.run_id, config.config_id), None)
        if config.sent_seq == NOTHING:
            view = TaskView(run, await all_events(self._log, run.id))
            await self._post(turn, {"task": view.task()}, f"{view.seq}.task")
            if view.state.terminal:
                await self._finish(config, view.seq)
                return
            if not await self._moved(turn, view.seq):
                return
        elif view is None or view.seq != config.sent_seq:
            events = await all_events(self._log, run.id)
            view = TaskView(run, (logged for logged in events if logged.seq <= config.sent_seq))
        while True:
            batch = await self._log.read(run.id, view.seq, _READ)
            for logged in batch:
                if self._closing or time.monotonic() > turn.until:
                    await self._rest(config, view)
                    return
                for place, update in enumerate(view.updates(logged)):
                    await self._post(turn, update, f"{logged.seq}.{place}")
                if is_terminal(logged.event):
                    await self._finish(config, logged.seq)
                    return
                if not await self._moved(turn, logged.seq):
                    return
            if len(batch) < _READ:
                await self._rest(config, view)
                return

    async def _moved(self, turn: _Turn, seq: int) -> bool:
        turn.attempts = 0
        return await self._configs.moved(turn.config, seq)

    async def _rest(self, config: PushConfig, view: TaskView) -> None:
        self._views[config.run_id, config.config_id] = view
        if len(self._views) > _VIEWS:
            self._views.popitem(last=False)
        self._watch(config.run_id)
        await self._configs.released(config)

    async def _finish(self, config: PushConfig, seq: int) -> None:
        if (watch := self._watches.pop(config.run_id, None)) is not None:
            watch.close()
        await self._configs.end(config, seq=seq)

    async def _missed(self, turn: _Turn, error: Undelivered) -> None:
        config, pace = turn.config, self._pace
        attempts = turn.attempts + 1
        if error.final or attempts >= pace.attempts:
            why = str(error) if error.final else f"{attempts} attempts failed, the last because {error}"
            log.warning("no more push notifications of run %s go to %s: %s", config.run_id, config.host, why)
            await self._configs.end(config, why)
            return
        backoff = min(pace.first_delay * 2 ** (attempts - 1), pace.longest_delay)
        # Receivers that went away together do not all come back in the same moment.
        delay = max(backoff * random.uniform(0.5, 1.0), min(error.after, pace.longest_delay))  # noqa: S311 - no secret
        log.info("push notification of run %s to %s failed: %s", config.run_id, config.host, error)
        await self._configs.failed(config, attempts, round(delay * 1000))
        asyncio.get_running_loop().call_later(delay + _CLOCKS, self._wake, config.run_id)

    async def _post(self, turn: _Turn, update: Mapping[str, Any], name: str) -> None:
        if time.monotonic() > turn.last_request:
            raise Retryable("the turn took too long")
        # The same id for a repeat, and for nothing else.
        await self._webhooks.post(turn.config, update, f"{turn.config.run_id}.{name}")


async def _settled(change: Awaitable[object]) -> None:
    # Where it cannot be stored, the claim runs out.
    with suppress(ElfError):
        await change


def _target(config: PushConfig) -> PushTarget:
    return PushTarget(
        url=config.url,
        id=config.config_id,
        task_id=config.run_id,
        token=config.token,
        scheme=config.scheme,
        credentials=config.credentials,
    )
