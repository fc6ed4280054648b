from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write teams/<name>/team.yaml, or any file by its path, and stand in the project's root."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, text: str | bytes = "", *, manager: bool = True) -> Path:
        path = tmp_path / name if "." in name else tmp_path / "teams" / name / "team.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(text, str):
            if path.name == "team.yaml" and manager:
                text = f"name: {path.parent.name}\nmembers: [{{role: Lead, is_manager: true}}]\n{text}"
            text = text.encode()
        path.write_bytes(text)
        return path

    return write
