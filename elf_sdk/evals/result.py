"""What came of the evals of a team: values, from a single check up to the report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from elf_sdk.evals.reply import Reply, Spent

__all__ = ["CheckResult", "ConversationResult", "Report", "Session", "TurnResult"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """A check, and whether it was true.

    Attributes:
        check: as it is written, such as `contains: Campaign`; a limit as `time: 5s`.
        holds: whether it was true.
        detail: why not; of a judge, its reason in either case.
        line: of the file, 1-based.
        model: that judged; empty where none did.
    """

    check: str
    holds: bool
    detail: str = ""
    line: int = 0
    model: str = ""


@dataclass(frozen=True, slots=True)
class TurnResult:
    """A turn, and what came of it.

    Attributes:
        act: what the person did: `say`, `answer`, `confirm` or `reject`.
        value: what was said, or which team was meant.
        line: of the file, 1-based.
        reply: what came back.
        checks: each of its own, then the limits that were passed, then an error that nobody expected.
    """

    act: str
    value: str
    line: int
    reply: Reply
    checks: tuple[CheckResult, ...]

    @property
    def holds(self) -> bool:
        """Whether all its checks were true."""
        return all(check.holds for check in self.checks)


@dataclass(frozen=True, slots=True)
class Session:
    """A conversation that was had once.

    Attributes:
        turns: those that were reached.
        checks: of the conversation as a whole: its limits, and the image that answered.
        error: why it ended before its last turn; empty where it did not.
        seconds: all turns together.
        spent: by the team's models, all turns together; None where that is not known.
        judged: tokens that judging took.
        image: digest of the image that answered, as the team says; empty where it says none.
    """

    turns: tuple[TurnResult, ...]
    checks: tuple[CheckResult, ...] = ()
    error: str = ""
    seconds: float = 0.0
    spent: Spent | None = field(default_factory=Spent)
    judged: int = 0
    image: str = ""

    @property
    def holds(self) -> bool:
        """Whether everything was as it should be."""
        return not self.error and all(turn.holds for turn in self.turns) and all(check.holds for check in self.checks)


@dataclass(frozen=True, slots=True)
class ConversationResult:
    """A recorded conversation, and each time that it was had.

    Attributes:
        name: what it shows.
        file: path as the user would type it.
        sessions: one for each repetition.
        needed: how many of them have to be right.
    """

    name: str
    file: str
    sessions: tuple[Session, ...]
    needed: int

    @property
    def right(self) -> int:
        """How many sessions were right."""
        return sum(session.holds for session in self.sessions)

    @property
    def holds(self) -> bool:
        """Whether enough of them were."""
        return self.right >= self.needed


@dataclass(frozen=True, slots=True)
class Report:
    """The evals of one team.

    Attributes:
        team: its name.
        url: where it was asked.
        digest: of the image that had to answer; empty where any might.
        conversations: sorted by file.
    """

    team: str
    url: str
    digest: str
    conversations: tuple[ConversationResult, ...]

    @property
    def holds(self) -> bool:
        """Whether the team still gets all of them right."""
        return all(conversation.holds for conversation in self.conversations)

    @property
    def images(self) -> tuple[str, ...]:
        """The digests of the images that answered, sorted; what is not known is left out."""
        return tuple(sorted({session.image for session in self.sessions() if session.image}))

    def sessions(self) -> Iterator[Session]:
        """All sessions of all conversations."""
        for conversation in self.conversations:
            yield from conversation.sessions
