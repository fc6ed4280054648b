"""Which builder is taken, and what it is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

import elf_sdk
from elf_sdk.deploy.image.builder import BUILDERS, Builder, BuilderName, choose_builder
from elf_sdk.deploy.image.index import read_index, wheels_of
from elf_sdk.deploy.reference import Reference
from elf_sdk.errors import BadInput, Missing
from tests.deploy.organisations import write_project
from tests.images.conftest import Machine

OUTSIDE = Reference("registry.example.com", "agents/brand-team", "1.2.0")
INSIDE = Reference("127.0.0.1:5000", "brand-team", "1.2.0")


def test_a_client_without_an_engine_is_no_builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As docker's client says it.
    client = tmp_path / "docker"
    client.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon.' >&2\nexit 1\n")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    with pytest.raises(
        Missing,
        match=r"^docker does not answer \(Cannot connect to the Docker daemon\.\); .*--builder podman or buildah",
    ):
        choose_builder("docker")


def test_where_nothing_builds_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Missing) as told:
        choose_builder()
    assert str(told.value) == (
        "nothing here builds images: docker is not installed; podman is not installed; buildah is not installed; start "
        "an engine, or install buildah, which needs none (apt-get install buildah)"
    )


@pytest.mark.xdist_group("images")
def test_the_one_that_answers_is_taken(environment_of: Machine) -> None:
    assert choose_builder("buildah").name == "buildah"
    assert choose_builder("auto").name in BUILDERS


@pytest.mark.parametrize("name", BUILDERS)
def test_tls_is_left_out_on_loopback_only(name: BuilderName) -> None:
    builder = Builder(name, "1")
    for reference, base, without in (
        (INSIDE, "127.0.0.1:5000/python:3.11", name != "docker"),
        (OUTSIDE, "x.io/p:1", False),
    ):
        build = builder.build_command(Path("context"), reference, base, {})
        push = builder.push_command(reference, Path("digest"))
        # docker knows loopback by itself.
        assert ("--tls-verify=false" in build, "--tls-verify=false" in push) == (without, without)


@pytest.mark.parametrize("name", BUILDERS)
def test_a_password_of_the_index_is_in_no_argument(name: BuilderName, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://ada:lovelace@packages.example.com/simple")
    index = read_index()
    assert "index-url = https://ada:lovelace@packages.example.com/simple\n" in index.configuration
    command = Builder(name, "1").build_command(Path("context"), OUTSIDE, "x.io/p:1", {"pip": Path("pip.conf")})
    assert "lovelace" not in " ".join(command)
    assert command[command.index("--secret") + 1] == "id=pip,src=pip.conf"


def test_an_index_on_this_machine_is_reached_over_its_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:3141/simple")
    assert read_index().local
    monkeypatch.setenv("PIP_INDEX_URL", "https://packages.example.com/simple")
    assert not read_index().local
    assert read_index(["http://localhost:3128"]).local
    assert "host" in Builder("podman", "1").build_command(Path("c"), OUTSIDE, "x.io/p:1", {}, local=True)


def test_wheels_of_this_machine_come_along_where_the_lock_wants_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wanted-1-py3-none-any.whl").write_bytes(b"")
    (tmp_path / "other-1-py3-none-any.whl").write_bytes(b"other")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # SHA-256 of nothing
    monkeypatch.setenv("PIP_FIND_LINKS", f"{tmp_path} https://wheels.example.com/")
    index = read_index()
    assert "find-links =\n    https://wheels.example.com/\n" in index.configuration
    assert str(tmp_path) not in index.configuration
    lock = f"wanted==1 \\\n    --hash=sha256:{empty}\n"
    assert list(wheels_of(index.directories, lock)) == ["wanted-1-py3-none-any.whl"]


def test_there_is_no_other_builder() -> None:
    with pytest.raises(BadInput, match="there is no builder 'kaniko'; choose one of: docker, podman, buildah"):
        choose_builder("kaniko")


@pytest.mark.xdist_group("images")
def test_a_disk_that_is_full_is_told(machine: Machine, tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", {"brand-team": {}})
    (project / "teams" / "brand-team" / "team.py").write_text("")
    full = tmp_path / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "elf-full", str(full)], check=True)
    try:
        done = machine.run("image", "build", "--all", "--builder", "buildah", cwd=project, TMPDIR=str(full))
    finally:
        subprocess.run(["umount", str(full)], check=True)
    assert done.returncode == 1
    assert "error: the build context cannot be written: " in done.stderr
    assert done.stderr.rstrip().endswith("No space left on device; nothing was built")


@pytest.mark.parametrize("arguments", [(), ("brand-team", "--all")])
def test_teams_are_named_or_all_are_meant(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    project = write_project(tmp_path, {"brand-team": {}})
    done = subprocess.run(
        [sys.executable, "-m", "elf_sdk", "image", "build", *arguments],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(Path(elf_sdk.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "error: name the teams, or write --all" in done.stderr


def test_the_context_alone_is_written_for_other_tools(tmp_path: Path) -> None:
    project = write_project(tmp_path, {"brand-team": {}})
    (project / "teams" / "brand-team" / "team.py").write_text("")
    command = [sys.executable, "-m", "elf_sdk", "image", "build", "--all", "--context", "context"]
    environment = {**os.environ, "PYTHONPATH": str(Path(elf_sdk.__file__).parents[1])}
    for code in (0, 2):  # the second time something is there
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
    place = project / "context" / "brand-team"
    assert sorted(path.name for path in place.iterdir()) == ["Dockerfile", "elf-sdk", "packages", "team"]
    assert (place / "packages" / "requirements.txt").read_text().startswith("a2a-sdk==")


def test_a_job_that_is_stopped_stops_its_builder() -> None:
    slow = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    program = (
        "import sys\n"
        "from elf_sdk.deploy.image.program import run\n"
        f"run([sys.executable, '-c', {slow!r}], lambda line: print(line, flush=True), {{}})\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(Path(elf_sdk.__file__).parents[1])}
    with subprocess.Popen([sys.executable, "-c", program], env=environ, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None
        builder = int(job.stdout.readline())
        job.send_signal(signal.SIGTERM)
        code = job.wait(30)
    try:
        assert code == 128 + signal.SIGTERM
        with pytest.raises(ProcessLookupError):
            os.kill(builder, 0)
    finally:
        with suppress(ProcessLookupError):
            os.kill(builder, signal.SIGKILL)
