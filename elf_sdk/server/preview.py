"""What a person sees before work goes to another team, and the hash that their confirmation names. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass

import orjson

from elf_sdk.runs.events import DelegationProposed
from elf_sdk.team.spec import TeamSpec

__all__ = ["Preview", "preview_of", "work_order"]


@dataclass(frozen=True, slots=True)
class Preview:
    """A delegation as it is shown. Every field enters the hash, so that what runs is exactly what was shown.

    Attributes:
        session_id: where it was shown.
        user: to whom, as the token's subject.
        environment: in which environment.
        run_id: the run that proposed it.
        proposal_id: unique within the run; keeps two equal proposals apart.
        target: the team that would do the work.
        target_title: its name for people.
        title: of the work.
        description: of the work.
        requirements: what has to be in it.
        priority: such as `normal`.
        deadline: in words; empty means none.
        constraints: what it must keep to.
        success_criteria: by what it is judged.
        route: teams through which the work goes, this one first, the target last.
        approval: what is needed; `confirmation` or `none`.
    """

    session_id: str
    user: str
    environment: str
    run_id: str
    proposal_id: str
    target: str
    target_title: str
    title: str
    description: str
    requirements: tuple[str, ...]
    priority: str
    deadline: str
    constraints: tuple[str, ...]
    success_criteria: tuple[str, ...]
    route: tuple[str, ...]
    approval: str

    @property
    def hash(self) -> str:
        """SHA-256 of all fields, hexadecimal."""
        return hashlib.sha256(orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS)).hexdigest()

    @property
    def delegation_id(self) -> str:
        """Derived from the hash: confirming the same preview again names the same delegation."""
        return f"delegation-{self.hash[:32]}"


def preview_of(
    proposed: DelegationProposed,
    spec: TeamSpec,
    *,
    session_id: str,
    user: str,
    environment: str,
    run_id: str,
    target_title: str,
) -> Preview:
    """The preview of what a run proposed."""
    return Preview(
        session_id=session_id,
        user=user,
        environment=environment,
        run_id=run_id,
        proposal_id=proposed.proposal_id,
        target=proposed.target,
        target_title=target_title,
        title=proposed.title,
        description=proposed.description,
        requirements=proposed.requirements,
        priority=proposed.priority,
        deadline=proposed.deadline,
        constraints=proposed.constraints,
        success_criteria=proposed.success_criteria,
        route=(spec.name, proposed.target),
        approval="confirmation" if spec.delegation.confirmation else "none",
    )


def work_order(preview: Preview) -> str:
    """What the target team is told: the preview's content as plain text."""
    parts = [preview.title]
    if preview.description:
        parts.append(preview.description)
    for heading, items in (
        ("Requirements", preview.requirements),
        ("Constraints", preview.constraints),
        ("Success criteria", preview.success_criteria),
    ):
        if items:
            parts.append("\n".join([f"{heading}:", *(f"- {item}" for item in items)]))
    if preview.deadline:
        parts.append(f"Deadline: {preview.deadline}")
    if preview.priority not in ("", "normal"):
        parts.append(f"Priority: {preview.priority}")
    return "\n\n".join(parts)
