"""A PostgreSQL that is killed, away for long, or whose answers to COMMIT get lost, under clients at work."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx
import pytest

from tests.faults.client import Caller, Ledger, load
from tests.faults.replicas import serving, user_token
from tests.faults.verdict import judge
from tests.postgres import Server
from tests.proxy import proxied

pytestmark = pytest.mark.timeout(150)


async def test_a_database_that_is_killed_loses_nothing_and_is_used_again_at_once(
    tmp_path: Path, own_postgres: Server
) -> None:
    database = own_postgres.url(own_postgres.database())
    back: list[float] = []
    async with serving(tmp_path, database, recover=False) as site:
        async with load(site.urls, user_token(), seed=51, clients=8, kinds=["stream", "unary", "ask"]) as ledger:
            for _ in range(2):
                await asyncio.sleep(4)
                await asyncio.to_thread(own_postgres.crash)
                await asyncio.sleep(1)
                await asyncio.to_thread(own_postgres.start)
                returned = time.monotonic()
                other = Ledger()
                async with Caller(site.urls, user_token("bob"), seed=len(back)) as probe:
                    told = other.open("hello")
                    await probe.send(told)
                back.append(time.monotonic() - returned)
                assert told.ended
                ledger.told.append(told)
            await asyncio.sleep(3)
        verdict = await judge(database, ledger, site.effects, recover=False)
        stood_still = site.stood_still
    print(f"used again after {', '.join(f'{seconds:.1f}' for seconds in back)} s")  # noqa: T201 - for a person who looks
    verdict.check()
    assert max(back) < 5
    # So short an outage is waited for.
    assert stood_still or set(verdict.ends) == {"finished"}


async def test_a_database_that_is_away_for_20_s_makes_nobody_take_over(tmp_path: Path, own_postgres: Server) -> None:
    ways = (True, False)
    databases = [own_postgres.url(own_postgres.database()) for _ in ways]
    paths = [tmp_path / str(recover) for recover in ways]
    async with (
        serving(paths[0], databases[0], recover=True) as going_on,
        serving(paths[1], databases[1], recover=False) as ending,
    ):
        sites = (going_on, ending)
        async with (
            load(going_on.urls, user_token(), seed=61, clients=5) as first,
            load(ending.urls, user_token(), seed=62, clients=5) as second,
        ):
            await asyncio.sleep(5)
            lives = [own_postgres.execute("SELECT holder FROM leases", _name(url)) for url in databases]
            await asyncio.to_thread(own_postgres.stop)
            until = time.monotonic() + 20
            async with httpx.AsyncClient() as client:
                while time.monotonic() < until:
                    for site in sites:
                        for url in site.urls:
                            assert (await client.get(f"{url}/livez", timeout=2)).status_code == 200
                    await asyncio.sleep(1)
            await asyncio.to_thread(own_postgres.start)
            back = time.time()
            await asyncio.sleep(8)
        for site, url, before in zip(sites, databases, lives, strict=True):
            # Each replica gave its own work up and began another life; nobody's was taken away.
            now = own_postgres.execute("SELECT holder FROM leases", _name(url))
            assert len(now) == len(before) == 2
            assert not set(now) & set(before)
            for replica in site.replicas:
                assert "all runs of this process are stopped" in replica.output
                assert not [holder for (holder,) in before if f"{holder} is gone" in replica.output]
        for site, ledger, url, recover in zip(sites, (first, second), databases, ways, strict=True):
            verdict = await judge(url, ledger, site.effects, kills=[back], recover=recover)
            # What could not be stored for 10 s may end before its process stops it, and says so.
            verdict.lost = [line for line in verdict.lost if "could not be stored" not in line]
            verdict.check()
            assert verdict.resumed
            assert max(verdict.resumed) < 10


async def test_lost_answers_to_commits_lose_and_double_nothing(
    tmp_path: Path, short_path: Path, postgres: Server
) -> None:
    name = postgres.database()
    with proxied(short_path, postgres) as proxy:
        cut_off = f"postgresql://elf@/{name}?host={short_path}"
        async with serving(tmp_path, cut_off, postgres.url(name), recover=False) as site:
            async with load(site.urls, user_token(), seed=71, clients=12) as ledger:
                for _ in range(24):
                    await asyncio.sleep(0.4)
                    proxy.cuts += 1
            cut = proxy.cut
            verdict = await judge(postgres.url(name), ledger, site.effects, recover=False)
            stood_still = site.stood_still
    print(f"{cut} answers to COMMIT lost")  # noqa: T201 - for a person who looks
    verdict.check()
    assert cut >= 20
    assert stood_still or set(verdict.ends) == {"finished", "cancelled"}
    assert verdict.repeated == 0


def _name(url: str) -> str:
    return url.split("/")[3].split("?")[0]
