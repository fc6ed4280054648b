"""The lock files say exactly which bytes are installed, and nothing of where they came from."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "requirements").glob("*.txt"))
PIN = re.compile(r"^([a-z0-9][a-z0-9.-]*)==(\S+?)( ; [^\\]+)? \\$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$")


def _pins(name: str) -> set[tuple[str, str, str]]:
    lines = (ROOT / "requirements" / name).read_text(encoding="utf-8").splitlines()
    return {(found[1], found[2], found[3] or "") for line in lines if (found := PIN.match(line))}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_line_is_a_pin_with_hashes_or_says_why(path: Path) -> None:
    pinned = hashed = 0
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        assert "://" not in line, f"{path.name}:{number} has an address"
        if PIN.match(line):
            assert not pinned or hashed, f"{path.name}:{number}: the pin before has no hash"
            pinned, hashed = pinned + 1, 0
        elif HASH.match(line):
            hashed += 1
        else:
            assert line.startswith("    #"), f"{path.name}:{number} is neither a pin nor a hash nor a comment: {line}"
    assert pinned
    assert hashed


@pytest.mark.parametrize("name", ["demo.txt", "image.txt", "uv.txt"])
def test_the_smaller_sets_are_parts_of_the_whole(name: str) -> None:
    assert _pins(name) <= _pins("dev.txt")


def _direct() -> list[Requirement]:
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lines = [*tables["project"]["dependencies"], *tables["build-system"]["requires"]]
    for group in (tables["project"]["optional-dependencies"], tables["dependency-groups"]):
        lines += [line for members in group.values() for line in members]
    return [wanted for line in lines if (wanted := Requirement(line)).name != "elf-sdk"]


def test_every_direct_dependency_is_locked_at_a_version_that_fits() -> None:
    locked = {name: version for name, version, _ in _pins("dev.txt")}
    for requirement in _direct():
        version = locked.get(canonicalize_name(requirement.name))
        assert version, f"{requirement} is not locked; run scripts/lock"
        assert requirement.specifier.contains(version), f"{requirement} is locked at {version}; run scripts/lock"


def test_every_direct_dependency_is_explained_and_no_other() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    tables = page[page.index("\n## Core\n") : page.index("\n## Refused\n")]
    rows = re.findall(r"^\| ([a-z][a-z0-9-]*)(?:\[[a-z]+\])? \| ", tables, re.MULTILINE)
    assert sorted(set(rows) - {"dependency"}) == sorted({requirement.name for requirement in _direct()})
