"""Behind a pooler in transaction mode nothing of a session is kept: neither notifications nor settings."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

import psycopg
import pytest

from elf_sdk.errors import ElfError
from elf_sdk.runs.durable import DurableLog
from elf_sdk.runs.events import TextDelta
from elf_sdk.store.postgres import PostgresStore
from tests.postgres import Server, unprivileged
from tests.runs.support import ask

SETTINGS = """
[databases]
* = host={server} user=elf
[pgbouncer]
listen_addr =
unix_socket_dir = {here}
auth_type = any
pool_mode = transaction
default_pool_size = 3
logfile = {here}/log
"""


@pytest.fixture
def pooler(postgres: Server) -> Generator[Path, None, None]:
    """The directory of a pgbouncer's socket."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("there is no pgbouncer here; install it: apt-get install pgbouncer")
    with tempfile.TemporaryDirectory(prefix="elf-pool-") as name:
        here = Path(name)
        (here / "settings.ini").write_text(SETTINGS.format(here=here, server=postgres.socket.parent), encoding="utf-8")
        user = unprivileged() if os.geteuid() == 0 else None
        if user is not None:
            os.chown(here, user.pw_uid, user.pw_gid)
        process = subprocess.Popen(
            [program, "-q", here / "settings.ini"],
            user=None if user is None else user.pw_uid,
            group=None if user is None else user.pw_gid,
            extra_groups=None if user is None else [],
        )
        until = time.monotonic() + 10
        while not (here / ".s.PGSQL.6432").exists():
            assert time.monotonic() < until, (here / "log").read_text()
            time.sleep(0.02)
        yield here
        process.terminate()
        process.wait()


async def test_a_pooler_is_found_out_and_everything_works(postgres: Server, pooler: Path) -> None:
    name = postgres.database()
    url = f"postgresql://elf@/{name}?host={pooler}&port=6432"
    stores = [PostgresStore(url) for _ in range(3)]
    for store in stores:
        await store.open()
        assert not store.listens
    logs = [DurableLog(store) for store in stores]
    await asyncio.gather(*(logs[n % 3].create(f"r{n}", ask(context=str(n)), None) for n in range(10)))
    with stores[0].waiters.register("r3") as news:
        await asyncio.sleep(0.5)
        news.clear()
        for turn in range(10):
            await asyncio.gather(*(logs[n % 10 % 3].append(f"r{n % 10}", [TextDelta(str(turn))]) for n in range(30)))
        async with asyncio.timeout(2):
            await news.wait()
    for log in logs:
        assert [logged.seq for logged in await log.read("r3")] == list(range(1, 31))
    with pytest.raises(ElfError):
        await stores[0].read(lambda connection: connection.execute("DELETE FROM runs"))
    for store in stores:
        await store.close()
    # Nothing of ours is left on the connections that others get next.
    with psycopg.connect(url, autocommit=True) as connection:
        for _ in range(10):
            assert connection.execute("SHOW lock_timeout").fetchone() == ("0",)
            assert connection.execute("SHOW transaction_read_only").fetchone() == ("off",)
