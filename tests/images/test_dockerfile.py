"""The Dockerfile of a team, and what people wrote in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from elf_sdk.deploy.image.dockerfile import dockerfile
from tests.deploy.organisations import spec
from tests.images.conftest import Machine

HOSTILE = (
    'a "quoted" word',
    "back\\slash and a last one\\",
    "$HOME ${PATH} $(id) `id`",
    "two\nlines\r\nRUN touch /owned",
    "# no comment",
    "<<EOF",
    "x=y z='1'",
    "ünïcødé 漢字 🦊",
    "{braces} {{ .Values }} {0}",
    "trailing space ",
)


def test_the_same_team_gives_the_same_bytes() -> None:
    labels = {"b": "2", "a": "1"}
    assert dockerfile(spec(), labels) == dockerfile(spec(), dict(sorted(labels.items())))


def test_the_base_is_an_argument_with_its_registry_written_out() -> None:
    text = dockerfile(spec(image={"base": "python:3.12-slim"}), {"a": "b"}).decode()
    assert "ARG BASE=docker.io/library/python:3.12-slim\n" in text
    assert text.count("\nFROM ${BASE}") == 2


def test_packages_are_installed_by_hash_and_as_wheels_only() -> None:
    text = dockerfile(spec(), {"a": "b"}, own=True).decode()
    assert "--only-binary :all:" in text
    assert "--require-hashes \\\n    -r /build/requirements.txt -r /build/team.txt " in text


def test_unlocked_packages_come_after_the_locked_ones_and_change_none() -> None:
    text = dockerfile(spec(), {"a": "b"}, own=True, locked=False).decode()
    locked, unlocked = text.index("--require-hashes"), text.index("--constraint /build/constraints.txt")
    assert locked < unlocked
    assert "-r /build/team.txt" not in text[locked:unlocked]


@pytest.mark.xdist_group("images")
def test_hostile_text_in_a_label_is_text(machine: Machine, tmp_path: Path) -> None:
    labels = {f"label.{number}": text for number, text in enumerate(HOSTILE)}
    written = next(
        part for part in dockerfile(spec(), labels).decode().split("\n\n")[-1].split("USER") if "LABEL" in part
    )
    (tmp_path / "Dockerfile").write_text(f"FROM {machine.base}\n{written[written.index('LABEL') :]}", encoding="utf-8")
    machine.says("build", "--quiet", "--tag", "elf.test/labels:1", str(tmp_path))
    config = json.loads(machine.says("inspect", "--type", "image", "elf.test/labels:1"))["OCIv1"]["config"]
    assert {name: config["Labels"][name] for name in labels} == {
        name: " ".join(text.split()) for name, text in labels.items()
    }
