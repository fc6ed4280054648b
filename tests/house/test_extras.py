"""What an installation with one framework holds: nothing of the others."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PINNED = re.compile(r"^([a-z0-9-]+)(?:\[[^\]]*\])?==", re.MULTILINE)
NAMED = re.compile(r"^[A-Za-z0-9._-]+")

FRAMEWORKS = {
    "crewai": r"crewai.*|chromadb|lancedb|onnxruntime",
    "langgraph": r"lang(graph|chain|smith).*",
    "pydantic-ai": r"pydantic-(ai|graph).*",
}
"""Packages by whose framework they are, as patterns."""


@pytest.fixture(scope="module")
def wanted() -> dict[str, set[str]]:
    """What each locked package asks for, whichever of its own extras asks: never less than what is installed."""
    found: dict[str, set[str]] = {}
    name, listed = "", False
    for line in (ROOT / "requirements" / "dev.txt").read_text(encoding="utf-8").splitlines():
        if pinned := PINNED.match(line):
            name, listed = pinned[1], False
            found.setdefault(name, set())
        elif (said := line.strip()).startswith("# via"):
            listed = True
            if said != "# via":
                found.setdefault(said.removeprefix("# via").split()[0], set()).add(name)
        elif listed and said.startswith("#"):
            found.setdefault(said.removeprefix("#").split()[0], set()).add(name)
    return found


@pytest.mark.parametrize("extra", ["", "crewai", "langgraph", "mcp", "postgres", "grpc", "otel"])
def test_an_extra_brings_no_framework_but_its_own(wanted: dict[str, set[str]], extra: str) -> None:
    """By the lock: what `pip install 'elf-sdk[extra]'` may bring holds its framework, and no other."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = project["dependencies"] + (project["optional-dependencies"][extra] if extra else [])
    reached: set[str] = set()
    new = {found[0].lower().replace("_", "-").replace(".", "-") for line in asked if (found := NAMED.match(line))}
    while new:
        reached |= new
        new = {package for name in new for package in wanted.get(name, ())} - reached
    assert reached <= wanted.keys(), "the lock lacks what pyproject.toml asks for"
    brought = {
        framework: sorted(package for package in reached if re.fullmatch(pattern, package))
        for framework, pattern in FRAMEWORKS.items()
    }
    own = brought.pop(extra, None)
    assert own is None or own, f"the extra {extra} does not bring its framework"
    assert not any(brought.values()), f"elf-sdk[{extra}] brings packages of another framework: {brought}"
