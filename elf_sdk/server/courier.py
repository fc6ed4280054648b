"""Delivers confirmed delegations to the teams that shall do them, and follows each to its end.

What was confirmed is in the store before anything is sent, under an id that is also the A2A message id. Sending the
same again is therefore safe, and a courier that starts takes up whatever the one before it left.
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
from elf_sdk.runs.run import RunState
from elf_sdk.server.preview import Preview, work_order
from elf_sdk.server.remote import RemoteTeam
from elf_sdk.store.delegations import Delegation, Delegations, DelegationState

__all__ = ["Courier", "Progress"]

log = logging.getLogger("elf.delegation")

_FIRST_DELAY: Final = 0.5
_LONGEST_DELAY: Final = 15.0
"""Seconds between tries to reach a team that is absent; doubled after each."""
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


class Courier:
    """One team's outgoing delegations.

    Args:
        team: who sends.
        delegations: where they are kept.
        client_for: a team by its name.
        publish: told of all progress; must not raise.
    """

    def __init__(
        self,
        team: str,
        delegations: Delegations,
        client_for: Callable[[str], RemoteTeam],
        publish: Callable[[Progress], Awaitable[None]],
    ) -> None:
        self._team = team
        self._delegations = delegations
        self._client_for = client_for
        self._publish = publish
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._confirming: set[asyncio.Task[Delegation]] = set()

    async def open(self) -> None:
        """Take up what was confirmed and is not done."""
        for row in await self._delegations.pending(self._team):
            self._launch(row)

    async def close(self) -> None:
        """Stop following. What is not done stays in the store, for the next start."""
        await asyncio.gather(*self._confirming, return_exceptions=True)
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

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
        stored = await self._delegations.confirm(row)
        if not stored.state.terminal:
            self._launch(stored)
        return stored

    def _launch(self, row: Delegation) -> None:
        if row.id in self._tasks:
            return
        task = asyncio.create_task(self._deliver(row), name=f"delegation {row.id}")
        self._tasks[row.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(row.id, None))

    async def _deliver(self, row: Delegation) -> None:
        """Try until the team gave a final answer; an absent team is waited for."""
        delay = _FIRST_DELAY
        while True:
            try:
                await self._attempt(row)
            except Retryable as error:
                log.warning("delegation %s to %s waits: %s", row.id, row.target, error)
                await self._tell(row, DelegationState.CONFIRMED, detail=f"{error}; trying again in {delay:g} s")
                await asyncio.sleep(delay)
                delay = min(delay * 2, _LONGEST_DELAY)
                continue
            except Denied as error:
                await self._end(row, DelegationState.FAILED, error=f"{row.target} refused the work: {error}")
            except ElfError as error:
                await self._end(row, DelegationState.FAILED, error=str(error))
            except Exception:
                log.exception("delegation %s to %s could not be followed", row.id, row.target)
                await self._end(
                    row, DelegationState.FAILED, error="it could not be followed; the server's log says why"
                )
            return

    async def _attempt(self, row: Delegation) -> None:
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
                if update.task_id and row.remote_task_id is None:
                    row = await self._delegations.update(row.id, DelegationState.WORKING, remote_task_id=update.task_id)
                if update.replaces:
                    answer.clear()
                    length = 0
                answer.append(update.text_delta)
                length += len(update.text_delta)
                if length > _LONGEST_ANSWER:
                    error = f"{row.target} answered with more than {_LONGEST_ANSWER:,} characters, and was not read on"
                    await self._end(row, DelegationState.FAILED, error=error)
                    return
                if update.state.waits:
                    await self._end(row, DelegationState.FAILED, error=f"{row.target} asks: {update.question}")
                    return
                if update.final:
                    state = _END_STATES[update.state]
                    result = "".join(answer) if state is DelegationState.FINISHED else ""
                    await self._end(row, state, result=result, error=update.error)
                    return
                await self._tell(row, DelegationState.WORKING, delta=update.text_delta, detail=update.step)
        raise Retryable(f"{row.target} closed the stream before the end")

    async def _end(self, row: Delegation, state: DelegationState, *, result: str = "", error: str = "") -> None:
        await self._delegations.update(row.id, state, result=result or None, error=error or None)
        await self._tell(row, state, detail=error, result=result)

    async def _tell(
        self, row: Delegation, state: DelegationState, *, delta: str = "", detail: str = "", result: str | None = None
    ) -> None:
        await self._publish(Progress(row.id, row.session_id, row.target, state, delta, detail, result))


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
