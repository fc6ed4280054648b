from __future__ import annotations

import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest


@pytest.fixture
def short_path() -> Generator[Path, None, None]:
    """A directory with a short path, as the name of a socket needs it."""
    with tempfile.TemporaryDirectory(prefix="elf-faults-") as directory:
        yield Path(directory)
