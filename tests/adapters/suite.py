"""The suite for adapters, with the PostgreSQL of these tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from elf_sdk.testing.adapter_suite import AdapterSuite, Setting
from tests.postgres import INSTALL, binaries

__all__ = ["OnPostgres", "Suite"]


class OnPostgres(Setting):
    @pytest.fixture(scope="class")
    @classmethod
    def postgres_url(cls, request: pytest.FixtureRequest) -> Callable[[], str]:
        def empty() -> str:
            if binaries() is None:
                pytest.skip(INSTALL)
            server = request.getfixturevalue("postgres")
            url: str = server.url(server.database())
            return url

        return empty


class Suite(OnPostgres, AdapterSuite):
    """The whole suite."""
