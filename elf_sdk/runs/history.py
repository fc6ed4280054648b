"""What was said before in a conversation, read from its runs."""

from __future__ import annotations

from typing import Final

from elf_sdk.runs.adapter import TurnMessage
from elf_sdk.runs.events import LoggedEvent, answer_text
from elf_sdk.runs.log import RunFilter, RunLog, RunRequest, RunState

__all__ = ["all_events", "earlier_messages"]

_PAGE: Final = 1000
"""Events in one read."""
_ENDED: Final = frozenset(state for state in RunState if state.terminal)


async def all_events(log: RunLog, run_id: str, after: int = 0) -> tuple[LoggedEvent, ...]:
    """All events of a run so far, or those with a number above `after`."""
    events: list[LoggedEvent] = []
    while batch := await log.read(run_id, events[-1].seq if events else after, _PAGE):
        events += batch
        if len(batch) < _PAGE:
            break
    return tuple(events)


async def earlier_messages(log: RunLog, request: RunRequest, before: str, limit: int) -> tuple[TurnMessage, ...]:
    """Earlier messages of the request's conversation, oldest first, at most `limit`; then what came with the request.

    Args:
        log: where runs are kept.
        request: whose conversation.
        before: id of the run that it became, which is left out.
        limit: of messages from earlier runs.
    """
    which = RunFilter(request.team, request.owner, request.context_id, _ENDED)
    messages: list[TurnMessage] = []
    for run in await log.list(which, limit=(limit + 1) // 2):
        if run.id == before:
            continue
        if answer := answer_text(await all_events(log, run.id)):
            messages.append(TurnMessage("team", answer))
        messages.append(TurnMessage("user", run.request.text))
        messages.extend(reversed(_results(run.request)))
    messages = messages[:limit]
    messages.reverse()
    return (*messages, *_results(request))


def _results(request: RunRequest) -> list[TurnMessage]:
    """What other teams sent back before this message, as the conversation shows it."""
    return [
        TurnMessage("team", f"{result['team']} returned, for {result['title']!r}:\n{result['text']}")
        for result in request.metadata.get("results", ())
    ]
