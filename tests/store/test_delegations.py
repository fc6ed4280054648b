from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from elf_sdk.errors import Conflict, NotFound
from elf_sdk.store import Store, store_at
from elf_sdk.store.delegations import Delegation, Delegations, DelegationState, Delivery, NotHeld
from elf_sdk.store.leases import Leases

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


async def confirmed(store: Store, delegation: Delegation = ONE, holder: str = "here") -> Delegation:
    stored, _ = await Delegations(store).confirm(delegation, holder)
    return stored


async def claimed(store: Store, holder: str, known: tuple[str, ...] = (), limit: int = 10) -> list[str]:
    deliveries = await Delegations(store).claim("executive-team", holder, known, limit)
    return [delivery.delegation.id for delivery in deliveries]


async def test_confirming_queues_it_once(store: Store) -> None:
    delegations = Delegations(store)
    stored = await asyncio.gather(*(confirmed(store) for _ in range(20)))
    assert len(set(map(repr, stored))) == 1
    assert replace(stored[0], created_at=ONE.created_at, updated_at=ONE.updated_at) == ONE
    assert abs(datetime.now(UTC) - stored[0].created_at) < timedelta(seconds=5)
    assert await outbox(store) == ["d1"]
    assert await delegations.get("d1") == stored[0]
    assert await delegations.get("d2") is None
    with pytest.raises(Conflict, match="another preview"):
        await confirmed(store, replace(ONE, preview_hash="def"))


async def test_it_moves_on_to_one_end(store: Store) -> None:
    delegations = Delegations(store)
    await confirmed(store)
    await delegations.update("d1", DelegationState.SENT, "here", remote_task_id="t1")
    await delegations.update("d1", DelegationState.WORKING, "here")
    assert await outbox(store) == ["d1"]
    done = await delegations.update("d1", DelegationState.FINISHED, "here", result="It is done.")
    assert (done.state, done.remote_task_id, done.result) == (DelegationState.FINISHED, "t1", "It is done.")
    assert await outbox(store) == []
    assert await delegations.update("d1", DelegationState.FINISHED, "here", result="Again.") == done
    assert await delegations.confirm(ONE, "here") == (done, None)
    with pytest.raises(NotHeld, match="finished"):
        await delegations.update("d1", DelegationState.FAILED, "here")
    with pytest.raises(NotFound, match="d9"):
        await delegations.update("d9", DelegationState.SENT, "here")


async def test_what_nobody_with_a_lease_delivers_is_claimed_and_the_one_before_writes_nothing(store: Store) -> None:
    delegations = Delegations(store)
    await Leases(store, "here", "test", 10_000).enlist()
    await confirmed(store)
    assert (await delegations.confirm(ONE, "there"))[1] is None
    assert await claimed(store, "there") == []
    await Leases(store, "here", "test", 10_000).retire()
    assert await claimed(store, "there", known=("d1",)) == []
    (delivery,) = await delegations.claim("executive-team", "there", (), 10)
    before = Delivery(delivery.delegation, "here")
    for write in (
        delegations.update("d1", DelegationState.WORKING, "here"),
        delegations.update("d1", DelegationState.FINISHED, "here", result="Late."),
        delegations.put_off(before, 3, 1.0),
    ):
        with pytest.raises(NotHeld, match="d1"):
            await write
    assert await delegations.get("d1") == delivery.delegation
    await delegations.update("d1", DelegationState.FINISHED, "there", result="It is done.")
    assert await outbox(store) == []


async def test_attempts_and_the_time_of_the_next_are_kept(store: Store) -> None:
    delegations = Delegations(store)
    await confirmed(store)
    (delivery,) = await delegations.claim("executive-team", "here", (), 10)
    assert (delivery.attempts, delivery.wait) == (0, 0)
    await delegations.put_off(delivery, 4, 20.0)
    await delegations.give_back("other-team", "here")
    await delegations.give_back("executive-team", "here")
    (delivery,) = await delegations.claim("executive-team", "there", (), 10)
    assert delivery.attempts == 4
    assert 15 < delivery.wait <= 20
    await delegations.update("d1", DelegationState.WORKING, "there")
    (delivery,) = await delegations.claim("executive-team", "there", (), 10)
    assert delivery.attempts == 0


async def test_a_restart_finds_what_is_pending(store: Store) -> None:
    delegations = Delegations(store)
    for number in range(4):
        await confirmed(store, replace(ONE, id=f"d{number}", session_id=f"s{number % 2}"))
    await delegations.update("d0", DelegationState.REJECTED, "here", error="no budget")
    await delegations.update("d1", DelegationState.SENT, "here")
    await store.close()
    await store.open()
    assert await delegations.claim("other-team", "there", (), 10) == ()
    assert await claimed(store, "there", limit=0) == []
    assert await claimed(store, "there", limit=2) == ["d1", "d2"]
    assert await claimed(store, "there", known=("d1", "d2")) == ["d3"]
    assert [row.id for row in await delegations.of_session("s0")] == ["d0", "d2"]


async def test_two_processes_confirm_it_once_and_one_claims_it(database: str) -> None:
    stores = [store_at(Path(), database) for _ in range(2)]
    for opened in stores:
        await opened.open()
    stored = await asyncio.gather(*(confirmed(stores[number % 2], holder=str(number)) for number in range(20)))
    assert len(set(map(repr, stored))) == 1
    assert await outbox(stores[0]) == ["d1"]
    for number in range(2):
        await Leases(stores[number], f"new {number}", "test", 10_000).enlist()
    found = await asyncio.gather(*(claimed(stores[number], f"new {number}") for number in range(2)))
    assert sorted(found) == [[], ["d1"]]
    for opened in stores:
        await opened.close()
