"""A tree of files written whole or not at all.

    with tree_lock(output):                 # one writer at a time; leftovers of a killed one are cleared away
        with staged(output) as stage:       # a hidden directory beside it, on the same file system
            write_tree(stage, files)
            swap(stage, output)             # on the disk first, then one rename: whoever looks sees the old tree or
                                            # the new one

Nothing here follows a symbolic link inside a tree.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import io
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from elf_sdk.errors import BadInput, Failure, Retryable

__all__ = [
    "Drift",
    "compare",
    "holds",
    "keep_tree",
    "list_tree",
    "look_at",
    "read_file",
    "replace_file",
    "staged",
    "swap",
    "tree_lock",
    "write_tree",
]


@dataclass(frozen=True, slots=True)
class Drift:
    """How a tree on disk differs from what it should be; paths relative to it, sorted.

    Attributes:
        added: files that should be there and are not.
        changed: files with other content, and links or directories where a file should be.
        removed: files that are there and should not be.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def list_tree(root: Path) -> Iterator[str]:
    """Every entry below `root` that is no directory, links and empty directories included, as paths relative to it."""
    yield from sorted(look_at(root))


def look_at(root: Path) -> dict[str, os.stat_result]:
    """The status of every entry that `list_tree` gives, by its path; links are not followed."""
    found: dict[str, os.stat_result] = {}
    waiting = [(str(root), "")]
    while waiting:
        directory, prefix = waiting.pop()
        empty = True
        with os.scandir(directory) as entries:
            for entry in entries:
                empty = False
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, f"{prefix}{entry.name}/"))
                else:
                    found[prefix + entry.name] = entry.stat(follow_symlinks=False)
        if empty and prefix:
            found[prefix.rstrip("/")] = os.lstat(directory)
    return found


def compare(files: Mapping[str, bytes], root: Path) -> Drift:
    """How the tree at `root` differs from `files` (content by relative path); a missing `root` is an empty tree."""
    there = look_at(root) if root.is_dir() else {}
    changed = [path for path in sorted(there.keys() & files) if not holds(root, path, files[path])]
    return Drift(tuple(sorted(files.keys() - there)), tuple(changed), tuple(sorted(there.keys() - files)))


def holds(root: Path, path: str, content: bytes) -> bool:
    """Whether the file `path` below `root` is a file, and no link, with this content."""
    return read_file(root, path) == content


def read_file(root: Path, path: str) -> bytes | None:
    """The content of the file `path` below `root`; None where it is absent, a link or no file."""
    try:
        descriptor = os.open(f"{root}/{path}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        return file.readall() if stat.S_ISREG(os.fstat(descriptor).st_mode) else None


def write_tree(root: Path, files: Mapping[str, bytes]) -> None:
    """Write `files` below `root`; modes do not depend on the umask. `swap` sees to it that they are on the disk.

    Raises:
        Failure: a file cannot be written, such as on a full disk.
    """
    directories: set[str] = set()
    path = str(root)
    try:
        for name, content in files.items():
            path = f"{root}/{name}"
            parent = name.rpartition("/")[0]
            if parent not in directories:
                _make_directories(root, parent, directories)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                _write(file, content)
                os.fchmod(descriptor, 0o644)
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}; nothing was replaced") from None


def _write(file: io.FileIO, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]


