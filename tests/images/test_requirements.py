"""What a team's image holds: by framework, by what the team says, and by what it locks itself."""

from __future__ import annotations

import re
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from elf_sdk.deploy.image.requirements import extras_of, locked, own_requirements, read_lock
from elf_sdk.errors import BadInput
from tests.deploy.organisations import spec

HASH = "--hash=sha256:" + "0" * 64


def names(requirements: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+)==", requirements, re.MULTILINE))


@pytest.mark.parametrize(
    ("fields", "extras"),
    [
        ({}, ("postgres",)),
        ({"framework": "crewai"}, ("crewai", "postgres")),
        ({"framework": "langgraph"}, ("langgraph", "postgres")),
        ({"framework": "somebody-elses"}, ("postgres",)),
        ({"environments": {"prod": {"serving": {"grpc_port": 50051}}}}, ("grpc", "postgres")),
        ({"mcp": [{"name": "files", "url": "https://mcp.example.com/mcp"}]}, ("mcp", "postgres")),
    ],
)
def test_the_extras_follow_from_what_the_team_says(fields: dict[str, Any], extras: tuple[str, ...]) -> None:
    assert extras_of(spec(**fields)) == extras


def test_what_one_environment_needs_is_in_the_image_of_all() -> None:
    servers = [{"name": "files", "url": "https://mcp.example.com/mcp"}]
    assert extras_of(spec(environments={"prod": {"mcp": servers}})) == ("mcp", "postgres")


@pytest.mark.parametrize("extra", ["crewai", "grpc", "langgraph", "mcp", "otel", "postgres"])
def test_the_locked_part_is_all_that_an_extra_needs(extra: str) -> None:
    """By the metadata of what is installed here, where everything is."""
    text = locked(read_lock(), [extra])
    assert closure(Requirement(f"elf-sdk[{extra}]")) <= names(text)
    assert text.count("--hash=sha256:") > len(names(text))


def test_a_team_without_a_framework_has_none() -> None:
    brought = names(locked(read_lock(), ["postgres"]))
    assert not {name for name in brought if name.startswith(("lang", "crewai"))}
    assert not {"grpcio", "mcp", "openai", "numpy"} & brought


def closure(root: Requirement) -> set[str]:
    """Names of what `root` needs, without its own."""
    seen: set[tuple[str, str]] = set()

    def visit(requirement: Requirement) -> None:
        for extra in ("", *requirement.extras):
            name = canonicalize_name(requirement.name)
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            for line in distribution(requirement.name).requires or []:
                child = Requirement(line)
                if child.marker is None or child.marker.evaluate({"extra": extra}):
                    visit(child)

    visit(root)
    return {name for name, _ in seen} - {"elf-sdk"}


def test_a_team_has_packages_of_its_own_by_its_lock(tmp_path: Path) -> None:
    lock = (
        f"# mine\npolars==1.2.3 \\\n    {HASH} \\\n    {HASH}\nhttpx[http2]==0.28.1 ; python_version < '3.14' {HASH}\n"
    )
    (tmp_path / "requirements.txt").write_text("polars\n", encoding="utf-8")
    (tmp_path / "requirements.lock").write_text(lock, encoding="utf-8")
    assert own_requirements(tmp_path, "teams/brand-team") == (lock, True)


def test_a_team_without_any_has_none(tmp_path: Path) -> None:
    assert own_requirements(tmp_path, "teams/brand-team") == ("", True)


@pytest.mark.parametrize(
    ("line", "number"),
    [("polars", 2), ("polars>=1", 2), ("polars==1.2.3", 2), ("-e .", 2), ("git+https://example.com/a.git", 2)],
)
def test_what_is_not_locked_is_refused_with_its_line(tmp_path: Path, line: str, number: int) -> None:
    (tmp_path / "requirements.txt").write_text(f"# first\n{line}\n", encoding="utf-8")
    with pytest.raises(
        BadInput, match=rf"^teams/brand-team/requirements\.txt:{number}: .*{re.escape(line)}.*--allow-unlocked"
    ):
        own_requirements(tmp_path, "teams/brand-team")


def test_it_is_taken_where_that_is_allowed_and_said(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("polars\n", encoding="utf-8")
    assert own_requirements(tmp_path, "teams/brand-team", allow_unlocked=True) == ("polars\n", False)
