"""Replicas that are killed, at any moment, while clients are at work."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.client import load
from tests.faults.killing import kill_at_random
from tests.faults.replicas import serving, user_token
from tests.faults.verdict import judge

pytestmark = pytest.mark.timeout(150)


@pytest.mark.parametrize("recover", [True, False], ids=["work goes on", "work is interrupted"])
async def test_nothing_is_lost_or_doubled_when_replicas_are_killed(
    tmp_path: Path, database: str, recover: bool
) -> None:
    async with serving(tmp_path, database, recover=recover) as site:
        async with load(site.urls, user_token(), seed=11 + recover) as ledger:
            kills = await kill_at_random(site, seed=20 + recover, seconds=25)
        verdict = await judge(database, ledger, site.effects, kills=kills, recover=recover)
    verdict.check()
    assert len(kills) >= 5
    assert verdict.resumed
    assert max(verdict.resumed) < 10
    assert verdict.ends["finished"]
    assert verdict.ends["cancelled"]
    if not recover:
        # What cannot go on is never done a second time.
        assert verdict.ends["interrupted"]
        assert verdict.repeated == 0
