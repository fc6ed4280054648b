"""Answers kept between runs in the user's own cache directory, found by the content that they were computed from.

    with Cache.opened("documents", str(root), made_by) as cache:
        answer = cache.get(key)             # key: a digest of everything that the answer depends on
        cache.put(key, answer)              # what JSON can hold

It may be deleted at any time. What is not as it was written, was written by somebody else or by another version of the
code is not read: a cache can be missing, but it cannot be wrong.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache as once
from pathlib import Path
from typing import Any, Final, Self

import orjson

from elf_sdk.settings import cache_directory

__all__ = ["Cache", "code_digest", "digest_of"]

_OLD_SECONDS: Final = 30 * 86_400.0
"""A file that nobody wrote for so long belongs to a project that is gone, or that never changes."""
_MOST_BYTES: Final = 256 << 20


def digest_of(*parts: bytes | str) -> str:
    """SHA-256 of `parts`, in hexadecimal; two lists of parts have the same digest only if they are the same list."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(b"%d:" % len(content))
        digest.update(content)
    return digest.hexdigest()


@once
def code_digest() -> str:
    """SHA-256 of this package's own source and of the Python that runs it: what else an answer depends on."""
    root = Path(__file__).parent
    parts: list[bytes | str] = [sys.version]
    for directory, directories, files in os.walk(root):
        directories[:] = sorted(name for name in directories if name != "__pycache__")
        for name in sorted(files):
            if name.endswith(".py"):
                path = os.path.join(directory, name)  # noqa: PTH118 - hundreds of files at each start
                parts.append(path[len(str(root)) :])
                with open(path, "rb") as file:  # noqa: PTH123 - as above
                    parts.append(file.read())
    return digest_of(*parts)


class Cache:
    """The answers to one kind of question about one place, such as the documents of one project.

    Args:
        file: where they are kept; None: nowhere, and nothing is ever found.
        made_by: digest of what made the answers besides their keys; others are not read.
        keep: also what was not asked for; otherwise that is forgotten.
    """

    def __init__(self, file: Path | None, made_by: str, *, keep: bool = False) -> None:
        self._file = file
        self._keep = keep
        self._made_by = made_by
        self._old: Mapping[str, str] = {} if file is None else _read(file, made_by)
        self._used: dict[str, str] = {}

    @classmethod
    @contextmanager
    def opened(cls, kind: str, place: str, *made_by: str, keep: bool = False) -> Iterator[Self]:
        """The cache of `kind` about `place`, written at the end, if there is no error.

        Args:
            kind: a word for the kind of question.
            place: what it is about, such as an absolute path.
            made_by: versions of what makes the answers, besides this package's own code.
            keep: as of the class.
        """
        directory = cache_directory()
        file = directory and directory / f"{kind}-{digest_of(place)[:32]}.json"
        cache = cls(file, digest_of(code_digest(), *made_by), keep=keep)
        yield cache
        cache.save()

    def get(self, key: str) -> Any:
        """The answer, each time made anew; None where there is none."""
        answer = self._used.get(key) or self._old.get(key)
        if answer is None:
            return None
        self._used[key] = answer
        return orjson.loads(answer)

    def put(self, key: str, answer: object) -> None:
        """Keep `answer`, of which JSON must give back the same."""
        self._used[key] = orjson.dumps(answer).decode()

    def save(self) -> None:
        """Write what is to be kept, if that changed.

        A directory that cannot be written is no error: then the next run works without.
        """
        answers = {**self._old, **self._used} if self._keep else self._used
        if self._file is None or answers == self._old:
            return
        content = orjson.dumps({"made_by": self._made_by, "answers": answers})
        with suppress(OSError):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = self._file.with_name(f".{self._file.stem}-{os.getpid()}-{time.monotonic_ns()}.new")
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
                new.replace(self._file)
            except BaseException:
                with suppress(OSError):
                    new.unlink()
                raise
            _forget_old(self._file.parent)


def _read(file: Path, made_by: str) -> Mapping[str, str]:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            # What somebody else could write proves nothing.
            mine = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022
            if not mine or status.st_size > _MOST_BYTES:
                return {}
            checksum, _, content = stream.read().partition(b"\n")
        if hashlib.sha256(content).hexdigest().encode() != checksum:
            return {}
        body = orjson.loads(content)
    except (OSError, ValueError):
        return {}
    answers: Mapping[str, str] = body["answers"] if body["made_by"] == made_by else {}
    return answers


def _forget_old(directory: Path) -> None:
    oldest = time.time() - _OLD_SECONDS
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.endswith((".json", ".new")) and entry.stat(follow_symlinks=False).st_mtime < oldest:
                with suppress(OSError):
                    os.unlink(entry.path)  # noqa: PTH108 - as the entry names it
