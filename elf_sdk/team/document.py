"""A YAML file as plain values that remember their lines.

Scalars follow the core schema of YAML 1.2.2 (section 10.3), so `no`, `on`, `1:30` and dates are text. The file is read
event by event and not by recursion: how deep it nests, and how much its aliases expand to, is bounded before anything
is built from it.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson
import yaml

from elf_sdk.cache import Cache, digest_of
from elf_sdk.errors import BadSpec, Problem
from elf_sdk.team.base import Location, field_path, shown

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_VALUES", "Document", "parse", "read"]

MAX_BYTES: Final = 1_048_576
MAX_DEPTH: Final = 40
MAX_VALUES: Final = 50_000

_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNPRINTABLE: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_INT: Final = re.compile(r"[-+]?[0-9]{1,18}|0o[0-7]{1,20}|0x[0-9a-fA-F]{1,15}")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Final[dict[str, Any]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **{sign + word: float(sign + "inf") for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF")},
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_STR: Final = "tag:yaml.org,2002:str"
_PLAIN_TAGS: Final = (None, "!", _STR, "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


@dataclass(slots=True)
class _Mark:
    """Where a value stands; `inside` holds the marks of a collection, or a scalar as it was written."""

    line: int
    inside: dict[str | int, _Mark] | str


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says.

    Attributes:
        file: path as the user would type it.
        data: text, numbers, booleans, None, lists and dicts with text as keys.
        problems: what is wrong in it as YAML, although it could be read.
    """

    file: str
    data: dict[str, Any]
    problems: tuple[Problem, ...]
    _top: Callable[[], _Mark] = field(repr=False)

    def line(self, location: Location) -> int:
        """1-based line of the field at `location`, or of the nearest field around it that is there."""
        return self._nearest(location)[0].line

    def has(self, location: Location) -> bool:
        """Whether the file has a value at `location`."""
        return self._nearest(location)[1] == len(location)

    def written(self, location: Location) -> str:
        """The scalar at `location` as it stands in the file, or an empty text."""
        mark, depth = self._nearest(location)
        return mark.inside if depth == len(location) and isinstance(mark.inside, str) else ""

    def problem(self, location: Location, message: str) -> Problem:
        """`message` at the line of `location`."""
        return Problem(self.file, self.line(location), field_path(location), message)

    def _nearest(self, location: Location) -> tuple[_Mark, int]:
        mark = self._top()
        for depth, part in enumerate(location):
            inner = mark.inside.get(part) if isinstance(mark.inside, dict) else None
            if inner is None:
                return mark, depth
            mark = inner
        return mark, len(location)


def read(path: Path, file: str, known: Cache | None = None) -> Document:
    """The document in the file at `path`, called `file` in messages.

    Args:
        path: the file.
        file: as the user would type it.
        known: documents that were read before, by their content.

    Raises:
        BadSpec: it cannot be read at all; the problem says why.
    """
    content = _content(path, file)
    if known is None:
        return _decode(content, file)
    key = digest_of(content)
    if isinstance(data := known.get(key), dict):
        # Its lines are found again when something is to be said of one.
        return Document(file, data, (), cache(lambda: _decode(content, file)._top()))
    document = _decode(content, file)
    # Problems are to be told each time.
    if not document.problems and _is_json(document.data):
        known.put(key, document.data)
    return document


def _is_json(data: dict[str, Any]) -> bool:
    """Whether JSON gives it back: infinity it does not, nor half of a surrogate pair."""
    try:
        return bool(orjson.loads(orjson.dumps(data)) == data)
    except TypeError:
        return False


def _content(path: Path, file: str) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadSpec([Problem(file, 0, "", "this is no file; write a text file there")])
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadSpec([Problem(file, 0, "", f"it cannot be read: {error.strerror}")]) from None
    if len(content) > MAX_BYTES:
        raise BadSpec([Problem(file, 0, "", "it is larger than 1 MiB; move long texts into files of their own")])
    return content


def _decode(content: bytes, file: str) -> Document:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadSpec([Problem(file, line, "", "this is not UTF-8; save the file in that encoding")]) from None
    return parse(text, file)


