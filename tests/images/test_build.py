"""A team's image, built by a real builder with packages of a real index, and started as a cluster starts it."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.images.conftest import Machine

pytestmark = [pytest.mark.xdist_group("images"), pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
TEAM = "engineering-team"
OWN = "iniconfig"
"""A small package that ELF does not need, and the team does."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One team of the examples, with what does not belong into an image beside it."""
    root = tmp_path_factory.mktemp("project")
    team = root / "teams" / TEAM
    shutil.copytree(ROOT / "teams" / TEAM, team, ignore=shutil.ignore_patterns("__pycache__", ".elf"))
    text = (team / "team.yaml").read_text(encoding="utf-8").replace("reports_to: executive-team\n", "")
    (team / "team.yaml").write_text(text, encoding="utf-8")
    (team / "requirements.lock").write_text(locked(OWN), encoding="utf-8")
    (team / ".env").write_text("OPENAI_API_KEY=not-one\n", encoding="utf-8")
    (team / "tests").mkdir()
    (team / "tests" / "test_it.py").write_text("assert True\n", encoding="utf-8")
    return root


def locked(package: str) -> str:
    """A package as our own lock file has it."""
    text = (ROOT / "requirements" / "dev.txt").read_text(encoding="utf-8")
    found = re.search(rf"^{package}==.*\n(?:    --hash.*\n)+", text, re.MULTILINE)
    assert found is not None
    return found[0]


@pytest.fixture(scope="module")
def built(machine: Machine, project: Path) -> dict[str, Any]:
    arguments = ("--builder", "buildah", "--base", machine.base, "--sbom", "sboms", "--json")
    out = machine.elf("image", "build", "--all", *arguments, cwd=project)
    [image] = json.loads(out)["images"]
    assert isinstance(image, dict)
    return image


@pytest.fixture(scope="module")
def root(machine: Machine, built: dict[str, Any]) -> Generator[Path, None, None]:
    """The file system of the image."""
    container = machine.says("from", "--pull-never", built["image"])
    yield Path(machine.says("mount", container))
    machine.says("rm", container)


@pytest.fixture(scope="module")
def configuration(machine: Machine, built: dict[str, Any]) -> dict[str, Any]:
    found = json.loads(machine.says("inspect", "--type", "image", built["image"]))["OCIv1"]
    assert isinstance(found, dict)
    return found


def test_an_image_is_called_by_team_and_version(built: dict[str, Any]) -> None:
    assert built["image"] == f"{TEAM}:0.1.0"
    assert built["id"].startswith("sha256:")
    assert built["extras"] == ["postgres"]
    assert built["locked"] is True


def test_it_starts_as_its_user_on_a_read_only_root_and_answers(root: Path, configuration: dict[str, Any]) -> None:
    with started(root, configuration["config"]) as (address, pid):
        health = httpx.get(f"{address}/health").json()
        assert (health["status"], health["team_name"]) == ("ok", TEAM)
        status = Path(f"/proc/{pid}/status").read_text()
        assert "\nUid:\t10001\t10001\t10001\t10001\n" in status
        assert "\nGid:\t10001\t10001\t10001\t10001\n" in status


def test_what_goes_in_is_the_team_and_nothing_beside_it(root: Path) -> None:
    app = root / "app" / TEAM
    assert sorted(path.name for path in app.iterdir()) == ["__pycache__", "offline.yaml", "team.py", "team.yaml"]
    assert not (root / "build").exists()
    assert not (root / "root" / ".cache").exists()
    # Nothing of the team's is its own to change.
    assert {path.lstat().st_uid for path in (root / "opt" / "elf-sdk").rglob("*")} == {0}


def test_bytecode_is_there_for_every_module_that_is_loaded(root: Path) -> None:
    [packages] = (root / "opt" / "elf" / "lib").glob("python3.*/site-packages")
    for package in (packages / "starlette", root / "opt" / "elf-sdk" / "elf_sdk", root / "app" / TEAM):
        sources = {path.stem for path in package.glob("*.py")}
        compiled = {path.name.partition(".")[0] for path in (package / "__pycache__").glob("*.pyc")}
        assert sources == compiled


