"""Delivers confirmed delegations to the teams that shall do them, and follows each to its end.

What was confirmed is in the store before anything is sent, under an id that is also the A2A message id. Sending the
same again is therefore safe. One process delivers a delegation, under its lease, until the other team has given its
final answer, however long that takes; when the lease is gone, the courier of another replica goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import Any, Final

from elf_sdk.errors import Denied, ElfError, Retryable
from elf_sdk.runs.adapter import Owner
from elf_sdk.runs.log import RunLog
from elf_sdk.runs.run import RunState
from elf_sdk.server.preview import Preview, work_order
from elf_sdk.server.remote import RemoteTeam
from elf_sdk.store.delegations import Delegation, Delegations, DelegationState, Delivery, NotHeld

__all__ = ["Courier", "Progress"]

log = logging.getLogger("elf.delegation")

_FIRST_DELAY: Final = 0.5
_LONGEST_DELAY: Final = 15.0
"""Seconds between tries to reach a team that is absent: the first, doubled after each, and the longest."""
_LOOK: Final = 2.0
"""Seconds between two looks for what another process left."""
_AT_ONCE: Final = 256
"""Deliveries that this process takes up; what is confirmed here comes in any case."""
_LONGEST_ANSWER: Final = 200_000
"""Characters of an answer; it travels as one frame, and goes to the manager's model whole."""


@dataclass(frozen=True, slots=True)
class Progress:
    """News of a delegation.

    Attributes:
        delegation_id: which.
        session_id: where it was confirmed.
        target: the team that works on it.
        state: of the delegation.
        delta: new text of the answer.
        detail: what goes on, in words.
        result: the whole answer, at the end.
    """

    delegation_id: str
    session_id: str
    target: str
    state: DelegationState
    delta: str = ""
    detail: str = ""
    result: str | None = None


@dataclass(frozen=True, slots=True)
class _End:
    """How a delegation ends."""

    state: DelegationState
    result: str = ""
    error: str = ""


