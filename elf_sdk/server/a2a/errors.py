"""What went wrong, as A2A says it. The one place where ELF's errors become A2A errors."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from a2a.utils.errors import (
    A2AError,
    InternalError,
    InvalidParamsError,
    TaskNotFoundError,
    UnsupportedOperationError,
)

from elf_sdk.errors import BadInput, Conflict, Denied, ElfError, NotFound, Retryable

__all__ = ["a2a_error", "speaking_a2a"]

log = logging.getLogger("elf.a2a")


def a2a_error(error: ElfError, conflict: type[A2AError] = UnsupportedOperationError) -> A2AError:
    """The A2A error for `error`; `conflict` is what the operation at hand calls a `Conflict`."""
    message = str(error)
    match error:
        case NotFound():
            return TaskNotFoundError(message)
        case Conflict():
            return conflict(message)
        case BadInput():
            return InvalidParamsError(message)
        case Denied():
            return UnsupportedOperationError(message)
        case Retryable():
            return InternalError(message, data={"retryable": "true"})
        case _:
            return InternalError(message)


@contextmanager
def speaking_a2a(conflict: type[A2AError] = UnsupportedOperationError) -> Iterator[None]:
    """Turn what is raised inside into an A2A error. Nothing of an unexpected one reaches the caller."""
    try:
        yield
    except A2AError:
        raise
    except ElfError as error:
        raise a2a_error(error, conflict) from error
    except Exception as error:
        log.exception("an A2A request failed unexpectedly")
        raise InternalError("the team could not handle the request; its log says why") from error
