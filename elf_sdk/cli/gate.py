"""The evals that teams have to pass before they are promoted."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from elf_sdk.cli.eval import check_address, target_at
from elf_sdk.deploy.gitops.promote import Move, Promotion
from elf_sdk.errors import BadInput, BadSpec, Failure
from elf_sdk.evals.judge import Judges
from elf_sdk.evals.load import survey_conversations
from elf_sdk.evals.result import ConversationResult, Report
from elf_sdk.evals.run import evaluate
from elf_sdk.settings import Settings
from elf_sdk.team.project import Project

__all__ = ["SKIPPED", "Evidence", "gate"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a commit says about evals.

    Attributes:
        verdict: for its trailer.
        notes: a line for each team.
    """

    verdict: str
    notes: tuple[str, ...]


SKIPPED = Evidence("skipped", ("Evals were skipped, by --skip-evals.",))


def gate(
    project: Project,
    settings: Settings,
    planned: Promotion,
    moves: Sequence[Move],
    *,
    url: str | None,
    token: str | None,
    progress: Callable[[str, ConversationResult], None],
) -> Evidence:
    """Have the evals of each team with what runs in the environment that is copied, and with that image alone.

    Args:
        project: the organisation and its teams.
        settings: where keys come from.
        planned: the promotion.
        moves: those of its teams that change something.
        url: where the teams are, with `{team}` in it; default: the host of each one's ingress or gateway.
        token: of a user there.
        progress: told of each team and conversation when it is over.

    Raises:
        BadInput: it is not known where a team is, or one of its evals is wrong.
        Failure: a team did not get all of them right.
        ElfError: a team cannot be talked to.
    """
    if url:
        check_address(url, len(moves))
    here = replace(settings, environment=planned.source.name)
    reports: list[Report] = []
    notes: list[str] = []
    for move in moves:
        team = move.team
        conversations, problems = survey_conversations(team, planned.source.name)
        if problems:
            raise BadSpec(problems)
        name = team.spec.name
        if not conversations:
            notes.append(f"{name} has no evals.")
            continue
        target = target_at(url or _address(move, planned), project, here, name, token, move.source.app.digest)
        with Judges(team, settings) as judges:
            report = asyncio.run(
                evaluate(conversations, target, judges.judge, progress=functools.partial(progress, name))
            )
        reports.append(report)
        right = sum(conversation.holds for conversation in report.conversations)
        image = f", answered by {move.source.app.digest}" if move.source.app.digest else ""
        notes.append(f"{name}: {right} of {len(report.conversations)} evals right{image}.")
    wrong = [report.team for report in reports if not report.holds]
    if wrong:
        raise Failure(f"{', '.join(wrong)} did not get all evals right in {planned.source.name}; nothing was promoted")
    return Evidence(f"{sum(len(report.conversations) for report in reports)} right", tuple(notes))


def _address(move: Move, planned: Promotion) -> str:
    spec = move.team.spec.for_environment(planned.source.name)
    for entry in (spec.gateway, spec.ingress):
        if entry.enabled and entry.host and "*" not in entry.host:
            return f"https://{entry.host}"
    raise BadInput(
        f"it is not known where {spec.name} is in {planned.source.name}: give --url, or a host for its gateway or "
        "ingress; --skip-evals promotes without asking it"
    )
