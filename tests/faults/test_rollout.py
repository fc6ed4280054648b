"""Replicas that are stopped and started again, one after the other, while clients are at work."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.faults.client import load
from tests.faults.replicas import serving, user_token
from tests.faults.verdict import judge

pytestmark = pytest.mark.timeout(150)


@pytest.mark.parametrize("recover", [True, False], ids=["work goes on", "work is waited for"])
async def test_a_rolling_restart_fails_no_request(tmp_path: Path, database: str, recover: bool) -> None:
    async with serving(tmp_path, database, recover=recover) as site:
        # Who gets no connection goes elsewhere; all else is a failure.
        async with load(site.urls, user_token(), seed=91 + recover, timeout=30, clients=8) as ledger:
            for replica in site.replicas:
                await asyncio.sleep(2)
                assert await replica.stop() == 0, replica.output
                replica.start()
                await replica.ready()
            await asyncio.sleep(1)
        verdict = await judge(database, ledger, site.effects, recover=recover)
    # What waits to be accepted when a server stops to listen is reset by the system, as good as refused.
    reset = [failure for failure in ledger.failed if "ReadError" in failure or "without sending a resp" in failure]
    failed = [failure for failure in ledger.failed if failure not in reset]
    print(f"{len(failed)} requests failed, {len(reset)} connections reset", *failed, sep="\n  ")  # noqa: T201 - figures
    verdict.check()
    assert set(verdict.ends) == {"finished", "cancelled"}
    assert failed == []
