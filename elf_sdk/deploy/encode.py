"""Data as YAML and as Markdown: the only ways in which text that people wrote reaches a generated file.

Every string is a double-quoted YAML scalar, so none is ever read as something else (`no`, `1e3`, `~`, `2026-01-01`),
and nothing that a YAML reader folds, drops or refuses stands there as itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

__all__ = ["inline_markdown", "to_json", "to_yaml", "yaml_text"]

_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
# Controls, line separators, byte order marks, surrogates and non-characters of the first plane. Above it characters
# stand as themselves, because Go's YAML readers do not join the two halves of an escaped surrogate pair.
_NOT_PLAIN: Final = re.compile('[\x00-\x1f"\\\\\x7f-\xa0\u2028\u2029\ud800-\udfff\ufeff\ufff0-\ufffc\ufffe\uffff]')
_PLAIN_KEY: Final = re.compile(r"[A-Za-z][-A-Za-z0-9]*")
_RESERVED_KEYS: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def to_yaml(data: Mapping[str, object]) -> str:
    """`data` as a YAML document in block style, keys in their order.

    Args:
        data: mappings with text keys, sequences, text, whole numbers, booleans, and null, which takes a value away.
    """
    return "".join(f"{line}\n" for line in _mapping(data, 0)) if data else "{}\n"


def to_json(data: object) -> str:
    """`data` as JSON for people: two spaces, keys in their order."""
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def inline_markdown(text: str) -> str:
    """`text` as one line of Markdown that shows it and does nothing else (CommonMark 0.31, 2.4)."""
    line = " ".join(re.sub(r"[\x00-\x1f\x7f-\xa0\u2028\u2029\ufeff]", " ", text).split())
    line = re.sub(r"([\\`*_\[\]<>#|&~$!{}=^])", r"\\\1", line)
    # Only at its start a dash, a plus or a number makes a list.
    return re.sub(r"^(\d*)([-+.)])", r"\1\\\2", line)


def _mapping(data: Mapping[str, object], depth: int) -> Iterator[str]:
    pad = "  " * depth
    for key, value in data.items():
        name = key if _PLAIN_KEY.fullmatch(key) and key.lower() not in _RESERVED_KEYS else yaml_text(key)
        if isinstance(value, Mapping) and value:
            yield f"{pad}{name}:"
            yield from _mapping(value, depth + 1)
        elif isinstance(value, list | tuple) and value:
            yield f"{pad}{name}:"
            yield from _sequence(value, depth + 1)
        else:
            yield f"{pad}{name}: {_scalar(value)}"


def _sequence(items: Sequence[object], depth: int) -> Iterator[str]:
    pad = "  " * depth
    for item in items:
        if isinstance(item, Mapping) and item:
            first, *rest = _mapping(item, depth + 1)
            yield f"{pad}- {first.lstrip(' ')}"
            yield from rest
        elif isinstance(item, list | tuple) and item:
            raise TypeError("a list in a list is no value of a chart")
        else:
            yield f"{pad}- {_scalar(item)}"


def _scalar(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return yaml_text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, list | tuple):
        return "[]"
    raise TypeError(f"{type(value).__name__} is no value of a chart")


def yaml_text(text: str) -> str:
    """`text` as a YAML scalar on one line."""
    return f'"{_NOT_PLAIN.sub(_escape, text)}"'


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    return _ESCAPES.get(character) or f"\\u{ord(character):04x}"
