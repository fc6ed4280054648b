"""Whether a check is true of what came back. Pure: all but what a model has to judge."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from elf_sdk.evals.fits import misfit
from elf_sdk.evals.recorded import Check, Limits
from elf_sdk.evals.reply import Reply, Spent
from elf_sdk.team.base import shown
from elf_sdk.team.kinds import duration_seconds

__all__ = ["beyond", "mistake"]


def mistake(check: Check, reply: Reply) -> str:
    """Why a check is not true of a reply, as one clause; empty where it is. Not for `judge`."""
    match check.kind:
        case "contains":
            return "" if check.value in reply.text else "the answer does not hold it"
        case "not_contains":
            return "the answer holds it" if check.value in reply.text else ""
        case "matches":
            return "" if re.search(check.value, reply.text) else "the answer holds nothing like it"
        case "not_matches":
            found = re.search(check.value, reply.text)
            return f"the answer holds {shown(found[0])}" if found else ""
        case "matches_schema":
            return misfit(reply.text, check.value)
        case "calls":
            return "" if check.value in reply.tools else _called("the tools called were", reply.tools)
        case "not_calls":
            return "it was called" if check.value in reply.tools else ""
        case "delegates_to":
            return "" if check.value in reply.proposed else _called("work was proposed to", reply.proposed)
        case "not_delegates_to":
            return "work was proposed to it" if check.value in reply.proposed else ""
        case "asks":
            return _among(check.value, reply.questions, "the team asked", "the team asked nothing")
        case "fails":
            return _among(check.value, reply.errors, "the error was", "it did not fail")
    raise ValueError(f"{check.kind} is not decided without a model")


def beyond(limits: Limits, seconds: float, spent: Spent | None) -> Iterator[tuple[str, str]]:
    """The limits that were passed: which, such as `time: 5s`, and what it was instead."""
    if limits.time is not None and seconds > duration_seconds(limits.time):
        yield f"time: {limits.time}", f"it took {seconds:.1f} s"
    if limits.tokens is not None and (spent is None or spent.tokens > limits.tokens):
        yield f"tokens: {limits.tokens}", f"it used {spent.tokens}" if spent else _UNKNOWN
    if limits.cost_usd is not None and (spent is None or spent.cost_usd is None or spent.cost_usd > limits.cost_usd):
        if spent is None:
            why = _UNKNOWN
        elif spent.cost_usd is None:
            why = "the price of one of its models is not known"
        else:
            why = f"it cost {spent.cost_usd:g}"
        yield f"cost_usd: {limits.cost_usd:g}", why


_UNKNOWN = "what it used is not known: the team's A2A tasks could not be read"


def _called(beginning: str, names: Iterable[str]) -> str:
    return f"{beginning} {', '.join(dict.fromkeys(names)) or 'none'}"


def _among(wanted: str, texts: Iterable[str], beginning: str, nothing: str) -> str:
    if any(wanted in text for text in texts):
        return ""
    said = "; ".join(texts)
    return f"{beginning} {shown(said)}" if said else nothing
