"""A team that cannot be loaded."""

from __future__ import annotations

PRICES: dict[str, int] = {}
ECHO = PRICES["price"]
