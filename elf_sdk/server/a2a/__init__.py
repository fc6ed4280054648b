"""A2A 1.0 as a view of the run log; the only home of the `a2a` package."""

from __future__ import annotations

import sys
from typing import Final

__all__: list[str] = []

_STORES: Final = (
    "a2a.server.cluster.database_event_stream",
    "a2a.server.cluster.database_task_store",
    "a2a.server.tasks.database_task_store",
    "a2a.server.tasks.database_push_notification_config_store",
)


def _load_without_stores() -> None:
    """Load the SDK's server without its own stores, which it knows how to do without.

    Nothing here uses them, and the SQLAlchemy that they load is a third of a server's start and 20 MB of its memory.
    """
    hidden = [name for name in _STORES if name not in sys.modules]
    # This is how the import system is told that there is no such module.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        import a2a.server.request_handlers  # noqa: F401 - loaded for its effect
    finally:
        for name in hidden:
            del sys.modules[name]


_load_without_stores()
