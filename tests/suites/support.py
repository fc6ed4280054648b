"""Where the suites that others wrote are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def suite(name: str, source: str) -> Path:
    """The directory of a suite; where it is not there, the module that asks is skipped with a sentence that says so.

    Args:
        name: of the suite, and of its directory below ELF_SUITES_DIR.
        source: where it is fetched from.
    """
    root = os.environ.get("ELF_SUITES_DIR", "")
    if not root:
        pytest.skip(f"{name} is not run: ELF_SUITES_DIR is not set; scripts/suites says how", allow_module_level=True)
    place = Path(root) / name
    if not place.is_dir():
        pytest.skip(f"{name} is not run: it is not there; git clone {source} {place}", allow_module_level=True)
    return place
