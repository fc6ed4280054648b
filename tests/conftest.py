"""What tests of several areas share."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.postgres import INSTALL, Server, binaries, running


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
