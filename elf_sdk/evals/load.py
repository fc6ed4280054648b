"""The recorded conversations of a team, as they stand in its files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from elf_sdk.errors import BadInput, BadSpec, Problem
from elf_sdk.evals.fits import broken_schema
from elf_sdk.evals.recorded import Recorded
from elf_sdk.team.document import Document
from elf_sdk.team.load import in_order, read_model
from elf_sdk.team.project import LoadedTeam

__all__ = ["Conversation", "conversations_of", "survey_conversations"]

_SUFFIXES = frozenset({".yaml", ".yml"})


@dataclass(frozen=True, slots=True)
class Conversation:
    """A recorded conversation and its file.

    Attributes:
        recorded: what happens in it.
        document: what stands in the file, with lines.
    """

    recorded: Recorded
    document: Document

    @property
    def file(self) -> str:
        """Path of the file as the user would type it."""
        return self.document.file

    def line(self, turn: int, check: int | None = None) -> int:
        """1-based line of a turn, or of one of its checks; both count from 0."""
        return self.document.line(("turns", turn) if check is None else ("turns", turn, "expect", check))


def conversations_of(team: LoadedTeam, environment: str = "") -> tuple[Conversation, ...]:
    """The conversations of a team, sorted by file.

    Args:
        team: whose they are; `evals:` says where they stand.
        environment: whose overrides count; empty for none.

    Raises:
        BadInput: there are none, or (BadSpec) something in one of them is wrong; the error carries all of it.
        Missing: a schema is checked, and the package for that is not installed.
    """
    found, problems = survey_conversations(team, environment)
    if problems:
        raise BadSpec(problems)
    if not found:
        directory = _directory(team, environment)
        raise BadInput(f"{team.file}: there is no conversation in {directory}; record one there, such as first.yaml")
    return found


def survey_conversations(
    team: LoadedTeam, environment: str = ""
) -> tuple[tuple[Conversation, ...], tuple[Problem, ...]]:
    """As `conversations_of`, but what is wrong is part of the answer, and none is no error.

    Raises:
        Missing: a schema is checked, and the package for that is not installed.
    """
    found: list[Conversation] = []
    problems: list[Problem] = []
    for path, file in _files(team, _directory(team, environment)):
        document, recorded, wrong = read_model(path, file, Recorded)
        problems += in_order(wrong)
        if document is not None and recorded is not None:
            broken = list(_broken_schemas(recorded, document))
            problems += broken
            if not broken:
                found.append(Conversation(recorded, document))
    return tuple(found), tuple(problems)


def _directory(team: LoadedTeam, environment: str) -> str:
    return (team.spec.for_environment(environment) if environment else team.spec).evals


def _files(team: LoadedTeam, directory: str) -> Iterator[tuple[Path, str]]:
    """Each file, and what the user would type for it."""
    place = team.directory / directory
    typed = PurePosixPath(team.file).parent / directory
    try:
        names = sorted(path.name for path in place.iterdir()) if place.is_dir() else []
    except OSError as error:
        raise BadInput(f"{typed} cannot be read: {error.strerror}") from None
    for name in names:
        if Path(name).suffix in _SUFFIXES and not name.startswith("."):
            yield place / name, str(typed / name)


def _broken_schemas(recorded: Recorded, document: Document) -> Iterator[Problem]:
    for place, turn in enumerate(recorded.turns):
        for number, check in enumerate(turn.expect):
            if check.matches_schema is not None and (why := broken_schema(check.matches_schema)):
                yield document.problem(
                    ("turns", place, "expect", number, "matches_schema"), f"this is no JSON Schema: {why}; mend it"
                )