def parse(text: str, file: str) -> Document:
    """The document in `text`; `file` is what messages call it.

    Raises:
        BadSpec: it is not YAML, empty, no mapping, too deep, or too much.
    """
    if bad := _UNPRINTABLE.search(text):
        line = text.count("\n", 0, bad.start()) + 1
        message = f"it holds the control character U+{ord(bad[0]):04X}; remove it"
        raise BadSpec([Problem(file, line, "", message)])
    builder = _Builder(file)
    try:
        builder.build(yaml.parse(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        raise BadSpec([*builder.problems, _not_yaml(error, text, file)]) from None
    except yaml.YAMLError as error:
        raise BadSpec([*builder.problems, Problem(file, 0, "", f"this is not YAML: {error}")]) from None
    if builder.top is None or (builder.value is None and not builder.top.inside):
        raise BadSpec([Problem(file, 0, "", "it is empty; start with `name:`")])
    if not isinstance(builder.value, dict):
        kind = "a list" if isinstance(builder.value, list) else shown(builder.value)
        raise BadSpec([Problem(file, builder.top.line, "", f"it holds {kind}; write fields such as `name: …`")])
    top = builder.top
    return Document(file, builder.value, tuple(builder.problems), lambda: top)


@dataclass(slots=True)
class _Frame:
    """A collection that is being read."""

    container: dict[str, Any] | list[Any]
    mark: _Mark
    marks: dict[str | int, _Mark]
    anchor: str | None
    size: int = 1
    key: str | None = None
    key_line: int = 0


class _Builder:
    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.value: Any = None
        self.top: _Mark | None = None
        self._frames: list[_Frame] = []
        self._anchors: dict[str, tuple[Any, _Mark, int]] = {}

    def build(self, events: Iterator[Any]) -> None:
        for event in events:
            kind = type(event)
            if kind is yaml.ScalarEvent:
                self._scalar(event)
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                self._open(event, {} if kind is yaml.MappingStartEvent else [])
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                frame = self._frames.pop()
                self._add(frame.container, frame.mark, frame.size, frame.anchor)
            elif kind is yaml.AliasEvent:
                self._alias(event)
            elif kind is yaml.DocumentStartEvent and self.top is not None:
                raise self._fatal(event, "a second document starts here; write one document a file")

    def _scalar(self, event: Any) -> None:
        text: str = event.value
        line = event.start_mark.line + 1
        if event.tag not in _PLAIN_TAGS:
            self._tag(event)
        is_key = self._wants_key()
        value = text if is_key or not event.implicit[0] else _resolve(text)
        if event.tag in ("!", _STR):
            value = text
        self._add(value, _Mark(line, text), 1, event.anchor)

    def _open(self, event: Any, container: dict[str, Any] | list[Any]) -> None:
        if self._wants_key():
            raise self._fatal(event, "a key is a list or a group of fields here; write a name and a colon")
        if event.tag not in _PLAIN_TAGS:
            self._tag(event)
        if len(self._frames) >= MAX_DEPTH:
            raise self._fatal(event, f"it nests deeper than {MAX_DEPTH} levels; write it flatter")
        marks: dict[str | int, _Mark] = {}
        self._frames.append(_Frame(container, _Mark(event.start_mark.line + 1, marks), marks, event.anchor))

    def _alias(self, event: Any) -> None:
        if any(frame.anchor == event.anchor for frame in self._frames):
            raise self._fatal(event, f"the anchor &{event.anchor} contains itself; write the value out")
        if event.anchor not in self._anchors:
            raise self._fatal(event, f"there is no anchor &{event.anchor} above; define it, or write the value out")
        value, mark, size = self._anchors[event.anchor]
        if self._wants_key() and not isinstance(value, str):
            raise self._fatal(event, "a key is an alias here; write a name and a colon")
        self._add(value, _Mark(event.start_mark.line + 1, mark.inside), size, None)

    def _add(self, value: Any, mark: _Mark, size: int, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = (value, mark, size)
        if not self._frames:
            self.value, self.top = value, mark
            return
        frame = self._frames[-1]
        frame.size += size
        if frame.size > MAX_VALUES:
            message = f"it holds more than {MAX_VALUES} values once its aliases are expanded; write less"
            raise BadSpec([*self.problems, Problem(self.file, mark.line, "", message)])
        if isinstance(frame.container, list):
            frame.marks[len(frame.container)] = mark
            frame.container.append(value)
        elif frame.key is None:
            frame.key, frame.key_line = value, mark.line
        else:
            key, frame.key = frame.key, None
            if key in frame.container:
                message = f"it is there twice, first in line {frame.marks[key].line}; remove one"
                self.problems.append(Problem(self.file, frame.key_line, self._path(key), message))
                return
            frame.container[key] = value
            frame.marks[key] = _Mark(frame.key_line, mark.inside)

    def _wants_key(self) -> bool:
        return bool(self._frames) and isinstance(self._frames[-1].container, dict) and self._frames[-1].key is None

    def _path(self, *more: str) -> str:
        parts: list[str | int] = []
        for frame in self._frames:
            if isinstance(frame.container, list):
                parts.append(len(frame.container))
            elif frame.key is not None:
                parts.append(frame.key)
        return field_path((*parts, *more))

    def _tag(self, event: Any) -> None:
        tag = event.tag.replace("tag:yaml.org,2002:", "!!")
        message = f"the tag {tag} is not allowed; write the plain value"
        self.problems.append(Problem(self.file, event.start_mark.line + 1, self._path(), message))

    def _fatal(self, event: Any, message: str) -> BadSpec:
        # Where it is too deep, the whole path would be longer than the sentence.
        where = self._path() if len(self._frames) < MAX_DEPTH else ""
        return BadSpec([*self.problems, Problem(self.file, event.start_mark.line + 1, where, message)])


def _resolve(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "0123456789+-.":
        return text
    if _INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _not_yaml(error: yaml.MarkedYAMLError, text: str, file: str) -> Problem:
    ends = "end of stream" in (error.problem or "") or "<stream end>" in (error.problem or "")
    # What was opened and never closed is to be mended where it was opened.
    mark = (ends and error.context_mark) or error.problem_mark
    if mark is None:
        return Problem(file, 0, "", f"this is not YAML: {error.problem}")
    lines = text.splitlines()
    line = min(mark.line, len(lines) - 1)
    at = lines[line][mark.column : mark.column + 1] if mark.line == line else ""
    problem = error.problem or ""
    if "\t" in (at, lines[line][:1]):
        remedy = "indent with spaces, not with tabs"
    elif at and "cannot start any token" in problem:
        remedy = f"put text that starts with {at} in quotes"
    elif "mapping values are not allowed" in problem:
        remedy = "put text with a colon in quotes, and check the indentation"
    elif ends:
        remedy = "close the quote or bracket that was opened"
    else:
        remedy = "check the indentation, the quotes and the brackets of this line and the one above"
    return Problem(file, line + 1, "", f"this is not YAML (column {mark.column + 1}): {remedy}")
