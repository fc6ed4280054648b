"""CrewAI to events.

CrewAI is imported when a run begins, never before. Importing this package tells it, by its environment variables, to
send no telemetry and no traces, so import it before `crewai` itself (`from elf_sdk import CrewAIAdapter` is enough).
"""

from __future__ import annotations

import os
from pathlib import Path

from elf_sdk.adapters.crewai.adapter import CrewAIAdapter

__all__ = ["CrewAIAdapter", "quiet"]


def quiet() -> None:
    """Tell CrewAI to send nothing to anybody, and to keep its files under `.elf/crewai` unless told otherwise."""
    os.environ.update(
        CREWAI_DISABLE_TELEMETRY="true",
        CREWAI_DISABLE_TRACKING="true",
        CREWAI_TRACING_ENABLED="false",
        CREWAI_DISABLE_VERSION_CHECK="true",
    )
    os.environ.setdefault("CREWAI_STORAGE_DIR", str(Path(".elf/crewai").resolve()))


quiet()


quiet()
