"""Starts a program, and ends it with all that it started when who asked for it is gone, however that died.

    python -I -S keeper.py LIFELINE PROGRAM [ARGUMENT…]

LIFELINE is the number of an inherited pipe whose other end the asker holds, and nobody else: the end of that pipe is
the end of the program. Input, output and errors are the asker's own. Run by its path and with the standard library
alone, so that it starts in milliseconds.
"""

import os
import select
import signal
import sys
import time

_GRACE = 0.5
"""Seconds between being asked to end and being killed."""


def main(arguments: list[str]) -> int:
    """Run the program; returns its exit code, 127 where there is none of that name, 126 where it cannot be run."""
    lifeline, command = int(arguments[0]), arguments[1:]
    os.set_inheritable(lifeline, False)
    ended, woken = os.pipe()
    for end in (ended, woken):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # a signal wakes only who handles it
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    try:
        program = os.posix_spawnp(command[0], command, os.environ, setsid=True)
    except FileNotFoundError:
        return 127
    except OSError:
        return 126
    while True:
        ready = select.select([lifeline, ended], [], [])[0]
        if lifeline in ready:
            return _end(program)
        os.read(ended, 512)
        code = _exited(program)
        if code is not None:
            _signal(program, signal.SIGKILL)  # what it left behind
            return code


def _end(program: int) -> int:
    _signal(program, signal.SIGTERM)
    patience = time.monotonic() + _GRACE
    code = None
    while code is None and time.monotonic() < patience:
        time.sleep(0.01)
        code = _exited(program)
    _signal(program, signal.SIGKILL)
    if code is None:
        code = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
    return code


def _exited(program: int) -> int | None:
    pid, status = os.waitpid(program, os.WNOHANG)
    if not pid:
        return None
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _signal(program: int, number: signal.Signals) -> None:
    try:
        os.killpg(program, number)
    except (ProcessLookupError, PermissionError):  # the group is gone; on macOS a zombie's is not permitted
        return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
