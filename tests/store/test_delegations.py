from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from elf_sdk.errors import Conflict, NotFound
from elf_sdk.store import Store, store_at
from elf_sdk.store.delegations import Delegation, Delegations, DelegationState

ONE = Delegation(
    id="d1",
    team="executive-team",
    owner_issuer="https://issuer.example",
    owner_subject="ada",
    session_id="s1",
    run_id="r1",
    proposal_id="p1",
    target="marketing-team",
    preview={"title": "A campaign", "requirements": ["bold", "brief"]},
    preview_hash="abc",
)


async def outbox(store: Store) -> list[str]:
    return await store.read(lambda connection: [i for (i,) in connection.execute("SELECT delegation_id FROM outbox")])


async def test_confirming_queues_it_once(store: Store) -> None:
    delegations = Delegations(store)
    stored = await asyncio.gather(*(delegations.confirm(ONE) for _ in range(20)))
    assert len(set(map(repr, stored))) == 1
    assert replace(stored[0], created_at=ONE.created_at, updated_at=ONE.updated_at) == ONE
    assert abs(datetime.now(UTC) - stored[0].created_at) < timedelta(seconds=5)
    assert await outbox(store) == ["d1"]
    assert await delegations.get("d1") == stored[0]
    assert await delegations.get("d2") is None
    with pytest.raises(Conflict, match="another preview"):
        await delegations.confirm(replace(ONE, preview_hash="def"))


async def test_it_moves_on_to_one_end(store: Store) -> None:
    delegations = Delegations(store)
    await delegations.confirm(ONE)
    await delegations.update("d1", DelegationState.SENT, remote_task_id="t1")
    await delegations.update("d1", DelegationState.WORKING)
    assert await outbox(store) == ["d1"]
    done = await delegations.update("d1", DelegationState.FINISHED, result="It is done.")
    assert (done.state, done.remote_task_id, done.result) == (DelegationState.FINISHED, "t1", "It is done.")
    assert await outbox(store) == []
    assert await delegations.update("d1", DelegationState.FINISHED, result="Again.") == done
    with pytest.raises(Conflict, match="finished"):
        await delegations.update("d1", DelegationState.FAILED)
    with pytest.raises(NotFound, match="d9"):
        await delegations.update("d9", DelegationState.SENT)


async def test_a_restart_finds_what_is_pending(store: Store) -> None:
    delegations = Delegations(store)
    for number in range(4):
        await delegations.confirm(replace(ONE, id=f"d{number}", session_id=f"s{number % 2}"))
    await delegations.update("d0", DelegationState.REJECTED, error="no budget")
    await delegations.update("d1", DelegationState.SENT)
    await store.close()
    await store.open()
    assert [row.id for row in await delegations.pending("executive-team")] == ["d1", "d2", "d3"]
    assert await delegations.pending("other-team") == ()
    assert [row.id for row in await delegations.of_session("s0")] == ["d0", "d2"]


async def test_two_processes_confirm_it_once(database: str) -> None:
    stores = [store_at(Path(), database) for _ in range(2)]
    for opened in stores:
        await opened.open()
    both = [Delegations(opened) for opened in stores]
    stored = await asyncio.gather(*(both[number % 2].confirm(ONE) for number in range(20)))
    assert len(set(map(repr, stored))) == 1
    assert await outbox(stores[0]) == ["d1"]
    for opened in stores:
        await opened.close()
