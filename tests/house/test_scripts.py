"""Setting up says what is missing in one sentence, and costs nothing where nothing changed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ["bash", "cat", "cksum", "dirname", "grep"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout without `.venv`, and beside it `bin/` with all that is on the PATH: no Python yet."""
    place = tmp_path / "a checkout"
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found, f"{tool} is not installed"
        (tmp_path / "bin" / tool).symlink_to(found)
    shutil.copytree(ROOT / "scripts", place / "scripts")
    shutil.copytree(ROOT / "requirements", place / "requirements")
    shutil.copy(ROOT / "pyproject.toml", place)
    return place


@pytest.mark.parametrize("script", ["install", "check", "test", "demo"])
def test_a_machine_without_a_fit_python_is_told_so(checkout: Path, script: str) -> None:
    _python(checkout, "exit 1")
    done = _run(checkout, script)
    assert done.returncode == 1
    assert done.stderr.startswith("error: there is no Python 3.11, 3.12 or 3.13; install one (apt-get install python3 ")
    assert not (checkout / ".venv").exists()


def test_a_python_without_venv_is_told_what_to_install(checkout: Path) -> None:
    _python(checkout, f'case "$*" in *ensurepip*) exit 1 ;; esac; exec "{sys.executable}" "$@"')
    done = _run(checkout, "install")
    assert done.returncode == 1
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert done.stderr.endswith(f"apt-get install python{version}-venv\n")
    assert done.stderr.count("\n") == 1


def test_an_unknown_set_is_refused(checkout: Path) -> None:
    done = _run(checkout, "install", "everything")
    assert (done.returncode, done.stderr) == (2, "error: scripts/install takes dev or demo, not 'everything'\n")


def test_nothing_is_done_where_nothing_changed() -> None:
    if not (ROOT / ".venv" / "installed").exists() or not Path(sys.prefix).samefile(ROOT / ".venv"):
        pytest.skip("the tests run from another environment than .venv")
    begin = time.monotonic()
    done = subprocess.run([ROOT / "scripts" / "install", "demo"], cwd="/", check=True, capture_output=True, text=True)
    assert time.monotonic() - begin < 0.3
    assert done.stdout + done.stderr == ""


def _python(checkout: Path, body: str) -> None:
    path = checkout.parent / "bin" / "python3"
    path.write_text(f"#!{shutil.which('bash')}\n{body}\n", encoding="utf-8")
    path.chmod(0o755)


def _run(checkout: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(checkout.parent / "bin"), "HOME": str(checkout.parent)}
    command = [str(checkout.parent / "bin" / "bash"), str(checkout / "scripts" / script), *arguments]
    return subprocess.run(command, cwd="/", env=environment, check=False, capture_output=True, text=True)
