"""Who is told how long a store takes, such as a server's metrics."""

from __future__ import annotations

__all__ = ["StoreObserver"]


class StoreObserver:
    """Told of what a store's threads do. Does nothing by itself.

    Each method is called by one thread alone, and not that of the event loop; it must not raise.
    """

    def flushed(self, seconds: float, changes: int) -> None:
        """The writer made so many changes, in one transaction as a rule; the time includes the commit."""

    def read(self, seconds: float, queries: int) -> None:
        """The reader answered so many queries, one after the other."""
