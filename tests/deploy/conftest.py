from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from elf_sdk.deploy.helm import CommandLineHelm, EmbeddedHelm
from elf_sdk.errors import Missing
from tests.deploy.organisations import write_project
from tests.kubernetes import INSTALL, ApiServer, programs, running

WriteProject = Callable[..., Path]


@pytest.fixture
def project_dir(tmp_path: Path) -> Path:
    """Three teams: an executive with two below, who are peers of each other."""
    return write_project(tmp_path / "project")


@pytest.fixture(scope="session")
def embedded() -> EmbeddedHelm:
    return EmbeddedHelm()


@pytest.fixture(scope="session")
def command_line() -> CommandLineHelm:
    program = os.environ.get("ELF_TEST_HELM") or shutil.which("helm")
    if program is None:
        pytest.skip("there is no helm on the PATH, and ELF_TEST_HELM names none")
    try:
        return CommandLineHelm(Path(program))
    except Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def kube() -> Generator[ApiServer, None, None]:
    """A Kubernetes API server for all tests of this process; a test makes namespaces of its own."""
    found = programs()
    if found is None:
        pytest.skip(INSTALL)
    with running(found) as server:
        yield server
