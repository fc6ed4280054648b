"""`elf db`, and which database the environment names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from elf_sdk.settings import load_settings
from elf_sdk.store import store_at
from elf_sdk.store.schema import REVISION
from tests.postgres import Server

ROOT = Path(__file__).parents[2]


def elf(*arguments: str, before: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; {before}\nfrom elf_sdk.cli import main\nsys.argv = ['elf', *{arguments!r}]\nmain()"
    clean = {name: value for name, value in os.environ.items() if "DB_URL" not in name and "DATABASE" not in name}
    environment = {**clean, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


async def test_migrate_makes_what_a_server_needs(postgres: Server, tmp_path: Path) -> None:
    name = postgres.database("template0")
    url = postgres.url(name, options="-csearch_path%3Dbrand")
    (tmp_path / "url").write_text(f"{url}\n", encoding="utf-8")
    where = f"{name} on {postgres.socket.parent}, schema brand"
    for said in (f"went from nothing to revision {REVISION}", f"is at revision {REVISION} already"):
        done = elf("db", "migrate", ELF_DATABASE_URL_FILE=str(tmp_path / "url"))
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{where} {said}\n", "")
    store = store_at(tmp_path / "elf.db", url)
    await store.open()
    await store.close()
    assert not (tmp_path / "elf.db").exists()


def test_migrate_leaves_a_newer_schema_that_allows_this_release_as_it_is(postgres: Server) -> None:
    name = postgres.database()
    postgres.execute("UPDATE alembic_version SET version_num = '9999'", name)
    done = elf("db", "migrate", ELF_DATABASE_URL=postgres.url(name))
    said = "is at revision 9999 of a newer release, which this one may use; nothing was changed"
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"{said}\n")
    postgres.execute("UPDATE facts SET value = '9999' WHERE name = 'min_compatible'", name)
    done = elf("db", "migrate", ELF_DATABASE_URL=postgres.url(name))
    assert done.returncode == 1
    assert "newer release (schema 9999" in done.stderr


@pytest.mark.parametrize(
    ("environment", "code", "said"),
    [
        ({}, 2, "there is no database to migrate; set ELF_DATABASE_URL"),
        ({"ELF_DATABASE_URL_FILE": "absent"}, 2, "ELF_DATABASE_URL_FILE names 'absent', which cannot be read"),
        ({"ELF_DATABASE_URL": "ada:word-to-hide"}, 2, "is no address of a PostgreSQL; write postgresql://"),
        (
            {"ELF_DATABASE_URL": "postgresql://ada:word-to-hide@127.0.0.1:1/elf"},
            1,
            "127.0.0.1 cannot be reached",
        ),
    ],
)
def test_what_cannot_be_migrated_is_said(environment: dict[str, str], code: int, said: str) -> None:
    done = elf("db", "migrate", **environment)
    assert done.returncode == code
    assert said in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "word-to-hide" not in done.stderr


def test_a_missing_driver_is_said() -> None:
    done = elf("db", "migrate", before="sys.modules['psycopg'] = None", ELF_DATABASE_URL="postgresql://db/elf")
    assert done.stderr == "error: PostgreSQL needs the package psycopg; install it: pip install 'elf-sdk[postgres]'\n"


def test_elf_database_url_goes_before_supabases(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql://file/elf\n", encoding="utf-8")
    supabase = {"SUPABASE_DB_URL": "postgresql://supabase/elf"}
    assert load_settings({}).database_url == ""
    assert load_settings(supabase).database_url == "postgresql://supabase/elf"
    assert (
        load_settings({**supabase, "ELF_DATABASE_URL": "postgresql://own/elf"}).database_url == "postgresql://own/elf"
    )
    named = load_settings({**supabase, "ELF_DATABASE_URL_FILE": str(tmp_path / "url")})
    assert named.database_url == "postgresql://file/elf"
    assert "postgresql" not in repr(named)
