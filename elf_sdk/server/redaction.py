"""Takes secrets out of text: those that are known, and whatever looks like one. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, quote_plus, unquote, urlsplit

from elf_sdk.settings import Settings

__all__ = ["REDACTED", "Redactor", "secrets_of"]

REDACTED: Final = "[redacted]"

_SHORTEST: Final = 8
"""Characters of a known value that is looked for anywhere; a shorter one would be found within ordinary words."""
_TOKEN: Final = r"[A-Za-z0-9._~+/=-]"  # noqa: S105 - the characters that tokens are made of (RFC 6750, section 2.1)
_VALUE: Final = r"""(?!\[redacted])(?:'[^']*'|"[^"]*"|[^\s&,;'")}\]]+)"""
_NAME: Final = r"[\w-]{0,40}(?:token|api[_-]?key|passw(?:or)?d|secret|ticket|credentials)"
_CHEAP: Final = re.compile(r"eyJ|[=:]|bearer|authorization|\bsk-", re.IGNORECASE)
"""What a text holds at least in which there is something that looks like a secret."""
# Bounded in every place where hostile text could make the search start over and over.
_LOOKS: Final = (
    # A JSON Web Token.
    (re.compile(r"(?:(?<![A-Za-z0-9_-])|(?<=%20))eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"), REDACTED),
    # A header, also as a client's debug log has it: b'authorization', b'Basic …'.
    (
        re.compile(
            rf"""((?:authorization|x-api-key|api-key|cookie)\W{{1,6}}(?:b['"])?(?:(?:bearer|basic|digest|token)\s+)?)"""
            rf"(?!(?:bearer|basic|digest|token)\b){_TOKEN}{{6,}}",
            re.IGNORECASE,
        ),
        rf"\1{REDACTED}",
    ),
    (re.compile(rf"(\bbearer\s+|elf\.bearer\.){_TOKEN}{{12,}}", re.IGNORECASE), rf"\1{REDACTED}"),
    # A parameter of a URL or of a connection string, or an assignment.
    (re.compile(rf"(\b{_NAME}\s?=\s?){_VALUE}", re.IGNORECASE), rf"\1{REDACTED}"),
    # An entry of JSON, or of a dictionary that was printed.
    (re.compile(rf"""(["']{_NAME}["']\s*:\s*b?)(?:'[^']*'|"[^"]*")""", re.IGNORECASE), rf"\1'{REDACTED}'"),
    # The password in a URL.
    (re.compile(r"""(\b[a-z][a-z0-9+.-]{0,20}://[^\s:/@'"]*:)[^\s/'"]+@""", re.IGNORECASE), rf"\1{REDACTED}@"),
    # A provider's key.
    (re.compile(r"\b[spr]k-[A-Za-z0-9_-]{12,}"), REDACTED),
)


class Redactor:
    """Replaces secrets by `[redacted]`.

    Args:
        known: values that are secret wherever they stand.
    """

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._known: frozenset[str] = frozenset()
        self._exact: re.Pattern[str] | None = None
        self.add(known)

    def add(self, known: Iterable[str]) -> None:
        """Take further values to be secret."""
        forms = {form for value in known for form in _forms(value) if len(form) >= _SHORTEST}
        if forms <= self._known:
            return
        self._known |= forms
        # The longest first: one may be the beginning of another.
        self._exact = re.compile("|".join(re.escape(form) for form in sorted(self._known, key=len, reverse=True)))

    def clean(self, text: str) -> str:
        """The text without secrets."""
        if self._exact is not None:
            text = self._exact.sub(REDACTED, text)
        if _CHEAP.search(text):
            for pattern, replacement in _LOOKS:
                text = pattern.sub(replacement, text)
        return text


def secrets_of(settings: Settings) -> tuple[str, ...]:
    """The secrets among the settings; the password and not the whole address of a database."""
    try:
        password = urlsplit(settings.database_url).password or ""
    except ValueError:
        password = ""
    return tuple(value for value in (settings.jwt_secret, password, *settings.model_keys.values()) if value)


def _forms(value: str) -> tuple[str, ...]:
    """How a value may be written: plainly, in a URL, and within quotes."""
    plain = unquote(value)
    return value, plain, quote(plain, safe=""), quote_plus(plain), repr(plain)[1:-1]
