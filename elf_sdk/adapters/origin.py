"""Which of the author's own lines an error comes from."""

from __future__ import annotations

__all__ = ["author_line"]


def author_line(error: BaseException) -> str:
    """` (team.py, line 12)`, of the deepest frame outside installed packages and ELF; empty where there is none."""
    found = ""
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if "site-packages" not in file and "/elf_sdk/" not in file and "/lib/python" not in file and file[:1] != "<":
            found = f" ({file.rpartition('/')[2]}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return found
