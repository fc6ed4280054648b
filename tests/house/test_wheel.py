"""An installed wheel does what a checkout does: tried in an environment that holds only what it requires."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]

TEAM = """\
format: elf/v1
name: research-team
purpose: Finds things out.
framework: function
members:
  - role: Researcher
    is_manager: true
"""


@pytest.fixture(scope="module")
def elf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command `elf` of a fresh environment with the wheel and the extra `tools`."""
    place = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(place), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=100)
    [wheel] = place.glob("elf_sdk-*.whl")

    venv.create(place / "venv", symlinks=True)
    python = place / "venv" / "bin" / "python"
    uv = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet", "--offline", "--no-deps"]
    subprocess.run([*uv, "--python", str(python), str(wheel)], check=True, capture_output=True)
    [packages] = (place / "venv" / "lib").glob("python3.*/site-packages")
    for needed in _closure(Requirement("elf-sdk[tools]")):
        _link(needed, packages)
    return python.with_name("elf")


def test_the_command_is_there_and_knows_its_version(elf: Path) -> None:
    from elf_sdk import __version__

    assert _run(elf, "--version").stdout.strip() == f"elf, version {__version__}"


def test_a_directory_with_one_team_is_packaged(elf: Path, tmp_path: Path) -> None:
    team = tmp_path / "teams" / "research-team"
    team.mkdir(parents=True)
    (team / "team.yaml").write_text(TEAM, encoding="utf-8")
    done = _run(elf, "package", "--output", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "proven for dev, staging and prod by embedded Helm" in done.stdout
    chart = tmp_path / "out" / "research-team"
    assert {path.name for path in chart.iterdir()} >= {
        "Chart.yaml",
        "charts",
        "values-dev.yaml",
        "values-prod.yaml",
        "values-staging.yaml",
        "values.schema.json",
        "values.yaml",
    }
    # The same as from a checkout, templates included.
    checkout = [sys.executable, "-m", "elf_sdk", "package", "--output", "other"]
    subprocess.run(checkout, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True)
    assert subprocess.run(["diff", "-r", "out", "other"], cwd=tmp_path, check=False).returncode == 0


def test_it_brings_what_images_are_built_from(elf: Path, tmp_path: Path) -> None:
    team = tmp_path / "teams" / "research-team"
    team.mkdir(parents=True)
    (team / "team.yaml").write_text(TEAM, encoding="utf-8")
    (team / "team.py").write_text("", encoding="utf-8")
    done = _run(elf, "image", "build", "--all", "--context", "context", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    context = tmp_path / "context" / "research-team"
    assert (context / "packages" / "requirements.txt").read_text(encoding="utf-8").count("==") > 30
    assert [path.suffix for path in (context / "elf-sdk").iterdir()] == [".whl"]


def test_the_checkout_is_not_what_runs(elf: Path) -> None:
    code = "from elf_sdk.deploy.chart import templates_directory; print(templates_directory())"
    done = _run(elf.with_name("python"), "-c", code)
    assert Path(done.stdout.strip()).is_relative_to(elf.parents[1]), done.stderr


def _run(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    # No checkout, and no Helm of the machine.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"PATH": "/usr/bin:/bin"}
    return subprocess.run(command, cwd=cwd or "/", env=environment, check=False, capture_output=True, text=True)


def _closure(root: Requirement) -> list[Distribution]:
    """The installed distributions that `root` needs, without its own."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()

    def visit(requirement: Requirement) -> None:
        needed = distribution(requirement.name)
        for extra in ("", *requirement.extras):
            if (needed.name, extra) in seen:
                continue
            seen.add((needed.name, extra))
            found.setdefault(needed.name, needed)
            for line in needed.requires or []:
                child = Requirement(line)
                if child.marker is None or child.marker.evaluate({"extra": extra}):
                    visit(child)

    visit(root)
    del found[distribution(root.name).name]
    return list(found.values())


def _link(needed: Distribution, packages: Path) -> None:
    """Put one distribution's files into another environment without copying or fetching them."""
    for file in needed.files or []:
        if ".." not in file.parts and file.suffix != ".pyc":
            target = packages / file
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                target.symlink_to(Path(str(file.locate())).resolve())
