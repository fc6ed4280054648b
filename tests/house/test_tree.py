"""What is tracked: nothing of the machine it was written on, nothing huge, and scripts that run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _git(*arguments: str, fine: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode in fine, done.stderr
    return done.stdout


def _scripts() -> list[str]:
    """Tracked files that begin with `#!`."""
    return _git("grep", "-lIE", "--max-count=1", "^#!/", "--", "scripts", ".ci").splitlines()


def test_no_file_names_a_place_on_the_machine_it_was_written_on() -> None:
    assert not _git("grep", "-nIE", r"(^|[^A-Za-z0-9_.])/(home|root|work|Users)/", fine=(0, 1))


def test_no_file_names_a_package_registry() -> None:
    # Put together here, so that this file does not name them either.
    zones = {"pypi": "org", "pythonhosted": "org", "npmjs": "(org|com)", "crates": "io", "golang": "org"}
    hosts = "|".join(rf"\b{name}\.{zone}\b" for name, zone in zones.items())
    assert not _git("grep", "-nIE", hosts, fine=(0, 1))


def test_no_file_is_larger_than_a_mebibyte() -> None:
    large = [
        name
        for name in _git("ls-files", "-z").split("\0")
        if name and (ROOT / name).is_file() and (ROOT / name).stat().st_size > 1 << 20
    ]
    assert not large


def test_scripts_are_executable() -> None:
    modes = {
        line.split("\t")[1]: line.split()[0] for line in _git("ls-files", "--stage", "scripts", ".ci").splitlines()
    }
    assert [name for name in _scripts() if modes[name] != "100755"] == []
    assert {"scripts/check", "scripts/demo", "scripts/test", ".ci/run"} <= set(_scripts())


def test_scripts_are_clean_by_shellcheck() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed: apt-get install shellcheck")
    shell = [name for name in _scripts() if (ROOT / name).read_text(encoding="utf-8").startswith("#!/usr/bin/env bash")]
    done = subprocess.run(["shellcheck", *shell], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
