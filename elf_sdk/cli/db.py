"""`elf db`: the schema of a PostgreSQL database."""

from __future__ import annotations

import click

from elf_sdk.cli.group import Group
from elf_sdk.errors import BadInput

__all__ = ["db"]


@click.group(cls=Group)
def db() -> None:
    """Look after the PostgreSQL database of a team.

    Example: elf db migrate
    """


@db.command()
def migrate() -> None:
    """Bring the database's schema to this release.

    The database is the one that ELF_DATABASE_URL names, or SUPABASE_DB_URL. It has to be the server's own address, not
    a pooler's. The schema is the first in the search_path; one that is not there yet is made. All or nothing; a second
    migration at the same time waits for the first.

    What a newer release has migrated stays as it is, where that allows this release to use it.

    A SQLite file needs none of this: a server migrates it when it starts.

    Example: ELF_DATABASE_URL_FILE=/run/secrets/elf/db-url elf db migrate
    """
    from elf_sdk.settings import load_settings

    url = load_settings().database_url
    if not url:
        raise BadInput("there is no database to migrate; set ELF_DATABASE_URL, or ELF_DATABASE_URL_FILE")
    from elf_sdk.store import need_postgres

    need_postgres()
    # After the checks, because SQLAlchemy and Alembic take their time.
    from elf_sdk.store.migrate import migrate as run
    from elf_sdk.store.schema import REVISION, is_newer

    name, before = run(url)
    if before == REVISION:
        click.echo(f"{name} is at revision {REVISION} already")
    elif before is not None and is_newer(before):
        click.echo(f"{name} is at revision {before} of a newer release, which this one may use; nothing was changed")
    else:
        click.echo(f"{name} went from {f'revision {before}' if before else 'nothing'} to revision {REVISION}")
