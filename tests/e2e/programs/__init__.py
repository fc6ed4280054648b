"""Programs that run in a pod of the cluster, with what a team's image has in it; each prints JSON."""

from __future__ import annotations

from pathlib import Path

__all__ = ["program"]


def program(name: str) -> str:
    """The text of a program."""
    return (Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8")
