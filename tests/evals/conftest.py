"""A team on disk with recorded conversations, and the same conversations had with a team that is really served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from elf_sdk.evals.judge import Judges
from elf_sdk.evals.load import conversations_of
from elf_sdk.evals.result import CheckResult, ConversationResult, Report
from elf_sdk.evals.run import Target, evaluate
from elf_sdk.settings import Settings
from elf_sdk.team.project import LoadedTeam, find_project
from elf_sdk.testing import Served

TEAM = "name: boss\nmembers: [{role: Head, is_manager: true}]\n"


class Recordings:
    """The evals of a team called boss."""

    def __init__(self, root: Path) -> None:
        self.directory = root / "boss"
        (self.directory / "evals").mkdir(parents=True)
        (self.directory / "team.yaml").write_text(TEAM, encoding="utf-8")

    def write(self, text: str, name: str = "first.yaml") -> None:
        (self.directory / "evals" / name).write_text(text, encoding="utf-8")

    def record(self, *turns: dict[str, Any], file: str = "first.yaml", **fields: Any) -> None:
        """A conversation with these turns."""
        self.write(yaml.safe_dump({"name": "It works", "turns": list(turns), **fields}), file)

    @property
    def team(self) -> LoadedTeam:
        [team] = find_project(self.directory).select()
        return team

    async def have(self, served: Served, *, digest: str = "", token: str | None = None, **options: Any) -> Report:
        """Have them with the team that is served."""
        target = Target(
            "boss",
            served.url("boss"),
            lambda user: served.issuer.user_token(user, "boss") if token is None else token,
            digest,
        )
        with Judges(self.team, Settings()) as judges:
            return await evaluate(conversations_of(self.team), target, judges.judge, **options)

    async def have_one(self, served: Served, **options: Any) -> ConversationResult:
        report = await self.have(served, **options)
        [conversation] = report.conversations
        return conversation


@pytest.fixture
def recordings(tmp_path: Path) -> Recordings:
    return Recordings(tmp_path / "project")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(store=str(tmp_path / "elf.db"))


def wrong(conversation: ConversationResult) -> list[CheckResult]:
    """The checks that were not true, of all turns of all sessions."""
    return [
        check
        for session in conversation.sessions
        for part in (*(turn.checks for turn in session.turns), session.checks)
        for check in part
        if not check.holds
    ]
