"""An image into a cluster without a registry: a real containerd, as k3s and kind have it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from elf_sdk.deploy.image.load import Target
from elf_sdk.errors import BadInput
from tests.deploy.organisations import write_project
from tests.images.conftest import Machine

pytestmark = pytest.mark.xdist_group("images")


@pytest.fixture(scope="module")
def containerd(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Generator[dict[str, str], None, None]:
    """Variables by which `ctr` finds a containerd of its own."""
    if shutil.which("containerd") is None or shutil.which("ctr") is None:
        pytest.skip("containerd is not installed: apt-get install containerd")
    place = tmp_path_factory.mktemp("containerd")
    configuration = place / "config.toml"
    configuration.write_text(
        f'version = 2\nroot = "{place}/root"\nstate = "{place}/state"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        f'[grpc]\naddress = "{place}/socket"\n[plugins."io.containerd.internal.v1.opt"]\npath = "{place}/opt"\n'
    )
    found = {"CONTAINERD_ADDRESS": f"{place}/socket"}
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(["containerd", "--config", str(configuration)], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while subprocess.run(["ctr", "version"], env={**os.environ, **found}, capture_output=True).returncode:
            assert process.poll() is None, (place / "log").read_text()
            assert time.monotonic() < deadline, (place / "log").read_text()
            time.sleep(0.05)
        yield found
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def project(machine: Machine, tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("something in it\n")
    container = machine.says("from", "scratch")
    machine.says("copy", "--quiet", container, str(tmp_path / "file"), "/file")
    machine.says("commit", "--quiet", "--rm", container, "brand-team:0.1.0")
    return write_project(tmp_path / "project", {"brand-team": {}})


def images(containerd: dict[str, str]) -> list[str]:
    command = ["ctr", "-n", "k8s.io", "images", "list", "--quiet"]
    done = subprocess.run(command, env={**os.environ, **containerd}, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_kubernetes_finds_it_by_the_name_in_the_chart(
    machine: Machine, containerd: dict[str, str], project: Path
) -> None:
    out = machine.elf("image", "load", "--all", "--k3s", "--builder", "buildah", cwd=project, **containerd)
    assert "brand-team:0.1.0  in the containerd of this machine" in out
    # The chart says brand-team:0.1.0, which Kubernetes asks its containerd for under this name.
    assert "docker.io/library/brand-team:0.1.0" in images(containerd)


def test_what_runs_on_another_machine_reads_the_image_from_its_input(
    machine: Machine, containerd: dict[str, str], project: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "image.tar"
    machine.says("push", "--quiet", "brand-team:0.1.0", f"oci-archive:{archive}:docker.io/library/sent-team:0.1.0")
    *_, there = Target(ssh="ada@node-1").command(archive)
    with archive.open("rb") as content:
        subprocess.run(["sh", "-c", there], stdin=content, env={**os.environ, **containerd}, check=True)
    assert "docker.io/library/sent-team:0.1.0" in images(containerd)


def test_a_containerd_that_is_not_there_is_told(machine: Machine, project: Path, tmp_path: Path) -> None:
    nowhere = {"CONTAINERD_ADDRESS": str(tmp_path / "none")}
    arguments = ("image", "load", "brand-team", "--k3s", "--builder", "buildah")
    if shutil.which("ctr") is None:
        pytest.skip("containerd is not installed: apt-get install containerd")
    done = machine.run(*arguments, cwd=project, **nowhere)
    assert done.returncode == 1
    assert "error: brand-team:0.1.0 could not be loaded into the containerd of this machine: " in done.stderr


def test_one_place_is_named_and_no_more() -> None:
    for target in ({}, {"kind": "dev", "k3s": True}, {"kind": "dev", "ssh": "ada@node-1"}):
        with pytest.raises(BadInput, match="name one place to load into"):
            Target(**target)


@pytest.mark.parametrize("host", ["-oProxyCommand=touch x", "ada@-x", "node-1;id", "ada@node 1", "ada@$(id)"])
def test_a_host_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(BadInput, match="is no USER@HOST"):
        Target(ssh=host)
