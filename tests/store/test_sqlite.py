from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

from elf_sdk.errors import BadInput, Conflict, ElfError, Retryable
from elf_sdk.store import schema as schema_module
from elf_sdk.store.database import Connection
from elf_sdk.store.schema import REVISION, upgrade
from elf_sdk.store.sqlite import SQLiteStore


def schema(path: Path) -> dict[str, str]:
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    connection.close()
    return {name: re.sub(r"\s+", "", sql) for name, sql in rows}


async def refused(path: Path) -> ElfError:
    with pytest.raises(ElfError) as caught:
        await SQLiteStore(path).open()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


async def test_a_new_file_has_the_schema_that_the_revisions_make(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "deep" / "new.db")
    await store.open()
    await store.close()
    upgrade(tmp_path / "migrated.db")
    assert schema(store.path) == schema(tmp_path / "migrated.db")
    assert store.path.stat().st_mode & 0o777 == 0o600
    for path in (store.path, tmp_path / "migrated.db"):
        connection = sqlite3.connect(path)
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(REVISION,)]
        assert connection.execute("SELECT name, value FROM facts").fetchall() == [("min_compatible", "0002")]
        connection.close()


def test_the_revisions_are_all_known_by_name() -> None:
    versions = files("elf_sdk.store").joinpath("migrations", "versions")
    found = {name[1:5] for path in versions.iterdir() if re.match(r"r\d{4}_", name := path.name)}
    assert found == {REVISION, *schema_module._OLDER}
    assert max(found) == REVISION


async def test_a_migrated_file_opens_and_keeps_what_is_in_it(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "elf.db")
    upgrade(store.path)
    await store.open()
    await store.write(lambda connection: connection.execute("CREATE TABLE kept (n INTEGER)"))
    await store.close()
    await store.open()
    assert await store.read(lambda connection: connection.execute("SELECT * FROM kept").fetchall()) == []
    await store.close()


def test_importing_and_opening_loads_neither_sqlalchemy_nor_alembic(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys; from pathlib import Path; from elf_sdk.store.sqlite import SQLiteStore; "
        "store = SQLiteStore(Path(sys.argv[1])); asyncio.run(store.open()); "
        "print({'sqlalchemy', 'alembic'} & set(sys.modules))"
    )
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code, tmp_path / "elf.db"], capture_output=True, check=True)
        assert done.stdout.decode().strip() == "set()"


async def test_a_second_server_is_refused_until_the_first_has_gone(tmp_path: Path) -> None:
    path = tmp_path / "elf.db"
    code = (
        "import asyncio, sys; from pathlib import Path; from elf_sdk.store.sqlite import SQLiteStore; "
        "store = SQLiteStore(Path(sys.argv[1])); asyncio.run(store.open()); print('open', flush=True); sys.stdin.read()"
    )
    first = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(path), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert first.stdout is not None
    assert await first.stdout.readline() == b"open\n"
    (tmp_path / "alias").symlink_to(tmp_path, target_is_directory=True)
    for name in (path, tmp_path / "alias" / "elf.db"):
        with pytest.raises(Conflict, match=f"process {first.pid}"):
            await SQLiteStore(name).open()
    first.kill()
    await first.communicate()
    store = SQLiteStore(path)
    await store.open()
    await store.close()


async def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_text("this is no database\n" * 100)
    assert isinstance(await refused(text), BadInput)
    assert text.read_text().startswith("this is no database")
    other = tmp_path / "other.db"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE songs (title TEXT)")
    connection.close()
    assert "another program" in str(await refused(other))
    (tmp_path / "folder").mkdir()
    assert "directory" in str(await refused(tmp_path / "folder"))


async def test_a_file_of_a_newer_release_is_used_where_it_allows_that_else_refused_and_left_alone(
    tmp_path: Path,
) -> None:
    path = tmp_path / "elf.db"
    store = SQLiteStore(path)
    await store.open()
    await store.write(lambda connection: connection.execute("UPDATE alembic_version SET version_num = '9999'"))
    await store.close()
    # It allows this release as yet.
    await store.open()
    await store.write(lambda connection: connection.execute("UPDATE facts SET value = '9999'"))
    await store.close()
    error = await refused(path)
    assert "newer release" in str(error)
    assert "9999" in str(error)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("9999",)
    connection.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anything")
async def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "elf.db"
    path.touch(mode=0o400)
    assert "cannot be opened for writing" in str(await refused(path))


async def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert isinstance(await refused(tmp_path / "file" / "elf.db"), BadInput)


async def test_another_programs_lock_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elf_sdk.store.sqlite._BUSY_TIMEOUT", 100)
    store = SQLiteStore(tmp_path / "elf.db")
    await store.open()
    shell = sqlite3.connect(tmp_path / "elf.db", isolation_level=None)
    shell.execute("BEGIN IMMEDIATE")
    async with asyncio.timeout(2):
        outcomes = await asyncio.gather(
            *(store.write(lambda connection: connection.execute("DELETE FROM runs")) for _ in range(100)),
            return_exceptions=True,
        )
    for outcome in outcomes:
        assert isinstance(outcome, Retryable)
        assert "locked by another program" in str(outcome)
    shell.execute("ROLLBACK")
    shell.close()
    await store.write(lambda connection: connection.execute("DELETE FROM runs"))
    await store.close()


async def test_a_full_database_is_said_and_leaves_the_others_of_its_batch(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "elf.db")
    await store.open()
    await store.write(lambda connection: connection.execute("CREATE TABLE blobs (data BLOB)"))
    await store.write(lambda connection: connection.execute("PRAGMA max_page_count = 100").fetchone())
    sizes = [10, 10_000_000, 10, 10_000_000, 10]

    def insert(size: int) -> Callable[[Connection], object]:
        return lambda connection: connection.execute("INSERT INTO blobs VALUES (zeroblob(?))", (size,))

    outcomes = await asyncio.gather(*(store.write(insert(size)) for size in sizes), return_exceptions=True)
    assert [isinstance(outcome, Retryable) for outcome in outcomes] == [size > 10 for size in sizes]
    assert "disk is full" in str(outcomes[1])
    assert await store.read(lambda connection: connection.execute("SELECT COUNT(*) FROM blobs").fetchone()) == (3,)
    await store.close()
