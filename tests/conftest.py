"""What tests of several areas share."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

from tests.postgres import INSTALL, Server, binaries, running


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Commands under test keep nothing in the user's cache, and find nothing there."""
    # Not ELF_CACHE_DIR, because tests start programs without what begins with ELF_.
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def postgres() -> Generator[Server, None, None]:
    """A PostgreSQL for all tests of this process."""
    programs = binaries()
    if programs is None:
        pytest.skip(INSTALL)
    with running(programs) as server:
        yield server


@pytest.fixture
def own_postgres() -> Generator[Server, None, None]:
    """A PostgreSQL that a test may stop and start."""
    programs = binaries()
    if programs is None:
        pytest.skip(INSTALL)
    with running(programs) as server:
        yield server


@pytest.fixture
def database(postgres: Server) -> str:
    """The URL of a database of this test alone, at this release's schema."""
    return postgres.url(postgres.database())
