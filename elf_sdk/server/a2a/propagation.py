"""What travels in a message's metadata from team to team: the way that the work came, and the time that is left. Pure.

Both sides hold it to the same rules: who sends finds its own mistake before the network does, and who receives trusts
nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any, Final

from elf_sdk.errors import BadInput
from elf_sdk.runs.adapter import Owner

__all__ = ["DEADLINE", "DELEGATION", "deadline_of", "delegation_of", "propagated"]

DELEGATION: Final = "urn:elf:a2a:delegation:v1"
"""Key in a message's metadata; holds `chain` (teams that the work came through, oldest first, the caller last),
`delegation_id` and `user` (a label for audit, which gives no right). Part of what makes a repeat the same message."""

DEADLINE: Final = "urn:elf:a2a:deadline:v1"
"""Key in a message's metadata; seconds that are left for the task. No part of what makes a repeat the same message: a
repeat has fewer of them. They are seconds and not a time, because clocks differ."""

_LONGEST_DEADLINE: Final = 30 * 86_400
"""Seconds. More is no deadline but a mistake."""
_LONGEST_CHAIN: Final = 64
_LENGTH: Final = 256
"""Characters of a name, an id or a label."""


def propagated(delegation: Mapping[str, Any] | None, deadline: float | None) -> dict[str, Any]:
    """The metadata of a message that is sent.

    Args:
        delegation: `chain`, `delegation_id` and `user`, as far as they are known.
        deadline: seconds that are left; None for no bound.

    Raises:
        BadInput: something is malformed.
    """
    metadata: dict[str, Any] = {}
    if delegation:
        metadata[DELEGATION] = _shaped(delegation)
    if deadline is not None:
        metadata[DEADLINE] = _seconds(deadline)
    return metadata


def deadline_of(metadata: Mapping[str, Any]) -> float | None:
    """The seconds that a message says are left; None where it says nothing.

    Raises:
        BadInput: it is no number of seconds above 0, or more than 30 days.
    """
    return None if metadata.get(DEADLINE) is None else _seconds(metadata[DEADLINE])


def delegation_of(metadata: Mapping[str, Any], team: str, owner: Owner, max_depth: int) -> dict[str, Any]:
    """What a message says of the way it came; empty for nothing.

    Args:
        metadata: of the message.
        team: who received it.
        owner: who sent it, as its token says.
        max_depth: how often the work may have been handed on.

    Raises:
        BadInput: it is malformed, comes from another than it says, goes in a circle or too deep.
    """
    if metadata.get(DELEGATION) is None:
        return {}
    found = _shaped(metadata[DELEGATION])
    chain = found.get("chain", [])
    caller = _team_of(owner)
    if caller and chain and chain[-1] != caller:
        raise BadInput(f"the work was handed on by {chain[-1]!r}, as its chain says, but {caller!r} sent it")
    if team in chain:
        raise BadInput(f"the work came through {team!r} already ({' > '.join(chain)}); it cannot go in a circle")
    if len(chain) > max_depth:
        raise BadInput(
            f"the work was handed on {len(chain)} times; {team!r} takes it at a depth of {max_depth} at most"
        )
    return found


def _team_of(owner: Owner) -> str:
    """The team that an owner is; empty for a person. No person's subject begins like one of these."""
    for known in ("team:", "system:serviceaccount:"):
        if owner.subject.startswith(known):
            return owner.subject.rpartition(":")[2]
    return ""


def _shaped(given: Any) -> dict[str, Any]:
    """What is known of `given`; unknown keys are left out, so that a later release may add some."""
    where = f"message.metadata[{DELEGATION!r}]"
    if not isinstance(given, Mapping):
        raise BadInput(f"{where} must be an object")
    found = {key: given[key] for key in ("chain", "delegation_id", "user") if given.get(key) not in (None, "")}
    chain = found.get("chain", [])
    if not isinstance(chain, list) or len(chain) > _LONGEST_CHAIN or not all(_is_name(name) for name in chain):
        raise BadInput(f"{where}.chain must be a list of team names, at most {_LONGEST_CHAIN}")
    if not all(_is_name(found[key]) for key in ("delegation_id", "user") if key in found):
        raise BadInput(f"{where}: delegation_id and user must be text of 1 to {_LENGTH} characters")
    return found


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LENGTH


def _seconds(given: Any) -> float:
    if type(given) not in (int, float) or not isfinite(given) or not 0 < given <= _LONGEST_DEADLINE:
        raise BadInput(
            f"message.metadata[{DEADLINE!r}] must be the seconds that are left, above 0 and at most {_LONGEST_DEADLINE}"
        )
    return float(given)
