"""What was measured, as a table for people and as JSON, beside what was wanted and what was left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Figures", "failed_of"]


def failed_of(load: Mapping[str, Any]) -> str:
    """How many requests failed, as the program `load` says it, and how many had to be sent again."""
    again = f" ({load['refused']} sent again because a replica was full)" if load["refused"] else ""
    return f"{len(load['failed'])} of {load['requests']} failed{again}"


@dataclass
class Figures:
    """Rows that tests add to.

    Attributes:
        rows: what, found, wanted.
        left_out: what this cluster could not show, and why.
    """

    rows: list[tuple[str, str, str]] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def add(self, what: str, found: str, wanted: str = "") -> None:
        """A row."""
        self.rows.append((what, found, wanted))

    def table(self) -> str:
        """All of it, for a terminal."""
        rows = [("on a real cluster", "found", "wanted"), *self.rows]
        widths = [max(len(row[column]) for row in rows) for column in range(2)]
        lines = [f"{what:<{widths[0]}}  {found:>{widths[1]}}  {wanted}".rstrip() for what, found, wanted in rows]
        lines += [f"left out: {what}: {why}" for what, why in self.left_out.items()]
        return "\n".join(lines) + "\n"

    def write(self, path: Path) -> None:
        """`path` with `.txt` and with `.json`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".txt").write_text(self.table(), encoding="utf-8")
        rows = [{"what": what, "found": found, "wanted": wanted} for what, found, wanted in self.rows]
        whole = {"rows": rows, "left_out": self.left_out}
        path.with_suffix(".json").write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
