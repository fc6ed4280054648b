"""Replicas that are killed, at any moment, while clients are at work."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults.client import Caller, Ledger, load
from tests.faults.killing import kill_at_random
from tests.faults.replicas import serving, until, user_token
from tests.faults.verdict import judge
from tests.postgres import Server

pytestmark = pytest.mark.timeout(150)


@pytest.mark.parametrize("recover", [True, False], ids=["work goes on", "work is interrupted"])
async def test_nothing_is_lost_or_doubled_when_replicas_are_killed(
    tmp_path: Path, database: str, recover: bool
) -> None:
    async with serving(tmp_path, database, recover=recover) as site:
        async with load(site.urls, user_token(), seed=11 + recover) as ledger:
            kills = await kill_at_random(site, seed=20 + recover, seconds=40, most=6)
        verdict = await judge(database, ledger, site.effects, kills=kills, recover=recover)
    verdict.check()
    assert len(kills) >= 3
    assert verdict.resumed
    assert max(verdict.resumed) < 10
    assert verdict.ends["finished"]
    assert verdict.ends["cancelled"]
    if not recover:
        # What cannot go on is never done a second time.
        assert verdict.ends["interrupted"]
        assert verdict.repeated == 0


async def test_work_that_cannot_go_on_is_not_begun_twice(tmp_path: Path, postgres: Server) -> None:
    name = postgres.database()
    # Its beginning takes a second to be stored.
    postgres.execute(
        """
        CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_sleep(1); RETURN NEW; END $$;
        CREATE TRIGGER slow BEFORE INSERT ON events FOR EACH ROW WHEN (NEW.kind = 'started') EXECUTE FUNCTION slow()
        """,
        name,
    )
    async with serving(tmp_path, postgres.url(name), recover=False) as site:
        first, second = site.replicas
        ledger = Ledger()
        async with Caller(site.urls, user_token(), seed=1) as caller:
            told = ledger.open("steps 3 0.1")
            await caller.send(told, wait=False, url=first.url)
            await until(lambda: site.effects.stat().st_size > 0)
            killed = time.time()
            first.kill()
            await caller.follow(told, url=second.url)
        verdict = await judge(site.database, ledger, site.effects, kills=[killed], recover=False)
    verdict.check()
    assert verdict.repeated == 0
