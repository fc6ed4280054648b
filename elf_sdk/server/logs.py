"""Logs: one form for all, each line with its request and run, and no secret in it, whatever writes it."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import orjson
from typing_extensions import override

from elf_sdk.runs.current import current_run
from elf_sdk.runs.events import clean
from elf_sdk.server.redaction import Redactor

__all__ = ["JsonFormatter", "RequestInfo", "TextFormatter", "configure_logs", "current_request", "protect_logs"]


_FORM: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_ABOUT: Final = ("request_id", "run_id", "team", "trace_id")
"""What a record says of its context: text, empty where there is none."""
_CHATTY: Final = {
    # These tell of every call at INFO.
    "a2a": logging.WARNING,
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    # And these at DEBUG what goes over a socket, cut off in the middle, so that nothing in it can be recognised.
    "uvicorn.error": logging.INFO,
    "websockets": logging.INFO,
}
"""Loggers of others, and from which level up they are heard."""
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
"""Characters with which a text could pretend to be another line, or steer a terminal."""


class RequestInfo(NamedTuple):
    """Whose request is served.

    Attributes:
        id: of the request.
        team: that serves it.
        trace: id of the trace that it is part of, 32 hexadecimal digits, or empty.
    """

    id: str
    team: str
    trace: str


_NO_REQUEST: Final = RequestInfo("", "", "")
current_request: Final = ContextVar("current_request", default=_NO_REQUEST)
"""The request that is served, or that started the run whose code executes now."""


class _Records:
    """Makes all records of the process: what a record says is cleaned before any handler sees it.

    A filter would see only what passes its own logger or handler, and there are handlers that nobody here knows of.
    """

    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self.redactor = Redactor()
        self._make = make
        self._formatter = logging.Formatter()

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self._make(*args, **kwargs)
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001 - arguments that do not fit; logging would print them as they are
            text = f"{record.msg} {record.args!r}"
            record.msg, record.args = self.redactor.clean(text), ()
        else:
            safe = self.redactor.clean(text)
            if safe != text:
                record.msg, record.args = safe, ()
        if record.exc_info and record.exc_info[0] is not None:
            text = self._formatter.formatException(record.exc_info)
            safe = self.redactor.clean(text)
            if safe != text:
                # Handlers that find a text do not look at the exception, which still holds the secret.
                record.exc_text, record.exc_info = safe, None
        if record.stack_info:
            record.stack_info = self.redactor.clean(record.stack_info)
        request = current_request.get()
        record.request_id = request.id
        record.run_id = current_run.get()
        record.team = request.team
        record.trace_id = request.trace
        return record


class JsonFormatter(logging.Formatter):
    """One JSON object a line.

    It has `time` (UTC, RFC 3339), `level`, `logger` and `message`; where they are known, `request_id`, `run_id`, `team`
    and `trace_id`; and `exception`, a traceback.
    """

    @override
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, str] = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name in _ABOUT if (value := getattr(record, name, ""))}
        if exception := _exception(self, record):
            line["exception"] = exception
        try:
            return orjson.dumps(line).decode()
        except orjson.JSONEncodeError:  # a lone surrogate
            return orjson.dumps(clean(line)).decode()


class TextFormatter(logging.Formatter):
    """One line for a person, which ends with its request and run; what does not fit on it is indented below."""

    def __init__(self) -> None:
        super().__init__(_FORM)

    @override
    def format(self, record: logging.LogRecord) -> str:
        about = " ".join(f"{name}={value}" for name in _ABOUT if (value := getattr(record, name, "")))
        record.message = record.getMessage()
        record.asctime = self.formatTime(record)
        first, *more = self.formatMessage(record).split("\n")
        lines = [f"{first} [{about}]" if about else first, *more]
        if exception := _exception(self, record):
            lines += exception.split("\n")
        return "\n    ".join(_CONTROL.sub("\ufffd", line) for line in lines)


def protect_logs(secrets: Iterable[str] = ()) -> None:
    """From now on no record of this process holds what looks like a secret, nor one of `secrets`.

    Records also tell of their request and run: `request_id`, `run_id`, `team` and `trace_id`, for any formatter.
    """
    records = logging.getLogRecordFactory()
    if not isinstance(records, _Records):
        records = _Records(records)
        logging.setLogRecordFactory(records)
    records.redactor.add(secrets)


def configure_logs(level: str, form: str = "") -> None:
    """Write the logs of a server that ELF starts itself to the standard error stream, from `level` up.

    Args:
        level: as in `Settings.log_level`.
        form: as in `Settings.log_format`.
    """
    protect_logs()
    handler = logging.StreamHandler()
    as_text = form == "text" if form else sys.stderr.isatty()
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for name, lowest in _CHATTY.items():
        logging.getLogger(name).setLevel(max(lowest, logging.getLevelNamesMapping()[level.upper()]))


def _exception(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = []
    if record.exc_text:
        parts.append(record.exc_text)
    elif record.exc_info and record.exc_info[0] is not None:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(record.stack_info)
    return "\n".join(parts)
