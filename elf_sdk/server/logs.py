"""Logs without tokens, whatever writes them."""

from __future__ import annotations

import logging
import re
from typing import Final

__all__ = ["TokenFilter", "protect_logs"]

_TOKEN: Final = re.compile(r"((?:token|access_token)=|elf\.bearer\.|[Bb]earer )[A-Za-z0-9._~+/=-]+")
_JWT: Final = re.compile(r"eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")


class TokenFilter(logging.Filter):
    """Takes tokens out of a record's text before any handler sees it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always True: the record stays, the token goes."""
        text = record.getMessage()
        clean = _JWT.sub("[token]", _TOKEN.sub(r"\1[token]", text))
        if clean != text:
            record.msg, record.args = clean, ()
        return True


def protect_logs() -> None:
    """Filter the loggers that see a request's URL; uvicorn writes it at INFO for each WebSocket."""
    for name in (
        "uvicorn.error",
        "uvicorn.access",
        "uvicorn.asgi",
        "elf",
        "elf.chat",
        "elf.runs",
        "elf.delegation",
        "httpx",
    ):
        logger = logging.getLogger(name)
        if not any(isinstance(present, TokenFilter) for present in logger.filters):
            logger.addFilter(TokenFilter())
