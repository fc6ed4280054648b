"""One call to a model: what is tried next when it fails, and when. Decides without I/O.

A call is tried again while nothing of an answer has been handed on: at the same model where that may help, then at its
fallbacks in their order, and never beyond the run's deadline.

Sources: RFC 9110, section 10.2.3 (Retry-After, in seconds or as a date). `retry-after-ms` and `x-should-retry` are what
the providers' own clients read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import Any, Final

import orjson

from elf_sdk.models.llm import Endpoint

__all__ = ["Call", "Setback", "Verdict"]

_FIRST_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 8.0
"""Seconds before the first further try, and before any; each wait is twice as long as the one before it."""
_PATIENCE: Final = 10.0
"""Seconds for which a model may make a call wait that has a fallback."""
_UNBOUNDED: Final = 60.0
"""Seconds for which a model may make a call wait that has no deadline."""
_GONE: Final = frozenset({401, 402, 403, 404, 410})
_PASSING: Final = frozenset({408, 409, 425, 429})
_SPENT: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
"""What a 429 says where no waiting helps: the account has no money left."""


class Verdict(Enum):
    """What a setback means for the call."""

    PASSING = auto()
    """The same request may succeed later."""
    GONE = auto()
    """This model will not answer; another one may."""
    WRONG = auto()
    """The request itself is wrong, and no model will answer it."""


@dataclass(frozen=True, slots=True)
class Setback:
    """Why a try came to nothing.

    Attributes:
        status: of the answer; 0 where there was none: no connection, a broken one, or a timeout.
        retry_after: seconds that the model wants to be left alone, or None.
        code: what the model calls the error, or empty.
        final: whether the model says that trying again is of no use.
    """

    status: int = 0
    retry_after: float | None = None
    code: str = ""
    final: bool = False

    @classmethod
    def of(cls, status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> Setback:
        """The setback that an answer with an error is.

        Args:
            status: 400 or more.
            headers: by name, whatever its case.
            body: JSON in the shape of OpenAI's or Anthropic's errors, or anything else.
            now: aware; dates are counted from it.
        """
        return cls(
            status,
            _retry_after(headers, now),
            _code(body),
            final=headers.get("x-should-retry", "").lower() == "false",
        )

    @property
    def verdict(self) -> Verdict:
        """What it means."""
        if self.status in _GONE or self.code in _SPENT or self.code == "model_not_found":
            return Verdict.GONE
        if self.status == 0 or self.status in _PASSING or self.status >= 500:
            return Verdict.GONE if self.final else Verdict.PASSING
        return Verdict.WRONG


class Call:
    """One call, from its first try to its last.

    Args:
        models: that may answer it, in their order.
        deadline: of the run, by the monotonic clock; None where it has none.

    Attributes:
        endpoint: the model to ask now.
    """

    def __init__(self, models: Sequence[Endpoint], deadline: float | None = None) -> None:
        self.endpoint, *self._others = models
        self._deadline = deadline
        self._tries = 0

    def left(self, now: float) -> float:
        """Seconds until the deadline."""
        return math.inf if self._deadline is None else self._deadline - now

    def again(self, setback: Setback, now: float, chance: float) -> float | None:
        """Take a setback, and decide.

        Args:
            setback: of the last try.
            now: by the monotonic clock.
            chance: 0 to 1, random: those who failed together do not come again together.

        Returns:
            Seconds to wait before `endpoint`, which may be another one now, is asked again; None when the setback is
            the call's.
        """
        if setback.verdict is Verdict.WRONG or self.left(now) <= 0:
            return None
        if setback.verdict is Verdict.PASSING and self._tries < self.endpoint.retries:
            wait = setback.retry_after
            if wait is None:
                wait = min(_FIRST_WAIT * 2.0**self._tries, _LONGEST_WAIT) * (0.5 + chance / 2)
            bound = min(self.left(now), _UNBOUNDED if self._deadline is None else math.inf)
            if wait < (min(bound, _PATIENCE) if self._others else bound):
                self._tries += 1
                return wait
        if not self._others:
            return None
        self.endpoint, *self._others = self._others
        self._tries = 0
        return 0.0


def _retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        given = headers.get(name, "").strip()
        try:
            seconds = float(given) * unit
        except ValueError:
            seconds = _until(given, now) if name == "retry-after" else math.nan
        if math.isfinite(seconds):
            return max(seconds, 0.0)
    return None


def _until(date: str, now: datetime) -> float:
    try:
        at = parsedate_to_datetime(date)
    except ValueError:
        return math.nan
    # A date without a zone is in UTC (RFC 9110, section 5.6.7).
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now.timestamp()


def _code(body: bytes) -> str:
    try:
        error: Any = orjson.loads(body)["error"]
        return str(error.get("code") or error.get("type") or "")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return ""
