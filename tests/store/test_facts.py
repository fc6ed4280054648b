"""To which environment a database belongs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from elf_sdk.errors import BadInput
from elf_sdk.server.services import open_services
from elf_sdk.settings import Settings
from elf_sdk.store import Store, store_at
from elf_sdk.store.facts import settle_environment


async def test_a_database_belongs_to_the_first_environment_that_uses_it(store: Store) -> None:
    for _ in range(2):
        await settle_environment(store, "staging", "elf.db")
    with pytest.raises(
        BadInput, match=r"^elf\.db belongs to the environment 'staging', and this server is of 'prod'; "
    ):
        await settle_environment(store, "prod", "elf.db")
    await settle_environment(store, "staging", "elf.db")


async def test_of_two_that_begin_at_once_one_is_refused(database: str) -> None:
    stores = [store_at(Path(), database) for _ in range(2)]
    for store in stores:
        await store.open()
    outcomes = await asyncio.gather(
        *(settle_environment(store, name, "it") for store, name in zip(stores, ("staging", "prod"), strict=True)),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes if outcome is not None] == [BadInput]
    for store in stores:
        await store.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_a_server_of_another_environment_does_not_start(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    url = request.getfixturevalue("database") if kind == "postgres" else ""

    def settings(environment: str) -> Settings:
        return Settings(environment, store=str(tmp_path / "elf.db"), database_url=url, jwt_secret="x" * 32)

    async with open_services(settings("staging")):
        pass
    with pytest.raises(BadInput, match="belongs to the environment 'staging', and this server is of 'dev'"):
        async with open_services(settings("dev")):
            pass
    async with open_services(settings("staging")):
        pass
