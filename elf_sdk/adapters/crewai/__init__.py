"""CrewAI to events.

CrewAI is imported when a run begins, never before. Importing this package tells it, by its environment variables, to
send no telemetry and no traces and where to keep its files, so import it before `crewai` itself (`from elf_sdk import
CrewAIAdapter` is enough).
"""

from __future__ import annotations

from elf_sdk.adapters.crewai.adapter import CrewAIAdapter
from elf_sdk.adapters.crewai.confinement import confine

__all__ = ["CrewAIAdapter", "confine"]

confine()
