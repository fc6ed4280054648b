"""`images.lock.yaml` as a push and a promotion write it."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from elf_sdk.deploy.images import read_digests, write_digest
from elf_sdk.errors import BadInput
from elf_sdk.team.organisation import Organisation

OLD = "sha256:" + "0" * 64
NEW = "sha256:" + "1" * 64


def written(directory: Path, text: str, environment: str) -> str:
    file = directory / "images.lock.yaml"
    file.write_bytes(text.encode())
    assert write_digest(directory, Organisation(), environment, NEW)
    return file.read_bytes().decode()


def test_the_first_one_makes_the_file(tmp_path: Path) -> None:
    assert write_digest(tmp_path, Organisation(), "dev", NEW)
    assert (tmp_path / "images.lock.yaml").read_text() == f"dev: {NEW}\n"
    assert read_digests(tmp_path, Organisation()) == {"dev": NEW}


def test_what_it_says_already_is_not_written_again(tmp_path: Path) -> None:
    file = tmp_path / "images.lock.yaml"
    file.write_text(f"dev: {NEW}\n")
    before = file.stat()
    assert not write_digest(tmp_path, Organisation(), "dev", NEW)
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"# Ours.\ndev: {OLD}  # since May\n\nprod: {OLD}\n", f"# Ours.\ndev: {NEW}  # since May\n\nprod: {OLD}\n"),
        (f"prod: {OLD}\r\ndev: '{OLD}'\r\n", f"prod: {OLD}\r\ndev: {NEW}\r\n"),
        (f'"dev" : "{OLD}"', f'"dev" : {NEW}\n'),
        (f"prod: {OLD}\n", f"dev: {NEW}\nprod: {OLD}\n"),
        (f"---\nstaging: {OLD}\n# end\n", f"---\ndev: {NEW}\nstaging: {OLD}\n# end\n"),
    ],
)
def test_every_other_line_stays(tmp_path: Path, text: str, expected: str) -> None:
    assert written(tmp_path, text, "dev") == expected


def test_an_environment_stands_behind_those_before_it(tmp_path: Path) -> None:
    assert written(tmp_path, f"dev: {OLD}\nprod: {OLD}\n", "staging") == f"dev: {OLD}\nstaging: {NEW}\nprod: {OLD}\n"


@pytest.mark.parametrize(
    "text",
    [
        f"dev: {OLD}\nproduction: {OLD}\n",
        "dev: latest\n",
        f"<<<<<<< ours\ndev: {OLD}\n=======\ndev: {NEW}\n>>>>>>> theirs\n",
        f"dev: {OLD}\ndev: {OLD}\n",
        f"{{dev: {OLD}, prod: {OLD}}}\n",
        f"dev:\n  {OLD}\n",
        "",
    ],
)
def test_a_file_that_is_not_understood_is_left_alone(tmp_path: Path, text: str) -> None:
    file = tmp_path / "images.lock.yaml"
    file.write_text(text)
    with pytest.raises(BadInput, match=r"images\.lock\.yaml"):
        write_digest(tmp_path, Organisation(), "dev", NEW)
    assert file.read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["images.lock.yaml"]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text(f"dev: {OLD}\n")
    (tmp_path / "images.lock.yaml").symlink_to("other")
    with pytest.raises(BadInput, match="is a link"):
        write_digest(tmp_path, Organisation(), "dev", NEW)
    assert (tmp_path / "other").read_text() == f"dev: {OLD}\n"


def test_a_digest_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is no digest"):
        write_digest(tmp_path, Organisation(), "dev", "latest")


def test_a_disk_that_is_full_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "images.lock.yaml"
    file.write_text(f"dev: {OLD}\n")
    code = (
        "from pathlib import Path\n"
        "from elf_sdk.deploy.images import write_digest\n"
        "from elf_sdk.errors import Failure\n"
        "from elf_sdk.team.organisation import Organisation\n"
        f"try: write_digest(Path({str(tmp_path)!r}), Organisation(), 'dev', {NEW!r})\n"
        "except Failure as failure: print(failure)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip().endswith("cannot be written: File too large; it is as it was")
    assert file.read_text() == f"dev: {OLD}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["images.lock.yaml"]
