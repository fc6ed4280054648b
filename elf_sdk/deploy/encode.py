"""Data as YAML and as Markdown: the only ways in which text that people wrote reaches a generated file.

Every string is a double-quoted YAML scalar, so none is ever read as something else (`no`, `1e3`, `~`, `2026-01-01`),
and nothing that a YAML reader folds, drops or refuses stands there as itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

__all__ = ["inline_markdown", "one_line", "to_json", "to_yaml", "yaml_text"]

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
    if not data:
        return "{}\n"
    lines: list[str] = []
    _mapping(data, "", "", lines)
    lines.append("")
    return "\n".join(lines)


def to_json(data: object) -> str:
    """`data` as JSON for people: two spaces, keys in their order."""
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def one_line(text: str) -> str:
    """`text` on one line: what a reader may take for the end of one, or would not show, is a space."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\xa0\u2028\u2029\ufeff]", " ", text).split())


def inline_markdown(text: str) -> str:
    """`text` as one line of Markdown that shows it and does nothing else (CommonMark 0.31, 2.4)."""
    line = re.sub(r"([\\`*_\[\]<>#|&~$!{}=^])", r"\\\1", one_line(text))
    # Only at its start a dash, a plus or a number makes a list.
    return re.sub(r"^(\d*)([-+.)])", r"\1\\\2", line)


def _mapping(data: Mapping[str, object], first: str, pad: str, lines: list[str]) -> None:
    """Append the lines of `data`, which is not empty; `first` is what stands before the first of them."""
    before = first
    for key, value in data.items():
        name = _key(key)
        if isinstance(value, str) or not value:
            lines.append(f"{before}{name}: {_scalar(value)}")
        elif isinstance(value, Mapping):
            lines.append(f"{before}{name}:")
            _mapping(value, pad + "  ", pad + "  ", lines)
        elif isinstance(value, list | tuple):
            lines.append(f"{before}{name}:")
            _sequence(value, pad + "  ", lines)
        else:
            lines.append(f"{before}{name}: {_scalar(value)}")
        before = pad


def _sequence(items: Sequence[object], pad: str, lines: list[str]) -> None:
    for item in items:
        if isinstance(item, str) or not item:
            lines.append(f"{pad}- {_scalar(item)}")
        elif isinstance(item, Mapping):
            _mapping(item, f"{pad}- ", pad + "  ", lines)
        elif isinstance(item, list | tuple):
            raise TypeError("a list in a list is no value of a chart")
        else:
            lines.append(f"{pad}- {_scalar(item)}")


@lru_cache(maxsize=4096)
def _key(text: str) -> str:
    plain = _PLAIN_KEY.fullmatch(text) and text.lower() not in _RESERVED_KEYS
    return text if plain else yaml_text(text)


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
