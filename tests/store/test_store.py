"""One suite for every store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from elf_sdk.errors import ElfError, Failure, Retryable
from elf_sdk.store import Store
from elf_sdk.store.database import Connection


async def test_a_change_that_raises_is_undone_and_the_others_stay(store: Store) -> None:
    await store.write(lambda connection: connection.execute("CREATE TABLE numbers (n INTEGER PRIMARY KEY)"))

    def change(number: int) -> Callable[[Connection], int]:
        def insert(connection: Connection) -> int:
            connection.execute("INSERT INTO numbers VALUES (?)", (number,))
            if number % 10 == 3:
                raise ValueError(f"not {number}")
            return number

        return insert

    outcomes = await asyncio.gather(*(store.write(change(n)) for n in range(100)), return_exceptions=True)
    failed = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, ValueError)]
    assert failed == list(range(3, 100, 10))
    kept = await store.read(lambda connection: [n for (n,) in connection.execute("SELECT n FROM numbers")])
    assert kept == [number for number in range(100) if number % 10 != 3]
    with pytest.raises(ValueError, match="not 3"):
        await store.write(change(3))
    with pytest.raises(Failure, match=r"(?i)unique"):
        await store.write(change(1))
    await store.close()
    with pytest.raises(Retryable, match="closed"):
        await store.write(change(200))


async def test_readers_cannot_write(store: Store) -> None:
    with pytest.raises(ElfError):
        await store.read(lambda connection: connection.execute("DELETE FROM runs"))


async def test_close_finishes_what_waits(store: Store) -> None:
    await store.write(lambda connection: connection.execute("CREATE TABLE numbers (n INTEGER)"))
    writes = [
        asyncio.ensure_future(store.write(lambda connection: connection.execute("INSERT INTO numbers VALUES (1)")))
        for _ in range(20)
    ]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*writes)
    await store.open()
    assert await store.read(lambda connection: connection.execute("SELECT COUNT(*) FROM numbers").fetchone()) == (20,)
