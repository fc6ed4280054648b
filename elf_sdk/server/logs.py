"""Logs: one form for all, and no token in them, whatever writes them."""

from __future__ import annotations

import logging
import re
from typing import Final

__all__ = ["TokenFilter", "configure_logs", "protect_logs"]

_TOKEN: Final = re.compile(r"((?:token|access_token)=|elf\.bearer\.|[Bb]earer )[A-Za-z0-9._~+/=-]+")
_JWT: Final = re.compile(r"eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_FORM: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_CHATTY: Final = ("a2a", "httpx", "httpcore")
"""Loggers that tell of every call at INFO."""


class TokenFilter(logging.Filter):
    """Takes tokens out of a record's text before it is written."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always True: the record stays, the token goes."""
        text = record.getMessage()
        clean = _JWT.sub("[token]", _TOKEN.sub(r"\1[token]", text))
        if clean != text:
            record.msg, record.args = clean, ()
        return True


def protect_logs() -> None:
    """Filter the loggers of the server below, which see a request's URL; uvicorn writes it for each WebSocket.

    They have handlers of their own when somebody else starts uvicorn.
    """
    for name in ("uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        _filter(logging.getLogger(name))


def configure_logs(level: str) -> None:
    """Write the logs of a server that ELF starts itself to the standard error stream, from `level` up."""
    logging.basicConfig(level=level.upper(), format=_FORM)
    for handler in logging.getLogger().handlers:
        _filter(handler)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


def _filter(where: logging.Filterer) -> None:
    if not any(isinstance(present, TokenFilter) for present in where.filters):
        where.addFilter(TokenFilter())
