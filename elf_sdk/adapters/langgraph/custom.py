"""What an author writes into a graph's stream (`get_stream_writer`), as neutral events. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from elf_sdk.runs.events import Artifact, Event, Step, TextDelta

__all__ = ["custom_event"]

_NAME: Final = 200
"""Characters of a step's name."""


def custom_event(written: Any, number: int) -> Event:
    """The event for what was written.

    | written                             | event                                                 |
    |-------------------------------------|-------------------------------------------------------|
    | an event of ELF                     | itself                                                |
    | `{"text": "…"}` and nothing else    | the next piece of the answer                          |
    | `{"step": "…"}`, `phase`, `agent`   | a step; without a phase it begins                     |
    | a text                              | a step of that name                                   |
    | anything else                       | an artifact `custom-<number>` with it as JSON         |

    Args:
        written: by the author.
        number: of this among what was written in the run, from 1.
    """
    if isinstance(written, Event):
        return written
    if isinstance(written, str):
        return Step(written[:_NAME])
    if isinstance(written, Mapping):
        if set(written) == {"text"} and isinstance(written["text"], str):
            return TextDelta(written["text"])
        if isinstance(written.get("step"), str) and set(written) <= {"step", "phase", "agent"}:
            phase = "end" if written.get("phase") == "end" else "start"
            return Step(written["step"][:_NAME], phase, str(written.get("agent", "")))
    data = orjson.loads(orjson.dumps(written, default=str, option=orjson.OPT_NON_STR_KEYS))
    return Artifact(f"custom-{number}", "custom", "application/json", data=data)
