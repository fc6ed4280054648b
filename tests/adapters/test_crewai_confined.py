"""CrewAI sends nothing to anybody but the model, and writes where it may and nowhere else."""

import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import orjson
import pytest

ROOT = Path(__file__).parents[2]
OTHER = 54321
"""A user id without an entry in passwd."""
PACKAGES = os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")])
SYSTEMS = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"


def _run(directory: Path, environ: dict[str, str], python: str = sys.executable, **more: Any) -> dict[str, Any]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CREWAI", "OTEL", "XDG"))}
    kept.pop("HOME", None)
    done = subprocess.run(
        [python, "-m", "tests.adapters.crewai_confined"],
        cwd=directory,
        env=kept | {"PYTHONPATH": PACKAGES} | environ,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=110,
        **more,
    )
    assert done.returncode == 0, done.stderr.decode()
    report: dict[str, Any] = orjson.loads(done.stdout)  # and so nothing else was printed
    assert report["said"] == ["Confined.", "Flowing Hello"]
    assert report["connected"] == ["127.0.0.1"]
    assert report["threads"] == ["MainThread"]
    assert not report["memory"]
    return report


def test_files_are_kept_in_the_teams_own_directory(tmp_path: Path) -> None:
    team, home, temporary = (tmp_path / name for name in ("team", "home", "temporary"))
    for directory in (team, home, temporary):
        directory.mkdir()
    report = _run(team, {"HOME": str(home), "TMPDIR": str(temporary)})
    storage = team / ".elf" / "crewai"
    assert report["storage"] == str(storage)
    credentials = home / ".local/share/crewai"
    outside = [
        path for path in map(Path, report["written"]) if not path.is_relative_to(storage) and path != storage.parent
    ]
    # Python tries once whether it can write where temporary files go.
    assert [path for path in outside if not path.is_relative_to(home) and path.parent != temporary] == []
    assert not list(temporary.iterdir())
    # The key of CrewAI's own platform, made when it is imported, and nothing of what was asked or answered.
    assert {path.name for path in credentials.rglob("*") if path.is_file()} == {"secret.key"}
    assert not list(storage.rglob("*"))


def _runs_for_others(python: str) -> bool:
    try:
        tried = subprocess.run(
            [python, "-c", "import elf_sdk, crewai_core"],
            cwd="/",
            env={"PYTHONPATH": PACKAGES, "PYTHONDONTWRITEBYTECODE": "1"},
            user=OTHER,
            group=OTHER,
            extra_groups=[],
            capture_output=True,
            check=False,
        )
    except OSError:
        return False
    return tried.returncode == 0


def test_any_user_id_without_a_home_on_what_cannot_be_written(tmp_path_factory: pytest.TempPathFactory) -> None:
    if os.getuid() != 0:
        pytest.skip("only root may start a process as another user")
    python = next(filter(_runs_for_others, (sys.executable, SYSTEMS)), None)
    if python is None:
        pytest.skip("no Python of this version that another user may run, or the checkout is not readable")
    with tempfile.TemporaryDirectory() as name:
        temporary = Path(name)
        temporary.chmod(0o777)
        report = _run(
            Path("/"),
            {"HOME": "/nonexistent", "TMPDIR": name},
            python,
            user=OTHER,
            group=OTHER,
            extra_groups=[],
        )
        assert report["uid"] == OTHER
        assert Path(report["storage"]).parent == temporary
        assert all(Path(path).is_relative_to(temporary) for path in report["written"])
        assert not list(temporary.iterdir())
