"""A replica that stands still for longer than its lease holds, and wakes up; and one whose clock is wrong."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import httpx
import pytest

from tests.faults.client import load
from tests.faults.replicas import serving, user_token
from tests.faults.verdict import judge

pytestmark = pytest.mark.timeout(120)

SKEWED = """\
import datetime
import time

SECONDS = {seconds}
real, real_ns = time.time, time.time_ns
time.time = lambda: real() + SECONDS
time.time_ns = lambda: real_ns() + SECONDS * 1_000_000_000
now = datetime.datetime.now


class Skewed(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return now(tz) + datetime.timedelta(seconds=SECONDS)


datetime.datetime = Skewed
"""


@pytest.mark.parametrize("recover", [True, False], ids=["work goes on", "work is interrupted"])
async def test_a_replica_that_slept_writes_nothing_more_and_its_clients_see_what_is_true(
    tmp_path: Path, database: str, recover: bool
) -> None:
    async with serving(tmp_path, database, recover=recover) as site:
        sleeper = site.replicas[0]
        # Their patience is longer than the pause: they stay with the replica that sleeps.
        async with load(site.urls, user_token(), seed=31 + recover, timeout=30, clients=16) as ledger:
            await asyncio.sleep(5)
            slept = time.time()
            sleeper.send(signal.SIGSTOP)
            await asyncio.sleep(8)
            sleeper.send(signal.SIGCONT)
            await asyncio.sleep(4)
        async with httpx.AsyncClient() as client:
            for url in site.urls:
                assert (await client.get(f"{url}/readyz")).status_code == 200
        verdict = await judge(database, ledger, site.effects, kills=[slept], recover=recover)
        assert "was taken away" in sleeper.output
        assert "never retrieved" not in sleeper.output
    verdict.check()
    assert verdict.resumed
    assert max(verdict.resumed) < 10


async def test_clocks_that_differ_by_minutes_take_no_run_away(tmp_path: Path, database: str) -> None:
    paths: list[Path] = []
    for seconds in (-300, 300):
        path = tmp_path / f"skew{seconds}"
        path.mkdir()
        # Python runs this first.
        (path / "sitecustomize.py").write_text(SKEWED.format(seconds=seconds))
        paths.append(path)
    async with serving(tmp_path, database, recover=False, paths=paths) as site:
        async with httpx.AsyncClient() as client:
            times = [(await client.get(f"{url}/health")).json()["timestamp"] for url in site.urls]
        assert times[0][:16] < times[1][:16]
        async with load(site.urls, user_token(), seed=41, clients=4) as ledger:
            await asyncio.sleep(8)
        verdict = await judge(database, ledger, site.effects, recover=False)
        for replica in site.replicas:
            assert "taken" not in replica.output
    verdict.check()
    assert set(verdict.ends) == {"finished", "cancelled"}
