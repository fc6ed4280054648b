"""Having the recorded conversations with a team that is served somewhere."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import orjson

from elf_sdk.errors import ElfError, Failure
from elf_sdk.evals.judge import Judge
from elf_sdk.evals.load import Conversation
from elf_sdk.evals.recorded import Check, Turn
from elf_sdk.evals.reply import Reply, Spent
from elf_sdk.evals.result import CheckResult, ConversationResult, Report, Session, TurnResult
from elf_sdk.evals.talk import Talk, open_talk
from elf_sdk.evals.verify import beyond, mistake
from elf_sdk.team.kinds import duration_seconds
from elf_sdk.team.work import LLM

__all__ = ["PARALLEL", "Target", "evaluate"]

_Result = TypeVar("_Result")

PARALLEL: Final = 4
"""Conversations at once: one user may have five open with a team, unless its `chat:` says otherwise."""
_TURN: Final = "5m"
"""The longest that a turn may take which says nothing of its own."""


@dataclass(frozen=True, slots=True)
class Target:
    """A team that is served.

    Attributes:
        team: its name.
        url: its address.
        token: of a user, by the user's name; one that is given for all gives the same for each.
        digest: `sha256:…` of the image that has to answer; empty where any may.
    """

    team: str
    url: str
    token: Callable[[str], str] = field(repr=False)
    digest: str = ""


async def evaluate(
    conversations: Sequence[Conversation],
    target: Target,
    judge: Callable[[LLM | None], Judge],
    *,
    parallel: int = PARALLEL,
    progress: Callable[[ConversationResult], None] = lambda _: None,
) -> Report:
    """Have each conversation as often as it wants to be had, some of them at once.

    Args:
        conversations: of the team.
        target: the team.
        judge: gives the judge for a conversation's `llm`; asked only where one judges.
        parallel: how many sessions are open at once.
        progress: told of each conversation when it is over.

    Raises:
        ElfError: the team cannot be talked to at all: nobody serves there, or it lets the user not in. What goes
            wrong once a session has begun is part of the report.
    """
    places = asyncio.Semaphore(parallel)
    users = itertools.count(1)

    async def once(conversation: Conversation) -> Session:
        async with places:
            return await _have(conversation, target, f"eval-{next(users)}", judge)

    async def have(conversation: Conversation) -> ConversationResult:
        recorded = conversation.recorded
        sessions = await _all(once(conversation) for _ in range(recorded.repeat))
        result = ConversationResult(recorded.name, conversation.file, tuple(sessions), recorded.needed)
        progress(result)
        return result

    results = await _all(have(conversation) for conversation in conversations)
    return Report(target.team, target.url, target.digest, tuple(results))


async def _all(work: Iterable[Coroutine[Any, Any, _Result]]) -> list[_Result]:
    """The results in order; the first error ends the others, and is raised by itself."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


async def _have(conversation: Conversation, target: Target, user: str, judge: Callable[[LLM | None], Judge]) -> Session:
    async with open_talk(target.url, target.token(user)) as talk:
        if target.digest and talk.image != target.digest:
            said = f"{talk.image} answered" if talk.image else "the team does not say which image answers"
            return Session((), (CheckResult(f"image: {target.digest}", False, said),), image=talk.image)
        return await _Sitting(conversation, talk, judge).have()


class _Sitting:
    """One session of one conversation."""

    def __init__(self, conversation: Conversation, talk: Talk, judge: Callable[[LLM | None], Judge]) -> None:
        self._conversation = conversation
        self._talk = talk
        self._judge = judge
        self._said: list[tuple[str, str]] = []
        self._judged = 0

    async def have(self) -> Session:
        recorded = self._conversation.recorded
        turns: list[TurnResult] = []
        error = ""
        for place, turn in enumerate(recorded.turns):
            try:
                reply = await self._act(turn)
            except ElfError as failed:
                error = f"turn {place + 1} was not answered: {failed}"
                break
            checks = await self._checked(place, turn, reply)
            turns.append(TurnResult(turn.act, turn.value, self._conversation.line(place), reply, checks))
            if (reply.errors or reply.stopped) and not turns[-1].holds:
                if place + 1 < len(recorded.turns):
                    error = f"it ended with turn {place + 1} of {len(recorded.turns)}"
                break
        seconds = round(sum(turn.reply.seconds for turn in turns), 3)
        spent = _total(turns)
        passed = tuple(
            CheckResult(
                f"limits of the conversation, {limit}", False, why, self._conversation.document.line(("limits",))
            )
            for limit, why in beyond(recorded.limits, seconds, spent)
        )
        return Session(tuple(turns), passed, error, seconds, spent, self._judged, self._talk.image)

    async def _act(self, turn: Turn) -> Reply:
        longest = duration_seconds(turn.limits.time or _TURN)
        match turn.act:
            case "say":
                return await self._talk.say(turn.value, longest)
            case "answer":
                return await self._talk.answer(turn.value, longest)
            case "confirm":
                return await self._talk.confirm(turn.value, longest)
            case _:
                return await self._talk.reject(turn.value, turn.reason or "", longest)

    async def _checked(self, place: int, turn: Turn, reply: Reply) -> tuple[CheckResult, ...]:
        checks = [await self._check(place, number, check, reply) for number, check in enumerate(turn.expect)]
        self._said += [("person", turn.value), ("team", "\n".join([reply.text, *reply.questions]).strip())]
        line = self._conversation.line(place)
        if reply.stopped:
            checks.append(
                CheckResult(f"time: {turn.limits.time or _TURN}", False, "it took longer, and was stopped", line)
            )
        else:
            checks += [
                CheckResult(limit, False, why, line) for limit, why in beyond(turn.limits, reply.seconds, reply.spent)
            ]
        if reply.errors and not any(check.kind == "fails" for check in turn.expect):
            checks.append(CheckResult("no error", False, "; ".join(reply.errors), line))
        return tuple(checks)

    async def _check(self, place: int, number: int, check: Check, reply: Reply) -> CheckResult:
        line = self._conversation.line(place, number)
        written = f"{check.kind}: {_written(check)}"
        if check.kind != "judge":
            why = mistake(check, reply)
            return CheckResult(written, not why, why, line)
        turn = self._conversation.recorded.turns[place]
        try:
            verdict = await self._judge(self._conversation.recorded.llm).verdict(
                check.value, [*self._said, ("person", turn.value)], reply.text
            )
        except Failure as failed:
            return CheckResult(written, False, str(failed), line)
        self._judged += verdict.tokens
        return CheckResult(written, verdict.holds, verdict.reason, line, verdict.model)


def _written(check: Check) -> str:
    return orjson.dumps(check.value).decode() if check.matches_schema is not None else str(check.value)


def _total(turns: Sequence[TurnResult]) -> Spent | None:
    total = Spent()
    for turn in turns:
        if turn.reply.spent is None:
            return None
        total += turn.reply.spent
    return total
