"""The text of an ended run in fewer rows: neighbouring deltas as one, of which each number still has its exact rest.

A joined delta has the number of the last one that is in it, and beside its text the `offsets` at which the others end,
in characters. Readers that do not know them see one long delta. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final, NamedTuple

import orjson

from elf_sdk.runs.events import Event, TextDelta, decode

__all__ = ["Joined", "decode_rest", "join"]

_LONGEST: Final = 16_000
"""Characters in one joined delta, so that the encoded event stays well below its bound: each character and each offset
has six bytes at most."""

_OFFSETS: Final = '{"offsets":'
"""How the data of a joined delta begins, and no other's: its keys are sorted."""


class Joined(NamedTuple):
    """Deltas that are to be one: the numbers of the first and the last, and the data of the whole."""

    first: int
    last: int
    data: str


def join(deltas: Iterable[tuple[int, str]], ends: Collection[int]) -> list[Joined]:
    """Which deltas of a run become one.

    Args:
        deltas: numbers and data of text deltas, in order.
        ends: numbers behind which a new one begins, because the run was rewound to them.
    """
    found: list[Joined] = []
    group: list[tuple[int, str]] = []
    length = 0

    def close() -> None:
        if len(group) > 1:
            found.append(_joined(group))
        group.clear()

    for seq, data in deltas:
        loaded: dict[str, Any] = orjson.loads(data)
        text = str(loaded["text"])
        # What has more than text was joined before, or is a newer release's.
        alone = len(loaded) > 1
        if group and (alone or seq != group[-1][0] + 1 or group[-1][0] in ends or length + len(text) > _LONGEST):
            close()
        if not alone:
            length = length + len(text) if group else len(text)
            group.append((seq, text))
    close()
    return found


def _joined(group: Collection[tuple[int, str]]) -> Joined:
    offsets: list[int] = []
    length = 0
    for _, text in group:
        length += len(text)
        offsets.append(length)
    numbers = [seq for seq, _ in group]
    data = {"offsets": offsets[:-1], "text": "".join(text for _, text in group)}
    return Joined(numbers[0], numbers[-1], orjson.dumps(data, option=orjson.OPT_SORT_KEYS).decode())


def decode_rest(kind: str, data: str, seq: int, after: int) -> Event:
    """The event, without what a reader that has seen the events up to number `after` knows of it."""
    event = decode(kind, data)
    if isinstance(event, TextDelta) and data.startswith(_OFFSETS):
        offsets: list[int] = orjson.loads(data)["offsets"]
        seen = after - (seq - len(offsets))
        if seen >= 0:
            return TextDelta(event.text[offsets[seen] :])
    return event
