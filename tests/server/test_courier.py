"""Delegations on their way: one courier delivers each, and what one leaves another takes up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from elf_sdk.runs import lease as lease_module
from elf_sdk.runs.adapter import Owner
from elf_sdk.runs.durable import DurableLog
from elf_sdk.runs.events import TextDelta
from elf_sdk.server import courier as courier_module
from elf_sdk.server.courier import Courier, Progress
from elf_sdk.server.preview import Preview, preview_of
from elf_sdk.server.services import Services, open_services
from elf_sdk.settings import Settings
from elf_sdk.store.delegations import Delegation, DelegationState
from elf_sdk.testing import serve
from tests.server.conftest import PROPOSAL, boss, scripted, worker

ADA = Owner("https://issuer.example", "ada")
SECRET = "not-a-secret-only-for-these-tests-" + "x" * 16
NOWHERE = "http://127.0.0.1:9/teams/{team}"
SLOWLY = {"*": (TextDelta("Here "), 1.5, TextDelta("it is."))}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the real times, so that the tests need half as long."""
    monkeypatch.setattr(lease_module, "TTL", 2.0)
    monkeypatch.setattr(lease_module, "_RENEW", 0.5)
    monkeypatch.setattr(courier_module, "_LOOK", 0.5)


class Replica:
    """A process of `boss`, as far as delegations go."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.news: list[Progress] = []
        self.courier = Courier(
            "boss", services.delegations, services.log, lambda team: services.client_for("boss", team), self._hear
        )

    async def _hear(self, news: Progress) -> None:
        self.news.append(news)

    @property
    def results(self) -> list[str]:
        return [news.result for news in self.news if news.result is not None]

    async def die(self) -> None:
        """As a killed process does: it lets nothing go and says nothing more."""
        log = self.services.log
        assert isinstance(log, DurableLog)
        log.lease._closing.set()
        for task in [log.lease._task, self.courier._looking, *self.courier._tasks.values()]:
            if task is not None:
                task.cancel()


@asynccontextmanager
async def replica(settings: Settings) -> AsyncIterator[Replica]:
    async with open_services(settings) as services:
        process = Replica(services)
        await process.courier.open()
        yield process
        await process.courier.close()


def shown() -> Preview:
    return preview_of(
        PROPOSAL,
        boss().spec,
        session_id="s1",
        user="ada",
        environment="dev",
        run_id="r1",
        target_title="The Worker",
    )


async def ended(process: Replica, delegation_id: str) -> Delegation:
    async with asyncio.timeout(20):
        while True:
            row = await process.services.delegations.get(delegation_id)
            assert row is not None
            if row.state.terminal:
                return row
            await asyncio.sleep(0.05)


async def working(process: Replica) -> None:
    async with asyncio.timeout(10):
        while not any(news.delta for news in process.news):  # noqa: ASYNC110 - the news are a list
            await asyncio.sleep(0.02)


async def test_one_of_two_replicas_delivers_what_was_confirmed_at_one(settings: Settings, database: str) -> None:
    hands = worker(SLOWLY)
    async with serve(boss(), hands, settings=replace(settings, jwt_secret=SECRET)) as served:
        shared = Settings(database_url=database, jwt_secret=SECRET, team_url=f"{served.address}/teams/{{team}}")
        async with replica(shared) as here, replica(shared) as there:
            preview = shown()
            await asyncio.gather(*(here.courier.confirm(preview, ADA) for _ in range(5)))
            await working(here)
            assert (await there.courier.confirm(preview, ADA)).state is DelegationState.WORKING
            row = await ended(there, preview.delegation_id)
            assert (row.state, row.result) == (DelegationState.FINISHED, "Here it is.")
            await asyncio.sleep(0.6)
            assert here.results == ["Here it is."]
            assert there.news == []
    assert len(scripted(hands).contexts) == 1


@pytest.mark.parametrize("cleanly", [False, True])
async def test_what_a_replica_leaves_the_other_brings_to_its_end(
    settings: Settings, database: str, cleanly: bool
) -> None:
    hands = worker(SLOWLY)
    async with serve(boss(), hands, settings=replace(settings, jwt_secret=SECRET)) as served:
        shared = Settings(database_url=database, jwt_secret=SECRET, team_url=f"{served.address}/teams/{{team}}")
        async with replica(shared) as there, replica(shared) as here:
            preview = shown()
            await here.courier.confirm(preview, ADA)
            await working(here)
            await (here.courier.close() if cleanly else here.die())
            row = await ended(there, preview.delegation_id)
            assert (row.state, row.result) == (DelegationState.FINISHED, "Here it is.")
            assert there.results == ["Here it is."]
            assert here.results == []
    assert len(scripted(hands).contexts) == 1


async def test_who_lost_its_lease_stops_and_still_tells_the_end(settings: Settings, database: str) -> None:
    hands = worker(SLOWLY)
    async with serve(boss(), hands, settings=replace(settings, jwt_secret=SECRET)) as served:
        shared = Settings(database_url=database, jwt_secret=SECRET, team_url=f"{served.address}/teams/{{team}}")
        async with replica(shared) as there, replica(shared) as here:
            preview = shown()
            await here.courier.confirm(preview, ADA)
            await working(here)
            assert isinstance(here.services.log, DurableLog)
            lease = here.services.log.lease
            before = lease.holder
            # Taken away, as by a process that took this one for dead.
            await lease._leases().retire()
            row = await ended(there, preview.delegation_id)
            assert (row.state, row.result) == (DelegationState.FINISHED, "Here it is.")
            async with asyncio.timeout(5):
                while not here.results:  # noqa: ASYNC110 - the news are a list
                    await asyncio.sleep(0.05)
            assert here.results == ["Here it is."]
            assert lease.holder != before
    assert len(scripted(hands).contexts) == 1


async def test_a_restart_goes_on_with_what_reached_nobody(settings: Settings) -> None:
    hands, preview = worker(), shown()
    async with serve(boss(), hands, settings=replace(settings, jwt_secret=SECRET)) as served:
        own = Settings(store=f"{settings.store}.boss", jwt_secret=SECRET, team_url=NOWHERE)
        async with replica(own) as process:
            await process.courier.confirm(preview, ADA)
            async with asyncio.timeout(20):
                while not any("trying again in 1 s" in news.detail for news in process.news):  # noqa: ASYNC110 - a list
                    await asyncio.sleep(0.05)
        async with replica(replace(own, team_url=f"{served.address}/teams/{{team}}")) as process:
            row = await ended(process, preview.delegation_id)
            assert (row.state, row.result) == (DelegationState.FINISHED, "Here it is.")
        # And there is nothing left to be done.
        async with replica(replace(own, team_url=f"{served.address}/teams/{{team}}")) as process:
            await asyncio.sleep(0.3)
            assert process.news == []
    assert len(scripted(hands).contexts) == 1


async def test_without_leases_it_is_delivered_once_as_well(settings: Settings) -> None:
    hands = worker(SLOWLY)
    async with serve(boss(), hands, settings=replace(settings, jwt_secret=SECRET)) as served:
        volatile = Settings(store=":memory:", jwt_secret=SECRET, team_url=f"{served.address}/teams/{{team}}")
        async with replica(volatile) as process:
            preview = shown()
            await process.courier.confirm(preview, ADA)
            row = await ended(process, preview.delegation_id)
            assert (row.state, row.result) == (DelegationState.FINISHED, "Here it is.")
            await asyncio.sleep(0.6)
            assert process.results == ["Here it is."]
    assert len(scripted(hands).contexts) == 1
