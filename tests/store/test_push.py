"""Receivers of push notifications as rows: who may have one now, and what of it is moved by whom."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from elf_sdk.errors import BadInput
from elf_sdk.runs.adapter import Owner
from elf_sdk.runs.durable import DurableLog
from elf_sdk.runs.events import Finished, Started
from elf_sdk.runs.run import RunRequest
from elf_sdk.store import Store, store_at
from elf_sdk.store.push import NOTHING, PushConfig, PushConfigs

LEASE = 60_000
NOBODY: Mapping[str, int] = {}
NONE: tuple[tuple[()], bool] = ((), False)


async def run(store: Store, run_id: str) -> PushConfig:
    """A run with two events, and a receiver of them that is not stored yet."""
    log = DurableLog(store)
    await log.create(run_id, RunRequest("team", Owner("i", "ada"), "c", "hello", {}), None)
    await log.append(run_id, [Started(), Finished()])
    return PushConfig(run_id, "p1", "team", "https://a.example/hook", "a.example", "token", "Bearer", "credential")


async def test_a_receiver_is_kept_as_it_was_given_and_shown_without_its_secrets(store: Store) -> None:
    configs = PushConfigs(store)
    given = await run(store, "r1")
    stored = await configs.put(given, 10)
    assert replace(stored, created_at=given.created_at) == given
    assert await configs.get("r1", "p1") == stored
    assert await configs.of_run("r1") == (stored,)
    assert "token" not in repr(stored).replace("token=", "")
    assert "'credential'" not in repr(stored)
    await configs.remove("r1", "p1")
    await configs.remove("r1", "p1")
    assert await configs.get("r1", "p1") is None
    assert await configs.of_run("r1") == ()


async def test_a_run_has_so_many_receivers_and_no_more(store: Store) -> None:
    configs = PushConfigs(store)
    given = await run(store, "r1")
    for number in range(3):
        await configs.put(replace(given, config_id=f"p{number}"), 3)
    with pytest.raises(BadInput, match="has 3 push notification configs; delete one first"):
        await configs.put(replace(given, config_id="p3"), 3)
    await configs.put(replace(given, config_id="p0", token="another"), 3)
    assert [(config.config_id, config.token) for config in await configs.of_run("r1")] == [
        ("p0", "another"),
        ("p1", "token"),
        ("p2", "token"),
    ]


async def test_a_claim_is_one_senders_until_it_is_settled_or_runs_out(store: Store) -> None:
    configs = PushConfigs(store)
    await configs.put(await run(store, "r1"), 10)
    key = ("r1", "p1")
    assert await configs.due("team", 10, NOBODY, 4) == ((key,), False)
    assert await configs.due("other", 10, NOBODY, 4) == NONE
    (first,) = await configs.claim("team", [key], 100)
    assert await configs.due("team", 10, NOBODY, 4) == NONE
    assert await configs.claim("team", [key], LEASE) == ()
    assert await configs.moved(first, 1)
    await asyncio.sleep(0.15)
    (second,) = await configs.claim("team", [key], LEASE)
    assert second.sent_seq == 1
    # Whoever comes back late changes nothing.
    assert not await configs.moved(first, 2)
    assert not await configs.released(first)
    assert not await configs.failed(first, 1, 0)
    assert not await configs.end(first, "late")
    assert await configs.released(second)
    (third,) = await configs.claim("team", [key], LEASE)
    assert await configs.failed(third, 3, 200)
    assert await configs.due("team", 10, NOBODY, 4) == NONE
    await asyncio.sleep(0.25)
    (fourth,) = await configs.claim("team", [key], LEASE)
    assert (fourth.sent_seq, fourth.attempts) == (1, 3)
    assert await configs.moved(fourth, 2)
    assert await configs.released(fourth)
    # It has all that there is.
    assert await configs.due("team", 10, NOBODY, 4) == NONE
    stored = await configs.get("r1", "p1")
    assert stored is not None
    assert (stored.sent_seq, stored.attempts, stored.ended) == (2, 0, None)


async def test_given_again_it_goes_on_where_it_was_and_after_its_end_from_the_start(store: Store) -> None:
    configs = PushConfigs(store)
    given = await run(store, "r1")
    await configs.put(given, 10)
    (claimed,) = await configs.claim("team", [("r1", "p1")], LEASE)
    assert await configs.moved(claimed, 1)
    again = await configs.put(replace(given, token="newer"), 10)
    assert (again.sent_seq, again.token, again.claimed_until) == (1, "newer", claimed.claimed_until)
    for why in ("it was given up", ""):
        assert await configs.end(claimed, why, seq=2)
        assert await configs.due("team", 10, NOBODY, 4) == NONE
        revived = await configs.put(given, 10)
        assert (revived.sent_seq, revived.ended) == (NOTHING, None)
        (claimed,) = await configs.claim("team", [("r1", "p1")], LEASE)
        assert await configs.moved(claimed, 1)
    moved = await configs.put(replace(given, url="https://b.example/", host="b.example"), 10)
    assert (moved.sent_seq, moved.ended, moved.host) == (NOTHING, None, "b.example")
    assert await configs.due("team", 10, NOBODY, 4) == ((("r1", "p1"),), False)


async def test_who_deletes_or_moves_it_stops_who_delivers(store: Store) -> None:
    configs = PushConfigs(store)
    given = await run(store, "r1")
    await configs.put(given, 10)
    (claimed,) = await configs.claim("team", [("r1", "p1")], LEASE)
    await configs.put(replace(given, url="https://b.example/", host="b.example"), 10)
    assert not await configs.moved(claimed, 1)
    (claimed,) = await configs.claim("team", [("r1", "p1")], LEASE)
    await configs.remove("r1", "p1")
    assert not await configs.moved(claimed, 1)


async def test_no_host_takes_all_the_room(store: Store) -> None:
    configs = PushConfigs(store)
    for number in range(6):
        given = await run(store, f"r{number}")
        await configs.put(replace(given, url=f"https://slow.example/{number}", host="slow.example"), 10)
    await configs.put(await run(store, "r9"), 10)
    keys, more = await configs.due("team", 4, NOBODY, 3)
    assert (keys, more) == ((("r0", "p1"), ("r1", "p1"), ("r2", "p1"), ("r9", "p1")), True)
    assert await configs.due("team", 4, {"slow.example": 2}, 3) == ((("r0", "p1"), ("r9", "p1")), True)
    assert await configs.due("team", 4, {"slow.example": 3}, 3) == ((("r9", "p1"),), True)
    assert await configs.due("team", 2, NOBODY, 3) == ((("r0", "p1"), ("r1", "p1")), True)
    assert await configs.due("team", 9, NOBODY, 9, {"r4", "r9", "absent"}) == ((("r4", "p1"), ("r9", "p1")), False)


async def test_of_two_processes_each_takes_what_the_other_has_not(database: str) -> None:
    stores = [store_at(Path(), database) for _ in range(2)]
    for opened in stores:
        await opened.open()
    both = [PushConfigs(opened) for opened in stores]
    keys = []
    for number in range(30):
        given = await run(stores[0], f"r{number}")
        await both[0].put(given, 10)
        keys.append((given.run_id, given.config_id))
    taken = await asyncio.gather(*(both[number % 2].claim("team", keys, LEASE) for number in range(10)))
    ids = [config.run_id for claimed in taken for config in claimed]
    assert sorted(ids) == sorted(run_id for run_id, _ in keys)
    for opened in stores:
        await opened.close()
