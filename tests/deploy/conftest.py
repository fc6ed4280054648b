from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from elf_sdk.deploy.helm import CommandLineHelm, EmbeddedHelm, Helm
from elf_sdk.errors import Missing
from tests.deploy.organisations import write_project
from tests.helm import helm_programs
from tests.kubernetes import INSTALL, ApiServer, programs, running

WriteProject = Callable[..., Path]


@pytest.fixture
def project_dir(tmp_path: Path) -> Path:
    """Three teams: an executive with two below, who are peers of each other."""
    return write_project(tmp_path / "project")


@pytest.fixture(scope="session")
def embedded() -> EmbeddedHelm:
    return EmbeddedHelm()


_PROGRAMS: list[str | None] = [*helm_programs()] or [None]


def _command_line(program: str | None) -> CommandLineHelm:
    if program is None:
        pytest.skip("there is no helm on the PATH, and ELF_TEST_HELM names none; scripts/helms --build makes some")
    try:
        return CommandLineHelm(Path(program))
    except Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session", params=_PROGRAMS)
def command_line(request: pytest.FixtureRequest) -> CommandLineHelm:
    """Each helm program in turn."""
    return _command_line(request.param)


@pytest.fixture(scope="session", params=["embedded", *_PROGRAMS])
def any_helm(request: pytest.FixtureRequest, embedded: EmbeddedHelm) -> Helm:
    """The embedded Helm, and each helm program in turn."""
    return embedded if request.param == "embedded" else _command_line(request.param)


@pytest.fixture(scope="session")
def kube() -> Generator[ApiServer, None, None]:
    """A Kubernetes API server for all tests of this process; a test makes namespaces of its own."""
    found = programs()
    if found is None:
        pytest.skip(INSTALL)
    with running(found) as server:
        yield server
