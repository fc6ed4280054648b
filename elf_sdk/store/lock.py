"""One process serves a SQLite file: a lock beside it, which the system releases when the process dies."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from elf_sdk.errors import BadInput, Conflict

if sys.platform == "win32":
    import msvcrt

    def _take(descriptor: int) -> None:
        # A byte far behind the text, because a locked byte cannot be read by others there.
        os.lseek(descriptor, 1 << 20, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _take(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


__all__ = ["FileLock"]


class FileLock:
    """Held from construction to `release`.

    The file stays when the lock goes: to delete it would let two processes lock two files of one name.

    Raises:
        Conflict: another process holds it; the message names that process.
        BadInput: the lock file cannot be made.
    """

    def __init__(self, database: Path) -> None:
        path = database.with_name(database.name + ".lock")
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise BadInput(
                f"{path} cannot be made, and without it {database} cannot be served: {error.strerror}"
            ) from None
        try:
            _take(self._descriptor)
        except OSError:
            holder = path.read_text(encoding="ascii", errors="replace").strip()
            os.close(self._descriptor)
            raise Conflict(
                f"{database} is served by another process already{f' ({holder})' if holder else ''}; "
                "stop that one, or set ELF_STORE to another file"
            ) from None
        # Only for the message above, so a full disk does not matter.
        with suppress(OSError):
            os.truncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"process {os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let others have it."""
        os.close(self._descriptor)
