"""Serving again after each change of a file: a supervisor that keeps the socket, and a child that serves on it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from elf_sdk.team.load import TEAM_FILE

__all__ = ["end_with_parent", "snapshot", "supervise"]

_LOOK: Final = 0.5
"""Seconds between two looks at the files."""
_STOP: Final = 40.0
"""Seconds that the child gets to stop; a little more than its own grace for open connections."""
_SUFFIXES: Final = frozenset({".py", ".yaml", ".yml", ".env"})
_SKIPPED: Final = frozenset({"__pycache__", "node_modules"})
"""Directories that hold nothing of a team, beside those whose names begin with a dot."""
_WRITTEN: Final = frozenset({"charts", "gitops"})
"""Directories beside elf.yaml that commands write, unless a team is there."""


def snapshot(root: Path) -> dict[Path, int]:
    """The files below `root` on which a team depends, with the time of their last change in nanoseconds."""
    found = {}
    written = {name for name in _WRITTEN if not (root / name / TEAM_FILE).is_file()}
    for path in _files(root, _SKIPPED | written):
        # Editors replace files, and a link may lead nowhere.
        with suppress(OSError):
            found[path] = path.stat().st_mtime_ns
    return found


def _files(directory: Path, skipped: frozenset[str] = _SKIPPED) -> Iterator[Path]:
    entries: list[Path] = []
    # A directory that is gone by now, or is somebody else's, holds nothing that a team depends on.
    with suppress(OSError):
        entries += directory.iterdir()
    for path in entries:
        if path.is_dir():
            if path.name not in skipped and not path.name.startswith(".") and not path.is_symlink():
                yield from _files(path)
        elif path.suffix in _SUFFIXES or path.name == ".env":
            yield path


def supervise(
    command: Sequence[str],
    sock: socket.socket,
    look: Callable[[], Mapping[Path, int]],
    say: Callable[[str], None],
    beside: Sequence[str] = (),
) -> int:
    """Run `command` with `sock` handed on, again after each change, until SIGINT or SIGTERM.

    Args:
        command: serves on the socket whose descriptor is appended to it.
        sock: stays open, so that nobody is refused while the child starts anew.
        look: the state of the files.
        say: tells a person what happens.
        beside: another command to run as often, which ends by itself; a change that comes sooner ends it.

    Returns:
        The exit code of the last child.
    """
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: stopped.append(received))
    while True:
        before = look()
        child = subprocess.Popen([*command, str(sock.fileno())], pass_fds=[sock.fileno()])  # noqa: S603 - our own command
        other = subprocess.Popen(beside) if beside else None  # noqa: S603 - as above
        waiting = False
        while not stopped and (now := look()) == before:
            if not waiting and child.poll() is not None:
                waiting = True
                say("waiting for a change of a file; Ctrl-C stops")
            time.sleep(_LOOK)
        if not stopped:
            changed = sorted(path for path in {*before, *now} if before.get(path) != now.get(path))
            say(f"{changed[0]} changed; serving again")
        if other is not None:
            _ended(other)
        code = _ended(child)
        if stopped:
            return 0 if code in (0, -signal.SIGINT, -signal.SIGTERM) else code


def end_with_parent() -> None:
    """Stop this process, as SIGTERM does, when the supervisor that started it is gone, however it went."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="elf-parent", daemon=True).start()


def _ended(child: subprocess.Popen[bytes]) -> int:
    if child.poll() is None:
        os.kill(child.pid, signal.SIGTERM)
        try:
            child.wait(_STOP)
        except subprocess.TimeoutExpired:
            child.kill()
    return child.wait()
