from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from elf_sdk.store import Store, store_at


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Store, None]:
    """An open store of each kind."""
    store = store_at(tmp_path / "elf.db", request.getfixturevalue("database") if request.param == "postgres" else "")
    await store.open()
    yield store
    await store.close()
