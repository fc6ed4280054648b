"""A disk that is full: said, survived, and nothing that was acknowledged is lost."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.faults.client import AgainError, Caller, Ledger, load
from tests.faults.replicas import Replica, serving, user_token
from tests.faults.verdict import judge
from tests.postgres import INSTALL, Server, binaries

pytestmark = pytest.mark.timeout(120)


async def test_a_full_disk_below_sqlite(tmp_path: Path) -> None:
    async with serving(tmp_path, recover=False, paths=[None]) as site:
        (replica,) = site.replicas
        async with load(site.urls, user_token(), seed=101, clients=4) as ledger:
            await asyncio.sleep(2)
            # From here on its files cannot grow.
            unlimited = resource.prlimit(replica.pid, resource.RLIMIT_FSIZE)
            size = (tmp_path / "elf.db-wal").stat().st_size
            resource.prlimit(replica.pid, resource.RLIMIT_FSIZE, (size, unlimited[1]))
            await _refuses(replica)
            await asyncio.sleep(3)
            resource.prlimit(replica.pid, resource.RLIMIT_FSIZE, unlimited)
            await asyncio.sleep(2)
        await _answers(replica)
    # One process at a time has the file.
    verdict = await judge(str(tmp_path / "elf.db"), ledger, site.effects, recover=False)
    # What could not be stored says so.
    verdict.lost = [line for line in verdict.lost if "could not be stored" not in line]
    verdict.check()
    assert verdict.ends["finished"]


async def test_a_full_disk_below_postgres(tmp_path: Path) -> None:
    programs = binaries()
    if programs is None:
        pytest.skip(INSTALL)
    with _small_disk(Path("/tmp")) as directory:  # noqa: S108 - a disk of its own is mounted below
        server = Server(programs, directory)
        try:
            server.start()
            server.make_template()
            database = server.url(server.database())
            async with serving(tmp_path, database, recover=False) as site:
                async with load(site.urls, user_token(), seed=111, clients=6) as ledger:
                    await asyncio.sleep(2)
                    filler = directory / "filler"
                    with filler.open("wb") as file:
                        try:
                            while True:
                                file.write(b"\0" * 65536)
                                file.flush()
                        except OSError:
                            pass
                    await asyncio.sleep(5)
                    filler.unlink()
                    await asyncio.sleep(2)
                await _answers(site.replicas[0])
                verdict = await judge(database, ledger, site.effects, recover=False)
        finally:
            server.stop()
    verdict.lost = [line for line in verdict.lost if "could not be stored" not in line]
    verdict.check()
    assert verdict.ends["finished"]


@contextmanager
def _small_disk(parent: Path) -> Generator[Path, None, None]:
    """A directory with a disk of its own, of 100 MB; skips the test where that may not be had."""
    directory = parent / f"elf-small-disk-{os.getpid()}"
    directory.mkdir()
    try:
        mounted = (
            os.geteuid() == 0
            and not subprocess.run(
                ["mount", "-t", "tmpfs", "-o", "size=100m,mode=0755", "none", str(directory)], capture_output=True
            ).returncode
        )
        if not mounted:
            pytest.skip("a small disk needs root, and the right to mount one")
        try:
            yield directory
        finally:
            subprocess.run(["umount", str(directory)], check=True)
    finally:
        directory.rmdir()


async def _refuses(replica: Replica) -> None:
    """Wait until a message is refused with a sentence, by a server that lives."""
    ledger = Ledger()
    async with Caller([replica.url], user_token("bob"), seed=1) as caller:
        said = ""
        async with asyncio.timeout(20):
            while not said:
                told = ledger.open("steps 1 0")
                message = {"messageId": told.message_id, "role": "ROLE_USER", "parts": [{"text": "x" * 20_000}]}
                try:
                    await caller.call(replica.url, "SendMessage", {"message": message})
                except AgainError as error:
                    said = str(error)
    assert "disk is full" in said
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{replica.url}/livez")).status_code == 200


async def _answers(replica: Replica) -> None:
    ledger = Ledger()
    async with Caller([replica.url], user_token("carl"), seed=1) as caller:
        told = ledger.open("hello")
        await caller.send(told)
    assert told.state == "TASK_STATE_COMPLETED"
