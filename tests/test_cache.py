from __future__ import annotations

import os
from pathlib import Path

import pytest

from elf_sdk.cache import Cache, digest_of
from elf_sdk.settings import cache_directory
from elf_sdk.team.document import read


def filled(directory: Path, **answers: object) -> Path:
    file = directory / "cache" / "a.json"
    cache = Cache(file, "code 1")
    for key, answer in answers.items():
        cache.put(key, answer)
    cache.save()
    return file


def test_what_was_put_is_found_by_the_next_one(tmp_path: Path) -> None:
    file = filled(tmp_path, a={"x": [1, 2.5, None, "ü"]})
    cache = Cache(file, "code 1")
    assert cache.get("a") == {"x": [1, 2.5, None, "ü"]}
    cache.get("a")["x"].append("changed by whoever asked")
    assert cache.get("a") == {"x": [1, 2.5, None, "ü"]}
    assert cache.get("b") is None


def test_nothing_is_found_that_other_code_made(tmp_path: Path) -> None:
    assert Cache(filled(tmp_path, a=1), "code 2").get("a") is None


@pytest.mark.parametrize("damage", ["bit", "cut", "empty", "link", "open to others", "somebody else's"])
def test_what_is_not_as_it_was_written_is_not_believed(damage: str, tmp_path: Path) -> None:
    file = filled(tmp_path, a="true")
    content = file.read_bytes()
    if damage == "bit":
        file.write_bytes(content.replace(b"true", b"talk"))
    elif damage == "cut":
        file.write_bytes(content[:-1])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "link":
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    elif damage == "open to others":
        file.chmod(0o666)
    elif os.geteuid() == 0:
        os.chown(file, 12345, -1)
    else:
        pytest.skip("only root gives files away")
    assert Cache(file, "code 1").get("a") is None


def test_what_nobody_asked_for_is_forgotten_unless_it_is_to_be_kept(tmp_path: Path) -> None:
    file = filled(tmp_path, a=1, b=2)
    keeping = Cache(file, "code 1", keep=True)
    keeping.put("c", 3)
    keeping.save()
    forgetting = Cache(file, "code 1")
    assert (forgetting.get("a"), forgetting.get("c")) == (1, 3)
    forgetting.save()
    last = Cache(file, "code 1")
    assert [last.get(key) for key in "abc"] == [1, None, 3]


def test_it_works_where_nothing_can_be_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (None, Path("/proc/nowhere/a.json"), tmp_path / "file" / "a.json"):
        cache = Cache(place, "code")
        cache.put("a", 1)
        cache.save()
        assert cache.get("a") == 1


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    file = filled(tmp_path, a=1)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert [each.name for each in file.parent.iterdir()] == ["a.json"]


def test_files_that_nobody_wrote_for_long_go(tmp_path: Path) -> None:
    old = filled(tmp_path, a=1).rename(tmp_path / "cache" / "old.json")
    os.utime(old, (0, 0))
    filled(tmp_path, a=1)
    assert not old.exists()


def test_parts_are_not_run_together() -> None:
    assert digest_of("ab", "c") != digest_of("a", "bc") != digest_of("abc")
    assert digest_of("a", b"b") == digest_of(b"a", "b")


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({"ELF_CACHE_DIR": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/elf"),
        ({"XDG_CACHE_HOME": "b", "HOME": "/c"}, "/c/.cache/elf"),
        ({"HOME": "/c"}, "/c/.cache/elf"),
        ({"ELF_CACHE_DIR": "off", "HOME": "/c"}, None),
        ({"HOME": ""}, "/.cache/elf"),
    ],
)
def test_where_it_is(environ: dict[str, str], place: str | None) -> None:
    assert cache_directory(environ) == (Path(place) if place else None)


def test_a_document_that_was_read_before_says_the_same(tmp_path: Path) -> None:
    text = "name: a\nmembers:\n  - role: lead # no\n    is_manager: true\nodd: [.5, 1e3, 0x10, ~, 'no']\n"
    (tmp_path / "team.yaml").write_text(text)
    known = Cache(tmp_path / "cache.json", "code")
    first = read(tmp_path / "team.yaml", "f", known)
    known.save()
    again = read(tmp_path / "team.yaml", "f", Cache(tmp_path / "cache.json", "code"))
    assert again.data == first.data
    assert repr(again.data) == repr(first.data)
    for where in (("name",), ("members", 0, "is_manager"), ("odd", 2), ("gone",)):
        assert again.line(where) == first.line(where)
        assert again.written(where) == first.written(where)


@pytest.mark.parametrize("text", ["name: a\nname: b\n", "budget: .inf\n", "budget: .nan\n", "a: !x b\n"])
def test_a_document_that_json_or_a_reader_would_lose_something_of_is_not_kept(text: str, tmp_path: Path) -> None:
    (tmp_path / "team.yaml").write_text(text)
    known = Cache(tmp_path / "cache.json", "code")
    read(tmp_path / "team.yaml", "f", known)
    known.save()
    assert not (tmp_path / "cache.json").exists()
