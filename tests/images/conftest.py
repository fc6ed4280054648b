from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

import elf_sdk
from tests.images.machines import buildah_environment, buildah_says, machine_base, programs, registry


@dataclass(frozen=True)
class Machine:
    """A machine that builds images."""

    environment: dict[str, str]
    base: str

    def says(self, *arguments: str) -> str:
        return buildah_says(self.environment, *arguments)

    def elf(self, *arguments: str, cwd: Path, **environ: str) -> str:
        """What a command of elf prints; it must succeed."""
        done = self.run(*arguments, cwd=cwd, **environ)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self, *arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
        """A command of elf, in a process of its own."""
        return subprocess.run(
            [sys.executable, "-m", "elf_sdk", *arguments],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(Path(elf_sdk.__file__).parents[1]), **self.environment, **environ},
            capture_output=True,
            text=True,
            timeout=800,
            check=False,
        )


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Generator[Machine, None, None]:
    if reason := programs():
        pytest.skip(reason)
    place = tmp_path_factory.mktemp("buildah")
    environment = buildah_environment(place)
    machine_base(environment, place, "elf.test/python:1")
    yield Machine(environment, "elf.test/python:1")
    # What buildah left mounted keeps pytest from clearing away.
    buildah_says(environment, "rm", "--all")
    buildah_says(environment, "rmi", "--all", "--force")
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="session")
def registry_host(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Generator[str, None, None]:
    """A registry that lets everybody do everything."""
    with registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture
def environment_of(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The machine, also for what runs in this process."""
    for name, value in machine.environment.items():
        monkeypatch.setenv(name, value)
    return machine


@pytest.fixture
def strict_umask() -> Generator[None, None, None]:
    before = os.umask(0o077)
    yield
    os.umask(before)