class Courier:
    """One team's outgoing delegations, as far as this process delivers them.

    Args:
        team: who sends.
        delegations: where they are kept.
        run_log: knows whose lease this is, and when it is lost.
        client_for: a team by its name.
        publish: told of all progress; must not raise.
    """

    def __init__(
        self,
        team: str,
        delegations: Delegations,
        run_log: RunLog,
        client_for: Callable[[str], RemoteTeam],
        publish: Callable[[Progress], Awaitable[None]],
    ) -> None:
        self._team = team
        self._delegations = delegations
        self._log = run_log
        self._client_for = client_for
        self._publish = publish
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._confirming: set[asyncio.Task[Delegation]] = set()
        # What others deliver since this process lost it; whoever confirmed it here still wants to hear of its end.
        self._elsewhere: set[str] = set()
        self._looking: asyncio.Task[None] | None = None
        self._stop_watching: Callable[[], None] = _nothing

    async def open(self) -> None:
        """Take up what was confirmed and is not done, and from now on what others leave.

        Raises:
            Retryable: the store is out of reach.
        """
        self._stop_watching = self._log.watch(self._forsake)
        await self._look()
        self._looking = asyncio.create_task(self._keep_looking(), name=f"deliveries of {self._team}")

    async def close(self) -> None:
        """Stop following. What is not done stays in the store, for another courier."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})
        await asyncio.gather(*self._confirming, return_exceptions=True)
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._stop_watching()
        self._stop_watching = _nothing
        try:
            await self._delegations.give_back(self._team, self._log.holder)
        except ElfError as error:
            log.warning("the deliveries of %s could not be given back, and wait for the lease: %s", self._team, error)

    async def confirm(self, preview: Preview, owner: Owner) -> Delegation:
        """Store the delegation and send it. Confirming the same preview again changes nothing.

        Args:
            preview: exactly what was shown.
            owner: who confirmed.

        Raises:
            Conflict: a delegation of this id holds something else.
        """
        row = Delegation(
            id=preview.delegation_id,
            team=self._team,
            owner_issuer=owner.issuer,
            owner_subject=owner.subject,
            session_id=preview.session_id,
            run_id=preview.run_id,
            proposal_id=preview.proposal_id,
            target=preview.target,
            preview=asdict(preview),
            preview_hash=preview.hash,
        )
        # Stored and sent together, also when the person's connection breaks in between.
        task = asyncio.create_task(self._keep(row), name=f"confirmation of {row.id}")
        self._confirming.add(task)
        task.add_done_callback(self._confirming.discard)
        return await asyncio.shield(task)

    async def _keep(self, row: Delegation) -> Delegation:
        stored, delivery = await self._delegations.confirm(row, self._log.holder)
        if delivery is not None:
            self._launch(delivery)
        return stored

    def _forsake(self) -> None:
        """The lease is no good: what is still delivered here is another's to deliver."""
        for delegation_id, task in self._tasks.items():
            self._elsewhere.add(delegation_id)
            task.cancel()

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(_LOOK)
            try:
                await self._look()
            except ElfError as error:
                log.warning("%s could not look for delegations: %s", self._team, error)

    async def _look(self) -> None:
        room = _AT_ONCE - len(self._tasks)
        for delivery in await self._delegations.claim(self._team, self._log.holder, self._tasks, room):
            self._launch(delivery)
        for delegation_id in self._elsewhere - self._tasks.keys():
            row = await self._delegations.get(delegation_id)
            if row is None or row.state.terminal:
                self._elsewhere.discard(delegation_id)
            if row is not None and row.state.terminal:
                await self._tell(row, row.state, detail=row.error or "", result=row.result or "")

    def _launch(self, delivery: Delivery) -> None:
        delegation_id = delivery.delegation.id
        if delegation_id in self._tasks:
            return
        self._elsewhere.discard(delegation_id)
        task = asyncio.create_task(self._deliver(delivery), name=f"delegation {delegation_id}")
        self._tasks[delegation_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(delegation_id, None))

    async def _deliver(self, delivery: Delivery) -> None:
        """Try until the team gave a final answer and that is stored; an absent team is waited for."""
        row, attempts = delivery.delegation, delivery.attempts
        await asyncio.sleep(min(delivery.wait, _LONGEST_DELAY))
        while True:
            reached = asyncio.Event()
            try:
                try:
                    end = await self._attempt(delivery, reached)
                    await self._delegations.update(
                        row.id, end.state, delivery.holder, result=end.result or None, error=end.error or None
                    )
                    await self._tell(row, end.state, detail=end.error, result=end.result)
                    return
                except NotHeld:
                    raise
                except ElfError as error:
                    attempts = 1 if reached.is_set() else attempts + 1
                    # The exponent is bounded, because the attempts are not.
                    delay = min(_FIRST_DELAY * 2 ** min(attempts - 1, 10), _LONGEST_DELAY)
                    log.warning("delegation %s to %s waits: %s", row.id, row.target, error)
                    await self._tell(row, DelegationState.CONFIRMED, detail=f"{error}; trying again in {delay:g} s")
                    await self._put_off(delivery, attempts, delay)
            except NotHeld as error:
                log.info("%s", error)
                self._elsewhere.add(row.id)
                return
            await asyncio.sleep(delay)

    async def _put_off(self, delivery: Delivery, attempts: int, delay: float) -> None:
        try:
            await self._delegations.put_off(delivery, attempts, delay)
        except Retryable as error:
            # Only a courier that takes it up meanwhile would have wanted to know.
            log.info("that delegation %s waits could not be stored: %s", delivery.delegation.id, error)

    async def _attempt(self, delivery: Delivery, reached: asyncio.Event) -> _End:
        """Send it, and follow it to its end.

        Args:
            delivery: what to send.
            reached: set as soon as the team has answered.

        Raises:
            ElfError: there is no end yet, because the team or the store cannot be reached.
            NotHeld: another process delivers it.
        """
        row = delivery.delegation
        try:
            return await self._followed(delivery, reached)
        except (NotHeld, Retryable):
            raise
        except Denied as error:
            return _failed(f"{row.target} refused the work: {error}")
        except ElfError as error:
            return _failed(str(error))
        except Exception:
            log.exception("delegation %s to %s could not be followed", row.id, row.target)
            return _failed("it could not be followed; the server's log says why")

    async def _followed(self, delivery: Delivery, reached: asyncio.Event) -> _End:
        row = delivery.delegation
        preview = _preview(row)
        metadata = {
            "delegation_id": row.id,
            "chain": list(preview.route[:-1]),
            "user": preview.user,
        }
        # In a thread, because the first client loads what is behind it.
        client = await asyncio.to_thread(self._client_for, row.target)
        answer: list[str] = []
        length = 0
        updates = client.send(work_order(preview), message_id=row.id, context_id=row.id, metadata=metadata)
        async with aclosing(updates):
            async for update in updates:
                if update.task_id and not reached.is_set():
                    await self._delegations.update(
                        row.id, DelegationState.WORKING, delivery.holder, remote_task_id=update.task_id
                    )
                    reached.set()
                if update.replaces:
                    answer.clear()
                    length = 0
                answer.append(update.text_delta)
                length += len(update.text_delta)
                if length > _LONGEST_ANSWER:
                    return _failed(
                        f"{row.target} answered with more than {_LONGEST_ANSWER:,} characters, and was not read on"
                    )
                if update.state.waits:
                    return _failed(f"{row.target} asks: {update.question}")
                if update.final:
                    state = _END_STATES[update.state]
                    result = "".join(answer) if state is DelegationState.FINISHED else ""
                    return _End(state, result, update.error)
                await self._tell(row, DelegationState.WORKING, delta=update.text_delta, detail=update.step)
        raise Retryable(f"{row.target} closed the stream before the end")

    async def _tell(
        self, row: Delegation, state: DelegationState, *, delta: str = "", detail: str = "", result: str | None = None
    ) -> None:
        await self._publish(Progress(row.id, row.session_id, row.target, state, delta, detail, result))


def _nothing() -> None:
    """Nobody watches."""


def _failed(error: str) -> _End:
    return _End(DelegationState.FAILED, error=error)


_END_STATES: Final = {
    RunState.FINISHED: DelegationState.FINISHED,
    RunState.FAILED: DelegationState.FAILED,
    RunState.REJECTED: DelegationState.FAILED,
    RunState.CANCELLED: DelegationState.CANCELLED,
}


def _preview(row: Delegation) -> Preview:
    stored: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in row.preview.items()
    }
    return Preview(**stored)
