"""The one place where ELF's errors become HTTP answers."""

from __future__ import annotations

import re
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from elf_sdk.errors import BadInput, Conflict, ElfError, Forbidden, NotFound, Retryable, Unauthenticated

__all__ = ["error_response", "http_status"]

_STATUS: Final[tuple[tuple[type[ElfError], int], ...]] = (
    (BadInput, 400),
    (Unauthenticated, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (Conflict, 409),
    (Retryable, 503),
)

_NOT_IN_A_DESCRIPTION: Final = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")


def http_status(error: ElfError) -> int:
    """The status for an error; 500 for what is the server's own."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


async def error_response(request: Request, error: Exception) -> Response:
    """An exception handler for Starlette: one sentence as JSON."""
    assert isinstance(error, ElfError)  # noqa: S101 - Starlette calls this for the classes it was registered for
    status = http_status(error)
    headers = {"Retry-After": "2"} if status == 503 else {}
    if status in (401, 403):
        headers["WWW-Authenticate"] = _challenge(request, error)
    return JSONResponse({"error": type(error).__name__, "message": str(error)}, status_code=status, headers=headers)


def _challenge(request: Request, error: ElfError) -> str:
    """What a refused caller is told to do (RFC 6750, section 3)."""
    challenge = 'Bearer realm="elf"'
    # Who sent no token made no error.
    if "authorization" not in request.headers:
        return challenge
    code = "invalid_token" if isinstance(error, Unauthenticated) else "insufficient_scope"
    description = _NOT_IN_A_DESCRIPTION.sub("'", str(error))
    return f'{challenge}, error="{code}", error_description="{description}"'
