"""Killed at any write, or with a full disk, a generator leaves the old tree or the new one, never a mixture."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import elf_sdk
from elf_sdk.deploy.package import package
from elf_sdk.errors import Failure
from elf_sdk.files import list_tree
from elf_sdk.team.project import find_project
from tests.deploy.organisations import TEAMS, write_project

KILLED_AT_EACH = """
import os, signal, sys
from pathlib import Path
from elf_sdk import files
from elf_sdk.files import keep_tree, list_tree, staged, swap, tree_lock, write_tree

output, exchange = Path(sys.argv[1]), sys.argv[2] == "True"
if not exchange:
    files._exchange = None
old = {f"a/{n}/x": b"old" * n for n in range(4)} | {"kept/y": b"same", "kept/z": b"same too", "m": b"old"}
new = {f"a/{n}/x": b"new" * n for n in range(1, 5)} | {"kept/y": b"same", "kept/z": b"same too", "m": b"new"}


def generate():
    with tree_lock(output), staged(output) as stage:
        keep_tree(output, stage, ["kept/y", "kept/z"])
        write_tree(stage, {path: content for path, content in new.items() if not path.startswith("kept")})
        swap(stage, output)


def there():
    return {path: (output / path).read_bytes() for path in list_tree(output)} if output.is_dir() else None


WRITES = {"open", "os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir", "os.chmod", "os.utime", "shutil.rmtree"}
seen = set()
for number in range(1, 2000):
    if output.is_dir():
        files._remove(output)
    write_tree(output, old)
    child = os.fork()
    if child == 0:
        count = 0

        def hook(event, arguments):
            global count
            if event in WRITES:
                count += 1
                if count == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        generate()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    found = there()
    if found is None:
        assert not exchange, f"there was no tree after write {number}"
    elif found not in (old, new):
        sys.exit(f"a mixture after write {number}: {sorted(found)}")
    # Whoever comes next repairs what a kill between two renames leaves, and clears the rest away.
    with tree_lock(output):
        pass
    assert there() in (old, new), f"not repaired after write {number}"
    assert sorted(path.name for path in output.parent.iterdir()) == [output.name], number
    seen.add("old" if there() == old else "new")
    if os.WIFEXITED(status):
        assert there() == new
        break
assert seen == {"old", "new"}
print(number)
"""


@pytest.mark.parametrize("exchange", [True, False])
def test_killed_at_each_write_it_leaves_the_old_tree_or_the_new_one(exchange: bool, tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", KILLED_AT_EACH, tmp_path / "place" / "out", str(exchange)],
        env={"PYTHONPATH": str(Path(elf_sdk.__file__).parents[1]), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


def test_a_disk_that_is_full_keeps_what_was_there(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    root = write_project(tmp_path / "project")
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m,mode=0755", "none", disk], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("a small disk needs root, and the right to mount one")
    try:
        package(find_project(root), output=disk / "charts")
        before = {path: (disk / "charts" / path).read_bytes() for path in list_tree(disk / "charts")}
        (disk / "filler").write_bytes(b"\0" * (os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - 65_536))
        write_project(root, {name: {**fields, "purpose": "another"} for name, fields in TEAMS.items()})
        with pytest.raises(Failure, match=r"cannot be written: No space left on device; nothing was replaced"):
            package(find_project(root), output=disk / "charts")
        assert {path: (disk / "charts" / path).read_bytes() for path in list_tree(disk / "charts")} == before
        assert sorted(path.name for path in disk.iterdir()) == ["charts", "filler"]
        (disk / "filler").unlink()
        assert len(package(find_project(root), output=disk / "charts").drifted) == len(TEAMS)
    finally:
        subprocess.run(["umount", disk], check=True)
