"""Which run the code that executes now works for; for logs, and inherited by every task and thread that it starts."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

__all__ = ["current_run"]

current_run: Final = ContextVar("current_run", default="")
"""Id of the run; empty outside of runs."""
