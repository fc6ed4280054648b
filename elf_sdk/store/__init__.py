"""One database engine a process, with the schema and all migrations; SQLite and PostgreSQL differ only here.

Importing this loads neither SQLAlchemy nor Alembic: they are needed only while a schema is being changed.
"""

from __future__ import annotations

from elf_sdk.store.sqlite import Store

__all__ = ["Store"]
