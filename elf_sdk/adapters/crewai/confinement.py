"""What CrewAI may do outside of itself: send nothing to anybody, and write in one directory.

All of it is said by environment variables, before CrewAI is imported, because its modules read them when they are.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

__all__ = ["confine"]

_QUIET: Final = {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_DISABLE_TRACKING": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "CREWAI_DISABLE_VERSION_CHECK": "true",
    "ANONYMIZED_TELEMETRY": "False",  # Chroma's, which keeps CrewAI's knowledge
}


def confine() -> None:
    """Tell CrewAI to be quiet, and to keep its files in `CREWAI_STORAGE_DIR`, by default `.elf/crewai`.

    Where that cannot be written, as on a read-only file system, it is a private temporary directory that goes with the
    process. CrewAI also writes below HOME when it is imported, and fails where it cannot, so HOME becomes a directory
    of the same place if it cannot be written. Nothing is made before CrewAI makes it.
    """
    os.environ.update(_QUIET)
    storage = Path(os.environ.get("CREWAI_STORAGE_DIR") or ".elf/crewai").resolve()
    if not _writable(storage):
        storage = _temporary()
    os.environ["CREWAI_STORAGE_DIR"] = str(storage)
    # Without HOME and without an entry in passwd, `~` stays what it is.
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() raises where there is none
    if not home.is_absolute() or not _writable(home):
        os.environ["HOME"] = str(storage / "home")


def _writable(directory: Path) -> bool:
    """Whether files may be made in `directory`, which may have to be made itself."""
    while not directory.exists() and directory != directory.parent:
        directory = directory.parent
    return directory.is_dir() and os.access(directory, os.W_OK | os.X_OK)


def _temporary() -> Path:
    directory, owner = Path(tempfile.mkdtemp(prefix="elf-crewai-")), os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # and not a process that was forked from it
            shutil.rmtree(directory, ignore_errors=True)

    atexit.register(remove)
    return directory