def test_the_bill_of_materials_names_what_is_installed(root: Path, project: Path) -> None:
    text = (root / "opt" / "elf-sdk" / "sbom.cdx.json").read_text(encoding="utf-8")
    assert (project / "sboms" / f"{TEAM}-0.1.0.cdx.json").read_text(encoding="utf-8") == text
    document = json.loads(text)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    listed = {(part["name"], part["version"]) for part in document["components"]}
    [packages] = (root / "opt" / "elf" / "lib").glob("python3.*/site-packages")
    installed = {
        (name.replace("_", "-").lower().replace(".", "-"), version)
        for place in (packages, root / "opt" / "elf-sdk")
        for path in place.glob("*.dist-info")
        for name, _, version in [path.name.removesuffix(".dist-info").partition("-")]
    }
    assert listed == installed
    assert {"elf-sdk", "starlette", "psycopg", OWN} <= {name for name, _ in listed}
    assert not {"pip", "crewai", "langgraph"} & {name for name, _ in listed}
    assert all(part["purl"] == f"pkg:pypi/{part['name']}@{part['version']}" for part in document["components"])


def test_labels_say_what_it_is_and_no_setting_holds_a_secret(
    configuration: dict[str, Any], built: dict[str, Any]
) -> None:
    labels = configuration["config"]["Labels"]
    assert labels["org.opencontainers.image.title"] == "Engineering Team"
    assert labels["org.opencontainers.image.version"] == "0.1.0"
    assert labels["org.opencontainers.image.base.name"] == "elf.test/python:1"
    assert "org.opencontainers.image.created" not in labels
    assert not [name for name in labels if not name.startswith("org.opencontainers.image.")]
    assert "pip.conf" not in json.dumps(configuration["config"])
    assert configuration["created"].startswith("1970-01-01T00:00:00")


def test_the_same_files_give_the_same_image(machine: Machine, project: Path, built: dict[str, Any]) -> None:
    (project / "teams" / TEAM / "team.py").touch()
    # With what is kept of the first build, or, where there is time for it, all of it once more.
    anew = ["--no-cache"] if os.environ.get("ELF_TEST_FULL") else []
    arguments = ["--builder", "buildah", "--base", machine.base, "--json", *anew]
    out = machine.elf("image", "build", TEAM, *arguments, cwd=project)
    [again] = json.loads(out)["images"]
    assert again["id"] == built["id"]


@contextmanager
def started(root: Path, config: dict[str, Any]) -> Generator[tuple[str, int], None, None]:
    """The image's process: its own command, user and variables, a read-only root with /data and /tmp, as in a pod."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mounts = [
        f"mount --bind {root} {root}",
        f"mount -o remount,bind,ro {root}",
        f"mount -t tmpfs -o mode=1777 data {root}/data",
        f"mount -t tmpfs -o mode=1777 scratch {root / 'tmp'}",
        f"mount -t proc proc {root}/proc",
    ]
    command = f"cd {config['WorkingDir']} && exec {' '.join(config['Entrypoint'])}"
    script = " && ".join([*mounts, f"exec chroot --userspec={config['User']} {root} /bin/sh -c '{command}'"])
    variables = dict(line.split("=", 1) for line in config["Env"])
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script],
            env={**variables, "PATH": f"{os.environ['PATH']}:{variables['PATH']}", "ELF_PORT": str(port)},
            stdout=log,
            stderr=log,
        )
        try:
            deadline = time.monotonic() + 60
            while not ready(address):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise AssertionError(log.read().decode())
                time.sleep(0.1)
            yield address, process.pid
        finally:
            process.terminate()
            process.wait(30)


def ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz").status_code == 200
    except httpx.HTTPError:
        return False


def test_a_base_that_is_not_there_is_told(machine: Machine, registry_host: str, project: Path) -> None:
    base = f"{registry_host}/python:3.99"
    done = machine.run("image", "build", TEAM, "--builder", "buildah", "--base", base, cwd=project)
    assert done.returncode == 1
    assert f"error: the base image {base} cannot be had: " in done.stderr
    assert "image.base" in done.stderr


def test_an_index_that_does_not_answer_is_told(machine: Machine, project: Path) -> None:
    index = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0", "PIP_FIND_LINKS": ""}
    arguments = ("image", "build", TEAM, "--builder", "buildah", "--base", machine.base, "--no-cache")
    done = machine.run(*arguments, cwd=project, **index)
    assert done.returncode == 1
    assert "error: no package index that pip knows here answers and has " in done.stderr
    assert len(done.stderr.strip().splitlines()) == 3, "with which builder, what is built, and one sentence"