def replace_file(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Put a file with `content` in the place of `path`, whole, and flushed to the disk.

    Raises:
        Failure: it cannot be written, such as on a full disk; `path` is as it was.
    """
    temporary = path.parent / f".{path.name}.{os.getpid()}.new"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        temporary.replace(path)
        _sync_directory(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise Failure(f"{path} cannot be written: {error.strerror}; it is as it was") from None


def _make_directories(root: Path, parent: str, made: set[str]) -> None:
    """Make `parent` below `root` with all that lead to it, unless they are among those that were made."""
    root.mkdir(parents=True, exist_ok=True)
    path = ""
    for part in ["", *parent.split("/")] if parent else [""]:
        path = f"{path}/{part}" if path else part
        if path not in made:
            where = root / path
            where.mkdir(exist_ok=True)
            where.chmod(0o755)
            made.add(path)


def keep_tree(source: Path, target: Path, paths: Iterable[str]) -> None:
    """Take over `paths` of the tree `source` into `target`: by links to the same content, or else by copies.

    Args:
        source: a tree that is not written any more.
        target: the tree that takes over.
        paths: as `list_tree` gives them.
    """
    made: set[str] = set()
    path = str(source)
    try:
        for name in paths:
            path = f"{source}/{name}"
            parent = name.rpartition("/")[0]
            if parent not in made:
                _make_directories(target, parent, made)
            if stat.S_ISDIR(os.lstat(path).st_mode):
                _make_directories(target, name, made)
            else:
                _link(path, f"{target}/{name}")
    except OSError as error:
        raise Failure(f"{path} cannot be kept: {error.strerror}; nothing was replaced") from None


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


@contextmanager
def tree_lock(output: Path) -> Iterator[None]:
    """Exclude every other writer of `output`, and clear away what a killed one left.

    The lock is a hidden file beside `output`; it is gone afterwards.

    Raises:
        Retryable: another process is writing it.
        BadInput: `output` is a link, no directory, or in a place that cannot be written.
    """
    _require_directory(output)
    lock = _beside(output, "lock")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(lock)
    except BlockingIOError:
        raise Retryable(f"another process is writing {output}; wait until it is done") from None
    except OSError as error:
        raise BadInput(
            f"{output.parent} cannot be written: {error.strerror}; choose another place for {output.name}"
        ) from None
    try:
        _recover(output)
        yield
    finally:
        with suppress(FileNotFoundError):
            lock.unlink()
        os.close(descriptor)


def _locked(lock: Path) -> int:
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The holder before us may have removed the file between our open and our lock.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), lock.lstat()):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _require_directory(output: Path) -> None:
    if output.is_symlink():
        raise BadInput(f"{output} is a link; name the directory itself")
    if output.exists() and not output.is_dir():
        raise BadInput(f"{output} is no directory; choose another place")


def _recover(output: Path) -> None:
    old = _beside(output, "old")
    if old.is_dir() and not output.exists():
        # Killed between the two renames of a system that cannot exchange.
        old.rename(output)
    for leftover in (_beside(output, "new"), old):
        if leftover.is_dir():
            _remove(leftover)


def _beside(output: Path, what: str) -> Path:
    return output.parent / f".{output.name}.{what}"


@contextmanager
def staged(output: Path) -> Iterator[Path]:
    """An empty directory beside `output` in which its next tree is built; what is left of it goes at the end.

    To be used inside `tree_lock(output)`.
    """
    stage = _beside(output, "new")
    try:
        stage.mkdir(mode=0o755)
    except OSError as error:
        raise BadInput(f"{output.parent} cannot be written: {error.strerror}") from None
    try:
        yield stage
    finally:
        if stage.is_dir():
            _remove(stage)


def _remove(tree: Path) -> None:
    try:
        shutil.rmtree(tree)
    except OSError as error:
        raise Failure(f"{tree} cannot be removed: {error}; remove it by hand") from None


def swap(stage: Path, output: Path) -> None:
    """Put `stage` in the place of `output`, whole, once it is on the disk; what was there is removed.

    Linux exchanges the two in one step. Elsewhere there are two renames, and `tree_lock` repairs what a kill between
    them leaves.

    Raises:
        Failure: the system refuses; then `output` is as it was.
    """
    try:
        _flush(stage)
        if not output.exists():
            stage.rename(output)
        elif _exchange is None or not _exchange(stage, output):
            old = _beside(output, "old")
            output.rename(old)
            try:
                stage.rename(output)
            except OSError:
                old.rename(output)
                raise
            old.rename(stage)
        _sync_directory(output.parent)
    except OSError as error:
        reason = "it is a mount point, which cannot be replaced" if error.errno == errno.EBUSY else error.strerror
        raise Failure(f"{output} cannot be replaced: {reason}; it is as it was") from None


def _flush(tree: Path) -> None:
    """Wait until the whole of `tree` is on the disk."""
    files = [f"{tree}/{path}" for path in look_at(tree)]
    if _sync_file_system is not None and len(files) > _MANY:
        _sync_file_system(tree)
        return
    for path in files:
        if not os.path.islink(path) and os.path.isfile(path):  # noqa: PTH113, PTH114 - thousands of entries
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    for directory, _, _ in os.walk(tree, topdown=False):
        _sync_directory(Path(directory))


_MANY: Final = 200
"""Files from which on the whole file system is flushed at once: each file alone waits for the disk's own turn."""


def _linux_syncfs() -> Callable[[Path], None] | None:
    """syncfs(2), where the system has it; from Linux 5.8 on it also says when something could not be written."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        syncfs = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError):
        return None

    def sync(place: Path) -> None:
        descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if syncfs(descriptor) != 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))
        finally:
            os.close(descriptor)

    return sync


_sync_file_system = _linux_syncfs()


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2
_UNSUPPORTED: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EXDEV})


def _linux_exchange() -> Callable[[Path, Path], bool] | None:
    """renameat2(2) with RENAME_EXCHANGE; the function says whether the file system knows it."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None
    rename.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)

    def exchange(one: Path, other: Path) -> bool:
        if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
            return True
        code = ctypes.get_errno()
        if code in _UNSUPPORTED:
            return False
        raise OSError(code, os.strerror(code))

    return exchange


_exchange = _linux_exchange()
