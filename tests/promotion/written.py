"""An organisation as an earlier release wrote it, kept in `written/`, so that later ones show that they can upgrade it.

`python -m tests.promotion.written` writes it anew; that is for a release whose repositories nobody has yet.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.promotion.conftest import Site, promote

__all__ = ["TEAMS", "WRITTEN"]

WRITTEN: Final = Path(__file__).parent / "written"
TEAMS: Final[Mapping[str, Mapping[str, Any]]] = {
    "chief-team": {
        "manages": ["brand-team"],
        "placement": "executive",
        "env": [{"name": "TONE", "value": "calm"}],
        "resources": {"memory_limit": "1Gi"},
        "environments": {"staging": {"replicas": 2, "env": [{"name": "TONE", "value": "brisk"}]}},
    },
    "brand-team": {
        "reports_to": "chief-team",
        "placement": "brand",
        "llm": {"provider": "openai", "model": "gpt-5-mini"},
    },
}


def main() -> None:
    """Write the organisation into dev, promote it to staging, and keep what the repository then holds."""
    for role in ("AUTHOR", "COMMITTER"):
        os.environ[f"GIT_{role}_NAME"], os.environ[f"GIT_{role}_EMAIL"] = "Ada", "ada@example.com"
    with tempfile.TemporaryDirectory() as directory:
        site = Site(Path(directory), teams=TEAMS)
        site.release("1.0.0", 1)
        promote(site, "staging")
        shutil.rmtree(WRITTEN, ignore_errors=True)
        shutil.copytree(site.place("dev", "x").parents[1], WRITTEN)


if __name__ == "__main__":
    main()
