"""Static checkers of Kubernetes objects that others wrote, and the findings of theirs that stand.

They are no dependency of anything here: each is looked for in ELF_CHECKERS_DIR, where `scripts/checkers` installs it,
and then on the PATH.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

__all__ = ["CHECKERS", "Exemption", "Finding", "exemptions", "program", "sifted"]

EXEMPTIONS = Path(__file__).with_name("checker-exceptions.yaml")


@dataclass(frozen=True, slots=True)
class Finding:
    """What a checker says against an object.

    Attributes:
        check: the checker's name and its own name of the check.
        place: environment/kind/name of the object.
        text: what it says.
    """

    check: str
    place: str
    text: str


@dataclass(frozen=True, slots=True)
class Exemption:
    """Findings that stand.

    Attributes:
        checks: as in `Finding.check`.
        objects: patterns of `Finding.place`.
        because: the reason.
    """

    checks: tuple[str, ...]
    objects: tuple[str, ...]
    because: str

    def covers(self, finding: Finding) -> bool:
        return finding.check in self.checks and any(fnmatchcase(finding.place, each) for each in self.objects)


def exemptions() -> list[Exemption]:
    """All of them, in the order of the file."""
    return [
        Exemption(tuple(each["checks"]), tuple(each["objects"]), each["because"])
        for each in yaml.safe_load(EXEMPTIONS.read_text(encoding="utf-8"))
    ]


def sifted(
    findings: Iterable[Finding], known: Sequence[Exemption]
) -> tuple[list[Finding], Mapping[tuple[Exemption, str], int]]:
    """The findings that nobody has explained, and how many each exemption covers, by check."""
    open_, covered = [], Counter[tuple[Exemption, str]]()
    for finding in findings:
        exemption = next((each for each in known if each.covers(finding)), None)
        if exemption is None:
            open_.append(finding)
        else:
            covered[exemption, finding.check] += 1
    return open_, covered


def program(name: str) -> Path | None:
    """Where a checker is."""
    own = Path(os.environ.get("ELF_CHECKERS_DIR", ".checkers")) / "bin" / name
    found = str(own) if own.is_file() else shutil.which(name)
    return Path(found).absolute() if found else None


def _checkov(checker: Path, directory: Path) -> Iterator[Finding]:
    command = [str(checker), "-d", ".", "--framework", "kubernetes", "--skip-download", "--compact", "-o", "json"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, timeout=300)
    report: Any = json.loads(done.stdout)
    # It passes over a file in silence when it takes the file for a template.
    looked_at = {each["file_path"].lstrip("/") for each in report["results"]["passed_checks"]}
    assert looked_at == {file.relative_to(directory).as_posix() for file in directory.glob("*/*.yaml")}
    for each in report["results"]["failed_checks"]:
        kind, _, name = each["resource"].split(".", 2)
        place = f"{Path(each['file_path']).parent.name}/{kind}/{name}"
        yield Finding(f"checkov {each['check_id']}", place, each["check_name"])


def _kube_score(checker: Path, directory: Path) -> Iterator[Finding]:
    for file in sorted(directory.glob("*/*.yaml")):
        command = [str(checker), "score", "--output-format", "json", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        report: Any = json.loads(done.stdout)
        assert report, done.stderr
        for each in report:
            place = f"{file.parent.name}/{each['type_meta']['kind']}/{each['object_meta']['name']}"
            for check in each["checks"]:
                if not check["skipped"] and check["grade"] < _OK:
                    yield Finding(f"kube-score {check['check']['id']}", place, check["check"]["name"])


_OK = 10
"""kube-score's grade of what is right."""

CHECKERS: Mapping[str, Callable[[Path, Path], Iterator[Finding]]] = {"checkov": _checkov, "kube-score": _kube_score}
"""By name of the program: what gives its findings in a directory with one of files for each environment."""
