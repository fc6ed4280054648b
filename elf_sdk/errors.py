"""What can go wrong, named by what the caller does about it.

    ElfError                    exit 1
    ├── BadInput                exit 2   change what you wrote or typed
    │   └── BadSpec                      a team.yaml or elf.yaml is wrong; carries every problem found
    ├── Denied                           the caller may not
    │   ├── Unauthenticated              no valid credential (HTTP 401, WebSocket 4401)
    │   └── Forbidden                    a valid credential for something else (HTTP 403, WebSocket 4403)
    ├── NotFound                         there is no such thing, or it is not yours: both look the same
    ├── Conflict                         it is already decided, finished or taken
    ├── Missing                          a package or program has to be installed first; the message says how
    ├── Retryable                        the same call may succeed later
    └── Failure                          anything else that a person has to look at

Every message is one clear sentence: what is wrong, where, and what to do. Exit codes are given in
`elf_sdk.cli`, closing codes in `elf_sdk.closing`, HTTP statuses and A2A codes in `elf_sdk.server`; nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "BadInput",
    "BadSpec",
    "Conflict",
    "Denied",
    "ElfError",
    "Failure",
    "Forbidden",
    "Missing",
    "NotFound",
    "Problem",
    "Retryable",
    "Unauthenticated",
]


class ElfError(Exception):
    """Base of every error that ELF raises on purpose; its text is meant for a person."""


class BadInput(ElfError):
    """What was typed or written cannot be used; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a file.

    Attributes:
        file: path as the user would type it.
        line: 1-based, or 0 where the file as a whole is meant.
        field: dotted path such as `members[0].role`, or empty.
        message: what is wrong and what to write instead, one sentence.
        severity: `warning` for what works and is probably not meant.
    """

    file: str
    line: int
    field: str
    message: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.field}: {self.message}" if self.field else f"{where}: {self.message}"


class BadSpec(BadInput):
    """A specification is wrong. `problems` holds everything that was found, in file order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Denied(ElfError):
    """The caller may not do this."""


class Unauthenticated(Denied):
    """There is no credential, or it proves nothing (missing, expired, another algorithm, another signer)."""


class Forbidden(Denied):
    """The credential is genuine, and does not give this right."""


class NotFound(ElfError):
    """There is no such thing, or it belongs to somebody else; the answer is the same on purpose."""


class Conflict(ElfError):
    """It was already decided, finished or taken, in a way that differs from what is asked now."""


class Missing(ElfError):
    """A package or program is not installed; the message names it and the command that installs it."""


class Retryable(ElfError):
    """It failed for now; the same call may succeed later."""


class Failure(ElfError):
    """It failed, and somebody has to look at it."""
