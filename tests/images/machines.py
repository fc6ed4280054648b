"""A buildah with a storage of its own, a base image made of this machine's Python, and registries on loopback."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pip

__all__ = ["INSTALL", "buildah_environment", "buildah_says", "machine_base", "programs", "registry"]

INSTALL = "install them: apt-get install buildah docker-registry"

_TOOLS = ("sh", "cat", "cp", "env", "ls", "mkdir", "rm")
_NAME_SERVICES = ("libnss_dns.so.2", "libnss_files.so.2", "libresolv.so.2")
_LEFT_OUT = shutil.ignore_patterns(
    "__pycache__", "test", "tests", "idlelib", "tkinter", "ensurepip", "*-packages", "*.a"
)


def programs() -> str:
    """What keeps the tests of images from running here; empty where nothing does."""
    missing = [name for name in ("buildah", "docker-registry") if shutil.which(name) is None]
    if missing:
        return f"{' and '.join(missing)} not here; {INSTALL}"
    if sys.platform != "linux" or os.geteuid() != 0:
        return "images are built and started by root of a Linux machine here"
    return ""


def buildah_environment(place: Path) -> dict[str, str]:
    """Variables that give buildah, and what it builds with, a storage below `place`."""
    for driver in ("overlay", "vfs"):
        configuration = place / f"{driver}.conf"
        configuration.write_text(
            f'[storage]\ndriver = "{driver}"\ngraphroot = "{place}/{driver}/graph"\nrunroot = "{place}/{driver}/run"\n'
        )
        environment = {"CONTAINERS_STORAGE_CONF": str(configuration), "BUILDAH_ISOLATION": "chroot"}
        if subprocess.run(["buildah", "info"], env={**os.environ, **environment}, capture_output=True).returncode == 0:
            return environment
    raise AssertionError("buildah keeps its images neither by overlay nor by vfs here")


def buildah_says(environment: Mapping[str, str], *arguments: str) -> str:
    """What buildah prints."""
    done = subprocess.run(
        ["buildah", *arguments], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def machine_base(environment: Mapping[str, str], place: Path, name: str) -> None:
    """Make an image of this machine's Python with pip, a shell and what both need; nothing has to be fetched."""
    root = place / "root"
    python = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
    standard = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix}))
    shutil.copytree(standard, root / standard.relative_to("/"), ignore=_LEFT_OUT, symlinks=True)
    asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    shutil.copytree(Path(pip.__file__).parent, root / packages.lstrip("/") / "pip", ignore=_LEFT_OUT)
    tools = [Path(found) for tool in _TOOLS if (found := shutil.which(tool, path="/usr/bin:/bin"))]
    native = [python, *tools, *standard.rglob("*.so")]
    libraries = subprocess.run(["ldd", *map(str, native)], capture_output=True, text=True, check=False).stdout
    wanted = {Path(found) for found in re.findall(r"(/\S+\.so\S*)(?: \(0x| =>)", libraries)}
    wanted |= {path for library in wanted for name in _NAME_SERVICES if (path := library.parent / name).exists()}
    for file in {*wanted, python, *tools}:
        target = root / str(file).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, target)
    for directory in ("bin", "etc", "proc", "sys", "dev", "run", "tmp", "usr/bin"):
        (root / directory).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc" / "group").write_text("root:x:0:\n")
    for directory in ("bin", "usr/bin"):
        for link, target in ((root / directory / "python3", python), (root / directory / "sh", tools[0])):
            if not os.path.lexists(link):
                link.symlink_to(target)
    container = buildah_says(environment, "from", "scratch")
    buildah_says(environment, "copy", "--quiet", container, str(root), "/")
    buildah_says(environment, "config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", container)
    buildah_says(environment, "commit", "--quiet", "--identity-label=false", "--rm", container, name)
    shutil.rmtree(root)


@contextmanager
def registry(place: Path, more: str = "", tls: str = "") -> Generator[str, None, None]:
    """A registry on a free port of loopback, as `127.0.0.1:PORT`; `more` and `tls` are parts of its configuration."""
    place.mkdir(parents=True, exist_ok=True)
    configuration = place / "registry.yml"
    storage = f"storage:\n  filesystem: {{rootdirectory: {place}/data}}\n"
    configuration.write_text(f"version: 0.1\n{storage}{more}http: {{addr: '127.0.0.1:0'{tls}}}\n")
    log = place / "registry.log"
    with log.open("wb") as output:
        process = subprocess.Popen(["docker-registry", "serve", str(configuration)], stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 30
        while not (found := re.search(r"listening on (127\.0\.0\.1:\d+)", log.read_text(errors="replace"))):
            assert process.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < deadline, log.read_text(errors="replace")
            time.sleep(0.02)
        yield found[1]
    finally:
        process.kill()
        process.wait()
